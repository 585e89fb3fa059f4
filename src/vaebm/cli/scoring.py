"""The page of ``vaebm score``: where scored images meet the model's own images, baselines and explanations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.applications import OutlierScores, heat_maps, nearest_normal
from vaebm.checkpoint import write_bytes
from vaebm.cli.decision import Decider
from vaebm.cli.evaluation import scores_of
from vaebm.cli.known_images import known_splits
from vaebm.cli.progress import Console
from vaebm.data import DataError, defect_sets, evenly_spaced, load_images, to_float, to_uint8
from vaebm.evaluation import Baselines, Comparison, Judge, baseline_scores, compare_scores, fit_baselines
from vaebm.metrics import conformal_p_values
from vaebm.recipes import Config, ExtraError, LoadedModel, config_class, from_dict, load_extractor
from vaebm.reports.scores import ImageRow, ScorePage, render_scores

MOST_SHOWN, MOST_REFERENCE, MOST_CALIBRATION, MOST_SPOILT = 200, 2000, 500, 200
FEWEST_REFERENCE, FEWEST_CALIBRATION, FEWEST_SPOILT = 10, 10, 10
SEED, SEVERITY = 2023, 0.5


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """Scored images: their source, uint8 (N, C, H, W), paths, scores and p-values (N,)."""

    source: str
    images: NDArray[np.uint8]
    paths: Sequence[str]
    scores: OutlierScores
    p_values: Tensor


class NormalImages(NamedTuple):
    """Normal images, each uint8 (n, C, H, W) or None, and where they come from.

    Arguments:
        reference: What baselines look at.
        calibration: What their p-values rest on.
        held_out: What defects are made of.
        notes: Sentences for the page.
    """

    reference: Tensor | None
    calibration: Tensor | None
    held_out: Tensor
    notes: list[str]


def write_page(path: Path, decider: Decider, scored: ScoredSet, given: NormalImages | None = None) -> None:
    """Measures what the page of scored images shows, and writes it.

    Arguments:
        path: Where to; written whole or not at all.
        decider: The model, and the rate to decide at.
        scored: The images and their scores.
        given: Normal images to use in place of the model's own, if any.
    """
    tell, loaded, rate = Console().tell, decider.loaded, decider.rate
    normal = given or find_normal_images(loaded, scored, rate)
    order = sorted(
        range(len(scored.paths)), key=lambda i: (float(scored.p_values[i]), -float(scored.scores.outlier_score[i]))
    )[:MOST_SHOWN]
    shown = torch.from_numpy(scored.images[order])
    notes, extractor = [*normal.notes, *_shared(scored.images, normal)], None
    if normal.reference is not None:
        extractor = _extractor(notes)
        tell(f"baselines: {len(normal.reference)} normal images{', ImageNet features' if extractor else ''}")
    baselines = None if normal.reference is None else fit_baselines(normal.reference, extractor)
    values = _all_scores(loaded, baselines, shown)
    p_values = {**_chances(loaded, baselines, normal.calibration, values), "joint": scored.p_values[order]}
    comparison = _compare(loaded, baselines, normal.held_out, notes, tell)
    tell(f"heat maps and nearest normal images of {len(shown)} images")
    heat, level = _heat(loaded, shown, normal.held_out)
    near = nearest_normal(loaded.model, to_float(shown), generator=torch.Generator().manual_seed(SEED))
    rows = _rows(scored, order, values, p_values, rate)
    page = ScorePage(
        model=str(loaded.folder),
        source=scored.source,
        rate=rate,
        num_images=len(scored.paths),
        num_outliers=int((scored.p_values <= rate).sum()),
        rows=rows,
        images=shown.numpy(),
        heat=heat.numpy(),
        heat_level=level,
        nearest=to_uint8(near),
        comparison=comparison,
        notes=notes,
    )
    write_bytes(path, render_scores(page).encode("utf-8", "backslashreplace"))


def find_normal_images(loaded: LoadedModel, scored: ScoredSet, rate: float) -> NormalImages:
    """Finds normal images: those that the model was trained on, else the scored ones that aren't flagged."""
    try:
        config: Config = from_dict(config_class(loaded.details["config"]), loaded.details["config"])
        data, splits = config.data, known_splits(config, loaded.details.get("images", {}))
        if splits.training.shape != loaded.model.image_shape:
            raise DataError(f"{data.source} holds images of another shape")
    except (DataError, KeyError, ValueError) as error:
        reason = "the model doesn't say what they are" if isinstance(error, KeyError) else str(error)
        return _presumed(scored, rate, reason)
    parts = [_few(part.images, most) for part, most in (
        (splits.training, MOST_REFERENCE), (splits.calibration, MOST_CALIBRATION), (splits.test, MOST_SPOILT),
    )]  # fmt: skip
    note = (
        f"Normal images are those of {data.source}: {len(parts[0]):,} training images for the baselines, "
        f"{len(parts[1]):,} of the calibration split for p-values, {len(parts[2]):,} of the test split for defects."
    )
    return NormalImages(parts[0], parts[1], parts[2], [note])


