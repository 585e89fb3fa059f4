"""The images that a run was trained on: found again, and checked to be the same ones.

A split is an order of the images, so that one file more or less would turn training images into test images. So a run
and its model keep where the images lay and a hash of each part, and nothing measures a model on others by mistake.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaebm.checkpoint import CheckpointError
from vaebm.cli.running import Run
from vaebm.data import DataError, Splits, load_splits
from vaebm.recipes import Config, LoadedModel, config_class, from_dict

EARLIER_EVALUATION = "earlier_evaluation.json"
PARTS = ("training", "selection", "calibration", "test")


class ChangedError(DataError):
    """Images aren't those that a run was trained on."""


def config_of(loaded: LoadedModel) -> Config:
    """Returns the configuration of the run that a model of images comes from.

    Raises:
        CheckpointError: If it wasn't trained here, or isn't one of images.
    """
    if "config" not in loaded.details or "density" in loaded.details["config"]:
        raise CheckpointError(f"{loaded.folder} is no model of images that was trained here: expected a run or 'mnist'")
    config: Config = from_dict(config_class(loaded.details["config"]), loaded.details["config"])
    return config


def fingerprint(splits: Splits, source: str) -> dict[str, Any]:
    """Returns what tells images from others: where they lie, and the SHA-256 of each part's bytes in their order."""
    hashes = {}
    for name in PARTS:
        images = getattr(splits, name).images
        digest = hashlib.sha256(repr(images.shape).encode())
        digest.update(images.tobytes())
        hashes[name] = digest.hexdigest()
    path = Path(os.path.expanduser(source))
    return {"path": str(path.resolve()) if path.exists() else "", "sha256": hashes}


def source_of(config: Config, known: Mapping[str, Any]) -> str:
    """Returns where the images of a run are read from: where they lay, or what the configuration says."""
    path = str(known.get("path", ""))
    return path if path and Path(path).exists() else config.data.source


def known_splits(config: Config, known: Mapping[str, Any], accepts_others: bool = False) -> Splits:
    """Reads the images of a run again.

    Arguments:
        config: Its configuration.
        known: What ``fingerprint`` returned of them; empty for a run of before that was kept.
        accepts_others: Whether other images in their place will do.

    Raises:
        DataError: If they can't be read, or aren't those that the run was trained on.
    """
    data, source = config.data, source_of(config, known)
    splits = load_splits(source, data.split_seed, data.preprocessing, data.strict)
    expected = known.get("sha256", {})
    if not expected or accepts_others:
        return splits
    found = fingerprint(splits, source)["sha256"]
    changed = [name for name in PARTS if found[name] != expected.get(name)]
    if changed:
        raise ChangedError(
            f"{source} doesn't hold the images of the training any more (the {changed[0]} split differs): expected the "
            "same files in the same places; put them back, or train anew"
        )
    return splits


def load_splits_of(config: Config, details: Mapping[str, Any], source: str | None = None) -> Splits:
    """Returns the splits that a stored model names.

    Arguments:
        config: Its configuration.
        details: What is stored beside it.
        source: Where its images are now, if not where they were.

    Raises:
        DataError: If they can't be read, or are others than those of the training.
    """
    known = details.get("images", {})
    if source is not None:
        return known_splits(replace(config, data=replace(config.data, source=source)), {**known, "path": ""})
    try:
        return known_splits(config, known)
    except DataError as error:
        moved = "the model names them as they were from where it was trained: say where they are by --source PATH"
        raise DataError(f"{error}; {moved}") from error


def go_on_with_others(run: Run) -> str:
    """Lets a run go on with other images than it began with; what was measured on those doesn't count any more.

    Returns:
        What is to be said of it.
    """
    batches, stage = run.stored.get("batches", {}), run.stored.get("stage", "vae")
    if batches and len(batches["permutation"]) not in (0, len(run.splits.training)):
        # Their order is of no use for another number.
        del run.stored["batches"]
    if stage == "vae":
        run.best_vae = {}
    if stage != "trained":
        run.best = {}
    if run.engine.is_main and run.folder.evaluation.exists():
        run.folder.evaluation.replace(run.folder.path / EARLIER_EVALUATION)
    return (
        f"warning: the images aren't those that the run began with ({len(run.splits.training)} for training now): "
        "among the test and calibration images may be some that it has learned, which flatters every figure"
    )


def with_images(provenance: Mapping[str, Any], images: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the provenance of a run that goes on with images; other ones than before stand beside those."""
    before = provenance.get("images", {})
    if before.get("sha256") in (None, images["sha256"]):
        return dict(provenance)
    return {**provenance, "images": images, "earlier_images": [*provenance.get("earlier_images", []), before]}
