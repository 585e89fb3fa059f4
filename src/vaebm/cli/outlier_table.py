"""``vaebm evaluate MODEL --scores NAME,…``: sets of outliers, and which score knows which of them.

| name | what it is, higher = odd |
|---|---|
| ``joint``, ``energy``, ``elbo`` | the model's own scores: −joint, the energy, −ELBO |
| ``typicality`` | how far the joint lies from the median of the calibration images' |
| ``gradient_norm`` | the norm of the joint's gradient by the pixels |
| ``likelihood_regret`` | what the ELBO gains if its posterior is fitted to the image alone |
| ``complexity_corrected`` | −joint less the nats of the image as a PNG file |
| ``complexity`` | how far the size as a PNG file lies from the median of normal images |
| ``pixel_statistics`` | the Mahalanobis distance of each channel's mean and standard deviation |
| ``knn_pixels``, ``knn_features`` | the distance to the fifth nearest normal image |
| ``mahalanobis_features`` | the Mahalanobis distance of ImageNet features |

What a score knows of normal images comes of the training and calibration splits: no outlier changes the score of
another image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.applications import complexity_corrected, gradient_norms, likelihood_regrets, typicality
from vaebm.cli.evaluation import ranked_rows, scores_of
from vaebm.cli.parsing import UsageError, nearest
from vaebm.data import (
    OUTLIER_SETS,
    Preprocessing,
    Splits,
    evenly_spaced,
    load_images,
    outlier_sets,
    to_float,
    to_uint8,
)
from vaebm.evaluation import Baselines, baseline_scores, fit_baselines, png_bits
from vaebm.models import VAEBM
from vaebm.recipes import ExtraError, LoadedModel, load_extractor
from vaebm.reports.content import OutlierRow

OWN = ("joint", "energy", "elbo", "typicality", "gradient_norm", "likelihood_regret", "complexity_corrected")
BASELINES = {
    "complexity": "complexity",
    "pixel_statistics": "pixel statistics",
    "knn_pixels": "kNN, pixels",
    "knn_features": "kNN, features",
    "mahalanobis_features": "Mahalanobis, features",
}
OF_FEATURES = ("knn_features", "mahalanobis_features")
SCORES = (*OWN, *BASELINES)
NUM_REFERENCE, REGRET_STEPS, MOST_IMAGES = 5000, 100, 1000
FEWEST_REFERENCE = 2


def score_names(words: str) -> tuple[str, ...]:
    """Returns the scores that are named, ``all`` for all of them.

    Raises:
        UsageError: If there is no such score.
    """
    if words == "all":
        return SCORES
    names = tuple(dict.fromkeys(name.strip() for name in words.split(",")))
    for name in names:
        if name not in SCORES:
            raise UsageError(f"--scores {name}: expected all, or some of {', '.join(SCORES)}{nearest(name, SCORES)}")
    return names


def further_outliers(entries: Sequence[str], loaded: LoadedModel, tell: Callable[[str], None]) -> dict[str, Tensor]:
    """Reads sets of outliers, NAME=PATH each, and brings them to the model's form by the path of its own images.

    Returns:
        Images in [−1, 1] by name, (N, C, H, W).

    Raises:
        UsageError: If an entry isn't of that form, or its name is taken.
        DataError: If images can't be read.
    """
    channels, height, width = loaded.model.image_shape
    own = loaded.preprocessing or Preprocessing()
    form = replace(own, image_size=(height, width), channels=channels)
    found = {}
    for name, path in _paths(entries).items():
        found[name] = to_float(load_images(path, (channels, height, width), form).images)
        if form != own:
            tell(f"outliers of {name}: brought to {channels} × {height} × {width} where they have another form")
    return found


def _paths(entries: Sequence[str]) -> dict[str, str]:
    """Returns paths by name; a name that is taken would hide what has it."""
    found, taken = dict[str, str](), dict.fromkeys(OUTLIER_SETS, "is built in")
    for entry in entries:
        name, _, path = entry.partition("=")
        name = name.strip()
        if not name or not path:
            raise UsageError(f"--outliers {entry}: expected NAME=PATH")
        spelled = " ".join(name.split()).lower()
        if spelled in taken:
            raise UsageError(f"--outliers {entry}: a set {spelled} {taken[spelled]}: expected another name")
        found[name], taken[spelled] = path, "is given twice"
    return found


def shared_images(name: str, images: Tensor, splits: Splits) -> str:
    """Says how many outliers are images that the model learned from, or that stand for normal; nothing if none is.

    Raises:
        UsageError: If all of them are.
    """

    def hashes(pictures: Iterable[NDArray[np.uint8]]) -> list[bytes]:
        return [blake2b(picture.tobytes()).digest() for picture in pictures]

    learned, found = set(hashes(splits.training.images)), hashes(to_uint8(images))
    normal = {digest for part in (splits.selection, splits.calibration, splits.test) for digest in hashes(part.images)}
    counts = {
        "that the model learned from": sum(digest in learned for digest in found),
        "of the data set's other splits": sum(digest in normal and digest not in learned for digest in found),
    }
    if sum(counts.values()) == len(found):
        raise UsageError(
            f"--outliers {name}: all of its images are of the data set that the model was trained on: expected others"
        )
    told = [f"{count:,} images {which}" for which, count in counts.items() if count]
    return f"among the {len(found):,} outliers of {name} are {' and '.join(told)}" if told else ""


@dataclass(frozen=True, eq=False)
class Known:
    """What scores know of normal images.

    Arguments:
        model: The VAEBM, in evaluation mode.
        calibration: That of the model: noise and scores of the calibration split.
        names: The scores that are wanted.
        baselines: What those without the model have seen, or None.
        regret_steps: The number of steps of the likelihood regret.
    """

    model: VAEBM
    calibration: Mapping[str, Any]
    names: tuple[str, ...]
    baselines: Baselines | None = None
    regret_steps: int = REGRET_STEPS


def know_normal(
    model: VAEBM,
    calibration: Mapping[str, Any],
    training: NDArray[np.uint8],
    names: Sequence[str],
    tell: Callable[[str], None],
    *,
    num_reference: int = NUM_REFERENCE,
    regret_steps: int = REGRET_STEPS,
) -> Known:
    """Looks at normal images, evenly spaced in the training split; leaves out scores that need a missing extra.

    Raises:
        UsageError: If there are too few images, or no score is left.
    """
    wanted = [name for name in names if name in BASELINES]
    if wanted and len(training) < FEWEST_REFERENCE:
        raise UsageError(f"--scores {wanted[0]}: looks at {len(training)} training images, expected at least 2")
    reference, extractor = torch.from_numpy(training[evenly_spaced(len(training), num_reference)]), None
    if set(names) & set(OF_FEATURES):
        try:
            extractor = load_extractor()
        except ExtraError as error:
            names = [name for name in names if name not in OF_FEATURES]
            tell(f"{' and '.join(OF_FEATURES)} are left out: {error}")
    if not names:
        raise UsageError("--scores: none is left, expected one that needs no extra, such as joint")
    return Known(
        model, calibration, tuple(names), fit_baselines(reference, extractor) if wanted else None, regret_steps
    )


def named_scores(known: Known, images: Tensor) -> dict[str, Tensor]:
    """Returns the scores (N,) of images, uint8 (N, C, H, W), by name; higher = outlier."""
    model, names, values = known.model, known.names, to_float(images)
    found: dict[str, Tensor] = {}
    if set(names) & {"joint", "energy", "elbo", "typicality", "complexity_corrected"}:
        own = scores_of(model, values, known.calibration)
        joint, of_normal = own.joint.cpu(), -torch.tensor(known.calibration["outlier_scores"], dtype=torch.float64)
        found = {"joint": -joint, "energy": own.energy, "elbo": -own.elbo, "typicality": typicality(joint, of_normal)}
        if "complexity_corrected" in names:
            found["complexity_corrected"] = complexity_corrected(joint, png_bits(images))
    if "gradient_norm" in names:
        noise = torch.Generator().manual_seed(known.calibration["seed"])
        found["gradient_norm"] = gradient_norms(model, values, generator=noise)
    if "likelihood_regret" in names:
        noise = torch.Generator().manual_seed(0)
        found["likelihood_regret"] = likelihood_regrets(model, values, generator=noise, num_steps=known.regret_steps)
    if known.baselines is not None:
        cheap = baseline_scores(known.baselines, images)
        found |= {name: cheap[title] for name, title in BASELINES.items() if title in cheap}
    return {name: found[name].cpu() for name in names if name in found}


def rank_named(
    known: Known, splits: Splits, further: Mapping[str, Tensor], count: int, seed: int, tell: Callable[[str], None]
) -> list[OutlierRow]:
    """Ranks scores on the usual sets of outliers, made of test images, and on further ones.

    Arguments:
        known: What scores know of normal images.
        splits: The images; those of the test split are the normal ones.
        further: Sets of outliers in [−1, 1] by name.
        count: How many images of each set are scored, at most; evenly spaced, as sets are often sorted by class.
        seed: The seed of outliers and resamples.
        tell: Is told what goes on.
    """
    generator = torch.Generator().manual_seed(seed)
    test = torch.from_numpy(splits.test.images[evenly_spaced(len(splits.test), count)])
    sets = outlier_sets(to_float(test), generator)
    sets |= {name: images[evenly_spaced(len(images), count)] for name, images in further.items()}
    tell(f"scoring {len(test):,} test images")
    normal, scores = named_scores(known, test), {}
    for kind, images in sets.items():
        tell(f"scoring {len(images):,} images, {kind}")
        scores[kind] = named_scores(known, torch.from_numpy(to_uint8(images)))
    return ranked_rows(normal, scores, generator, tell)