def read_reference(loaded: LoadedModel, reference: str) -> NormalImages:
    """Reads normal images to use in place of the model's own.

    Raises:
        DataError: If they can't be read, or are too few.
    """
    channels, height, width = loaded.model.image_shape
    images = load_images(reference, (channels, height, width), loaded.preprocessing).images
    least = FEWEST_REFERENCE + FEWEST_CALIBRATION + FEWEST_SPOILT
    if len(images) < least:
        raise DataError(f"--reference {reference}: holds {len(images)} images: expected at least {least}")
    if bool((images == images[:1]).all()):
        raise DataError(f"--reference {reference}: holds copies of one image: expected different normal images")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED)).numpy()
    num_spoilt = min(max(FEWEST_SPOILT, len(images) // 4), MOST_SPOILT)
    num_calibration = min(max(FEWEST_CALIBRATION, len(images) // 4), MOST_CALIBRATION)
    spoilt, calibration, rest = np.split(images[order], [num_spoilt, num_spoilt + num_calibration])
    note = (
        f"Normal images are those of {reference}, at random {min(len(rest), MOST_REFERENCE):,} for the baselines, "
        f"{num_calibration:,} for p-values, {num_spoilt:,} for defects. If the model was trained on them, they flatter "
        "its own scores."
    )
    return NormalImages(_few(rest, MOST_REFERENCE), _few(calibration, len(images)), _few(spoilt, len(images)), [note])


def _presumed(scored: ScoredSet, rate: float, reason: str) -> NormalImages:
    normal = scored.images[(scored.p_values > rate).numpy()]
    note = (
        f"The model's training images can't be found ({reason}), so that there are no baselines: give normal images by "
        f"--reference. Defects are made of the {min(len(normal), MOST_SPOILT):,} scored images that aren't flagged, "
        "presumed to be normal; that they aren't flagged flatters the joint."
    )
    return NormalImages(None, None, _few(normal, MOST_SPOILT), [note])


def _shared(images: NDArray[np.uint8], normal: NormalImages) -> list[str]:
    """Returns a note if scored images are among the normal ones."""
    known = {image.tobytes() for part in normal[:2] if part is not None for image in part.numpy()}
    count = sum(image.tobytes() in known for image in images)
    if not count:
        return []
    return [
        f"{count:,} of the scored images are among these normal images: what they are compared with holds themselves, "
        "which flatters them."
    ]


def _few(images: NDArray[np.uint8], most: int) -> Tensor:
    """Returns at most so many images, evenly spaced."""
    return torch.from_numpy(images[evenly_spaced(len(images), most)])


def _extractor(notes: list[str]) -> Judge | None:
    try:
        return load_extractor()
    except ExtraError as error:
        notes.append(f"Baselines on features are left out: {error}.")
        return None


def _all_scores(loaded: LoadedModel, baselines: Baselines | None, images: Tensor) -> dict[str, Tensor]:
    """Returns every score (N,) of images, uint8, by name; higher = outlier."""
    assert loaded.calibration is not None
    scores = scores_of(loaded.model, to_float(images), loaded.calibration)
    ours = {"joint": scores.outlier_score, "energy": scores.energy, "ELBO": -scores.elbo}
    return {**ours, **(baseline_scores(baselines, images) if baselines is not None else {})}


def _chances(
    loaded: LoadedModel, baselines: Baselines | None, calibration: Tensor | None, values: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Returns the p-values of every score, by the calibration images; none without these."""
    if calibration is None:
        return {}
    of_normal = _all_scores(loaded, baselines, calibration)
    return {name: conformal_p_values(of_normal[name], column) for name, column in values.items()}


def _compare(
    loaded: LoadedModel, baselines: Baselines | None, held_out: Tensor, notes: list[str], tell: Callable[[str], None]
) -> Comparison | None:
    if len(held_out) < FEWEST_SPOILT:
        notes.append(
            f"{len(held_out)} normal images are too few to compare scores on defects: expected {FEWEST_SPOILT}."
        )
        return None
    tell(f"scoring defects of {len(held_out)} normal images")
    generator = torch.Generator().manual_seed(SEED)
    spoilt = defect_sets(held_out, generator, SEVERITY)
    scores = {kind: _all_scores(loaded, baselines, images) for kind, images in spoilt.items()}
    return compare_scores(_all_scores(loaded, baselines, held_out), scores, generator=generator)


def _heat(loaded: LoadedModel, shown: Tensor, held_out: Tensor) -> tuple[Tensor, float]:
    """Returns heat maps (N, H, W), and a heat that hardly any normal image exceeds."""
    assert loaded.calibration is not None
    seed, count = loaded.calibration["seed"], loaded.calibration["num_posterior_samples"]

    def heat_of(images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return heat_maps(loaded.model, to_float(images), generator=generator, num_posterior_samples=count).cpu()

    found = heat_of(shown)
    normal = heat_of(held_out[:50]) if len(held_out) else found
    return found, float(normal.flatten(1).amax(1).quantile(0.95))


def _rows(
    scored: ScoredSet, order: Sequence[int], values: Mapping[str, Tensor], p_values: Mapping[str, Tensor], rate: float
) -> list[ImageRow]:
    rows = []
    for place, index in enumerate(order):
        figures = {name: float(column[place]) for name, column in values.items()}
        # As in the csv: the joint and the ELBO keep their own sense.
        figures |= {"joint": -figures["joint"], "ELBO": -figures["ELBO"]}
        chances = {name: float(column[place]) for name, column in p_values.items()}
        rows.append(ImageRow(scored.paths[index], bool(scored.p_values[index] <= rate), figures, chances))
    return rows
