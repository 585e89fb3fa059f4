"""``vaebm evaluate MODEL --fid EXTRACTOR``: FID, KID and IS of samples, by torchmetrics on what an extractor sees."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vaebm.checkpoint import CheckpointError, write_bytes
from vaebm.checkpoint.errors import one_line
from vaebm.cli.chain_looks import watch_chains
from vaebm.cli.evaluation import tell_of_rank, warn_of_judges
from vaebm.cli.parsing import UsageError, nearest
from vaebm.data import Splits, to_float
from vaebm.distributed import Engine
from vaebm.evaluation import Judge, JudgedImages, extract, standard_scores
from vaebm.evaluation.standard_scores import FEWEST, NORMAL
from vaebm.models import VAEBM
from vaebm.recipes import load_extractor, load_inception, load_judges, load_stacked_judges
from vaebm.recipes.config import SamplingConfig
from vaebm.recipes.judges import INCEPTION_SOURCE, INCEPTION_WEIGHTS
from vaebm.reports.content import ErrorFigure, StandardRow

EXTRACTORS = ("classifiers", "efficientnet_lite0", "inception")
CHUNK = 2000
MOST_CACHED = 2 * 2**30
# Goes up whenever the way of images into an extractor changes.
PATH_VERSION = 1


def extractors_of(word: str, source: str, image_shape: Sequence[int], tell: Callable[[str], None]) -> list[Judge]:
    """Returns the extractors that a word names: ``classifiers``, ``efficientnet_lite0`` or ``inception=FILE``.

    Raises:
        UsageError: If there are none for such images.
    """
    name, _, path = word.partition("=")
    if name not in EXTRACTORS or (name == "inception") != bool(path):
        weights = f"its weights, {INCEPTION_WEIGHTS} of {INCEPTION_SOURCE}"
        known = f"classifiers, efficientnet_lite0 or inception=FILE ({weights})"
        raise UsageError(f"--fid {word}: expected {known}{'' if name in EXTRACTORS else nearest(name, EXTRACTORS)}")
    if name == "inception":
        return [load_inception(Path(path).expanduser())]
    if name == "efficientnet_lite0":
        return [load_extractor()]
    judges = load_stacked_judges(image_shape) if source == "stacked_mnist" else load_judges(image_shape)
    if not judges:
        size = " × ".join(map(str, image_shape))
        raise UsageError(f"--fid classifiers: none of the bundled ones takes images of {size}: use efficientnet_lite0")
    warn_of_judges(judges, source, tell)
    return judges


def cache_folder() -> Path:
    """Returns where features of real images are kept: below ``VAEBM_CACHE``, by default ``~/.cache/vaebm``."""
    return Path(os.environ.get("VAEBM_CACHE") or Path.home() / ".cache" / "vaebm").expanduser() / "features"


@dataclass(frozen=True)
class FeatureCache:
    """Features of real images in files, by the hash of images and extractor; a damaged file is made anew.

    What was not used for the longest time is removed when there is more than a limit.

    Arguments:
        folder: Where they lie.
        tell: Is told what goes on.
        most: How many bytes may lie there.
    """

    folder: Path
    tell: Callable[[str], None]
    most: int = MOST_CACHED

    def extract(self, judge: Judge, images: NDArray[np.uint8]) -> JudgedImages:
        """Returns what an extractor sees in images uint8 (N, C, H, W)."""
        content = hashlib.sha256(f"{PATH_VERSION} {judge.sha256} {images.shape} ".encode())
        content.update(np.ascontiguousarray(images).data)
        path = self.folder / f"{content.hexdigest()}.safetensors"
        try:
            found = load_file(path)
            with suppress(OSError):
                # Its time tells when it was used.
                path.touch()
            return JudgedImages(found["features"], found.get("probabilities"))
        except (OSError, SafetensorError, KeyError):
            self.tell(f"{judge.name}: looking at {len(images):,} real images")
        judged = _seen(judge, torch.from_numpy(images))
        tensors = {"features": judged.features}
        if judged.probabilities is not None:
            tensors["probabilities"] = judged.probabilities
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, save(tensors))
            self._shrink(path)
        except (OSError, CheckpointError) as error:
            self.tell(f"features aren't kept in {self.folder} ({one_line(error)}): name another by VAEBM_CACHE")
        return judged

    def _shrink(self, latest: Path) -> None:
        """Removes what was not used for the longest time, but not the latest file, until the rest is in bounds."""
        found = sorted(((path.stat(), path) for path in self.folder.glob("*.safetensors")),
                       key=lambda pair: pair[0].st_mtime)  # fmt: skip
        surplus = sum(facts.st_size for facts, _ in found) - self.most
        for facts, path in found:
            if surplus > 0 and path != latest:
                path.unlink(missing_ok=True)
                surplus -= facts.st_size


def _seen(judge: Judge, images: Tensor) -> JudgedImages:
    """Returns what an extractor sees in images uint8, a part at a time: as floats they would fill the memory."""
    parts = [extract(judge, to_float(part)) for part in torch.split(images, CHUNK)]
    probabilities = [part.probabilities for part in parts if part.probabilities is not None]
    return JudgedImages(
        torch.cat([part.features for part in parts]), torch.cat(probabilities) if probabilities else None
    )


@dataclass(frozen=True)
class Standard:
    """How samples are compared with real images.

    Arguments:
        extractors: What sees them.
        against: The split that they are compared with, ``test`` or ``training``.
        num_samples: How many samples are drawn.
        num_bootstrap: The number of resamples behind an interval.
        seed: The seed of chains, floors, subsets and resamples.
    """

    extractors: Sequence[Judge]
    against: str
    num_samples: int
    num_bootstrap: int
    seed: int


def check_standard(standard: Standard, splits: Splits) -> None:
    """Checks that there are images enough.

    Raises:
        UsageError: If there are not.
    """
    real, other = len(splits.test), len(splits.training)
    if standard.against == "training":
        real, other = other, real
    if standard.num_bootstrap == 1:
        raise UsageError("--bootstrap 1: one resample has no spread, expected 0 or at least 2")
    if min(standard.num_samples, real) < FEWEST:
        raise UsageError(
            f"--fid of {standard.num_samples} samples against {real} {standard.against} images: too few for a "
            f"covariance, expected {FEWEST} of each, and thousands for a figure that means something"
        )
    if other < FEWEST:
        split = "test" if standard.against == "training" else "training"
        raise UsageError(
            f"--fid-against {standard.against}: {other} {split} images are too few for the floor: expected {FEWEST}"
        )


def measure_standard(
    model: VAEBM,
    splits: Splits,
    standard: Standard,
    sampling: SamplingConfig,
    engine: Engine,
    cache: FeatureCache,
) -> list[StandardRow]:
    """Measures samples of the VAE and of the VAEBM, and real images of the other split in their place, the floor.

    Launched processes share the chains; what is made of them, only the main one has.

    Arguments:
        model: The VAEBM, in evaluation mode.
        splits: The images.
        standard: How they are compared.
        sampling: How samples are drawn.
        engine: Device, precision and processes.
        cache: Keeps features of real images.
    """
    cache.tell(f"drawing {standard.num_samples:,} samples, {sampling.words}")
    generator = torch.Generator().manual_seed(standard.seed)
    with engine.autocast():
        kernel, steps = sampling.kernel, sorted({0, sampling.num_steps})
        looks = watch_chains(model, standard.num_samples, steps, kernel, generator, engine)
    if not engine.is_main:
        return []
    real, other = splits.test.images, splits.training.images
    if standard.against == "training":
        real, other = other, real
    drawn = np.random.default_rng(standard.seed).permutation(len(other))[: standard.num_samples]
    rows = []
    for judge in standard.extractors:
        tell_of_rank(judge, min(standard.num_samples, len(real)), cache.tell)
        reference = cache.extract(judge, real)
        seen = {
            "floor": cache.extract(judge, other[np.sort(drawn)]),
            "VAE": _seen(judge, looks[0].images),
            **({"VAEBM": _seen(judge, looks[-1].images)} if len(looks) > 1 else {}),
        }
        for what, judged in seen.items():
            cache.tell(f"{judge.name}: {what}")
            rows.append(_row(judge, what, judged, reference, standard))
    return rows


def _row(judge: Judge, what: str, judged: JudgedImages, reference: JudgedImages, standard: Standard) -> StandardRow:
    try:
        scores = standard_scores(judged, reference, standard.seed, standard.num_bootstrap)
    except ValueError as error:
        raise UsageError(f"{judge.name}, {what}: {error}") from error
    score = scores.inception_score
    return StandardRow(
        extractor=judge.name,
        extractor_sha256=judge.sha256,
        what=what,
        against=standard.against,
        n=scores.num_images,
        num_reference=scores.num_reference,
        seed=standard.seed,
        fid=_figure(scores.fid, scores.fid_error),
        kid=_figure(scores.kid, scores.kid_error),
        kid_std=scores.kid_std,
        subset_size=scores.subset_size,
        inception_score=None if score is None else _figure(score, scores.inception_score_error),
        inception_score_std=scores.inception_score_std,
    )


def _figure(value: float, error: float | None) -> ErrorFigure:
    """Returns a figure with its 95 % interval, if its error is known."""
    if error is None:
        return ErrorFigure(value=value, low=None, high=None)
    return ErrorFigure(value=value, low=value - NORMAL * error, high=value + NORMAL * error)
