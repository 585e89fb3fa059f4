"""FID, KID and IS as the field computes them, by torchmetrics, on what any extractor sees.

A number is comparable with a published one only if the extractor, the real images, n and the path of the images are the
same: Inception with the weights of 2015, as many samples, images as bytes. Each figure carries what is needed to tell.

The errors of FID and IS are their standard deviations over resamples (bootstrap). Percentiles of resamples would lie
too high, since a resample holds fewer different images and FID grows as their number falls. A kernel distance of
resamples is biased, because images meet themselves: the error of KID is that of all images by the grouped jackknife,
and that of a mean over so many subsets besides.

References:
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, https://arxiv.org/abs/1706.08500
    Demystifying MMD GANs (KID), https://arxiv.org/abs/1801.01401
    Improved Techniques for Training GANs (IS), https://arxiv.org/abs/1606.03498
"""

from __future__ import annotations

import math
import statistics
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaebm.evaluation.features import JudgedImages
from vaebm.evaluation.sample_quality import FEWEST_FOR_INTERVAL
from vaebm.metrics import feature_statistics, frechet_distance, kernel_interval

__all__ = ["NORMAL", "StandardScores", "standard_scores"]

NUM_SUBSETS, SUBSET_SIZE, NUM_SPLITS, FEWEST = 100, 1000, 10, 20
# The 97.5 % quantile of the normal distribution.
NORMAL = 1.96


@dataclass(frozen=True)
class StandardScores:
    """What a set of images comes to.

    Arguments:
        fid: The Fréchet distance.
        fid_error: Its standard error over resamples, or None without any.
        kid: The mean kernel distance of random subsets.
        kid_std: Its standard deviation over the subsets.
        kid_error: Its standard error, of which 1.96 are half of its 95 % interval, or None without resamples or with
            fewer than 40 images.
        inception_score: exp of the mean divergence of class probabilities from their mean, by splits; None if the
            extractor knows no classes.
        inception_score_std: Its standard deviation over the splits.
        inception_score_error: Its standard error over resamples, or None without any.
        num_images: The number of images.
        num_reference: The number of real images that they are compared with.
        subset_size: The number of images in a subset of KID.
    """

    fid: float
    fid_error: float | None
    kid: float
    kid_std: float
    kid_error: float | None
    inception_score: float | None
    inception_score_std: float | None
    inception_score_error: float | None
    num_images: int
    num_reference: int
    subset_size: int


