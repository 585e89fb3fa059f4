"""The images that a run was trained on: found again, and checked to be the same ones.

A split is an order of the images, so that one file more or less would turn training images into test images. So a run
and its model keep where the images lay and a hash of each part, and nothing measures a model on others by mistake.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaebm.data import DataError, Splits, load_splits
from vaebm.recipes import Config

PARTS = ("training", "selection", "calibration", "test")


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


def known_splits(config: Config, known: Mapping[str, Any], accepts_others: bool = False) -> Splits:
    """Reads the images of a run again.

    Arguments:
        config: Its configuration.
        known: What ``fingerprint`` returned of them; empty for a run of before that was kept.
        accepts_others: Whether other images in their place will do.

    Raises:
        DataError: If they can't be read, or aren't those that the run was trained on.
    """
    data, path = config.data, str(known.get("path", ""))
    source = path if path and Path(path).exists() else data.source
    splits = load_splits(source, data.split_seed, data.preprocessing, data.strict)
    expected = known.get("sha256", {})
    if not expected or accepts_others:
        return splits
    found = fingerprint(splits, source)["sha256"]
    changed = [name for name in PARTS if found[name] != expected.get(name)]
    if changed:
        raise DataError(
            f"{source} doesn't hold the images of the training any more (the {changed[0]} split differs): expected the "
            "same files in the same places; put them back, or train anew"
        )
    return splits