class _Given(nn.Module):
    """An extractor of features that are there already: what torchmetrics takes for its network."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """Returns the features (N, F)."""
        return features


def standard_scores(images: JudgedImages, reference: JudgedImages, seed: int, num_bootstrap: int = 0) -> StandardScores:
    """Computes FID, KID and, where there are classes, IS.

    Arguments:
        images: What an extractor sees in the images, at least 20.
        reference: What the same one sees in real images, at least 20.
        seed: The seed of subsets, splits and resamples.
        num_bootstrap: The number of resamples behind the errors of FID and IS, at least 2, or 0 for no errors; each
            costs as much as FID.

    Returns:
        The figures.

    Raises:
        ValueError: If there are too few images or resamples, the features differ in number, or one isn't finite.

    Example:
        >>> seen = JudgedImages(torch.arange(40.0).double().view(20, 2), None)
        >>> shifted = JudgedImages(seen.features + 3, None)
        >>> round(standard_scores(shifted, seen, seed=0).fid, 3)
        18.0
    """
    _check(images, reference)
    if num_bootstrap == 1 or num_bootstrap < 0:
        raise ValueError(f"num_bootstrap is {num_bootstrap}: one resample has no spread, expected 0 or at least 2")
    # Imported late: a broken torchvision beside it would take this package down with it.
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    given, size = _Given(images.features.shape[1]), min(SUBSET_SIZE, len(images) // 2, len(reference) // 2)
    with warnings.catch_warnings():
        # It warns that it keeps all features, which are at hand anyway.
        warnings.simplefilter("ignore", UserWarning)
        fid = FrechetInceptionDistance(given).set_dtype(torch.float64)
        kid = KernelInceptionDistance(given, subsets=NUM_SUBSETS, subset_size=size)
    for metric in (fid, kid):
        metric.update(reference.features, real=True)
        metric.update(images.features, real=False)
    # The subsets of torchmetrics come from the global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kernel, kernel_std = kid.compute()
        score = _inception_score(images)
    return StandardScores(
        fid=float(fid.compute()),
        fid_error=_error(images.features, reference.features, seed, num_bootstrap) if num_bootstrap else None,
        kid=float(kernel),
        kid_std=float(kernel_std),
        kid_error=_kernel_error(images, reference, float(kernel_std), seed) if num_bootstrap else None,
        inception_score=score[0] if score else None,
        inception_score_std=score[1] if score else None,
        inception_score_error=_score_error(images.probabilities, seed, num_bootstrap),
        num_images=len(images),
        num_reference=len(reference),
        subset_size=size,
    )


def _check(images: JudgedImages, reference: JudgedImages) -> None:
    if min(len(images), len(reference)) < FEWEST:
        raise ValueError(
            f"{len(images)} images against {len(reference)} are too few for a covariance: expected {FEWEST} of each"
        )
    if images.features.shape[1] != reference.features.shape[1]:
        raise ValueError("images and reference were seen by different extractors: expected the same")
    for seen in (images, reference):
        if not bool(seen.features.isfinite().all()):
            raise ValueError("features hold NaN or infinite values: expected finite ones, check images and extractor")


def _inception_score(images: JudgedImages) -> tuple[float, float] | None:
    """Returns the score and its deviation; torchmetrics takes logits, and log p are some of p."""
    from torchmetrics.image.inception import InceptionScore

    if images.probabilities is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        metric = InceptionScore(_Given(images.probabilities.shape[1]), splits=_num_splits(images.probabilities))
    metric.update(images.probabilities.clamp_min(1e-300).log())
    score, deviation = metric.compute()
    return float(score), float(deviation)


def _num_splits(probabilities: Tensor) -> int:
    return min(NUM_SPLITS, len(probabilities) // 2)


def _kernel_error(images: JudgedImages, reference: JudgedImages, deviation: float, seed: int) -> float | None:
    """Returns the standard error of KID: that of the images by the jackknife, and that of the mean over subsets."""
    if min(len(images), len(reference)) < FEWEST_FOR_INTERVAL:
        return None
    found = kernel_interval(images.features, reference.features, generator=torch.Generator().manual_seed(seed))
    # Its quantile is Student's, for few groups.
    return math.hypot((found.high - found.value) / NORMAL, deviation / NUM_SUBSETS**0.5)


def _score_error(probabilities: Tensor | None, seed: int, num_bootstrap: int) -> float | None:
    """Returns the standard error of IS over resamples."""
    if probabilities is None or not num_bootstrap:
        return None
    generator, values = torch.Generator().manual_seed(seed), []
    for _ in range(num_bootstrap):
        drawn = probabilities[torch.randint(len(probabilities), (len(probabilities),), generator=generator)]
        values.append(statistics.mean(_score_of(part) for part in drawn.chunk(_num_splits(probabilities))))
    return statistics.stdev(values)


def _score_of(probabilities: Tensor) -> float:
    """Returns exp of the mean divergence of probabilities (N, K) from their mean."""
    logs = probabilities.clamp_min(1e-300).log()
    marginal = probabilities.mean(0).clamp_min(1e-300).log()
    return math.exp(float((probabilities * (logs - marginal)).sum(1).mean()))


def _error(features: Tensor, reference: Tensor, seed: int, num_bootstrap: int) -> float:
    """Returns the standard error of FID over resamples of both sets."""
    generator, values = torch.Generator().manual_seed(seed), []
    for _ in range(num_bootstrap):
        drawn = [feature_statistics(rows[torch.randint(len(rows), (len(rows),), generator=generator)])
                 for rows in (features, reference)]  # fmt: skip
        values.append(frechet_distance(drawn[0], drawn[1]))
    return float(torch.tensor(values, dtype=torch.float64).std())
