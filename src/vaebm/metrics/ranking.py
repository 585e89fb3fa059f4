"""How well a score separates outliers from normal images: AUROC, AUPR and FPR95, with bootstrap intervals.

**Outliers are the positive class** and a higher score means more of an outlier. At the threshold t the true positive
rate TPR(t) is the share of outliers with score ≥ t, and the false positive rate FPR(t) the share of normal images with
score ≥ t.

* AUROC = P(outlier scores above normal) + ½ P(equal): the area under TPR over FPR.
* AUPR = Σ_t (TPR(t) − TPR(t⁺)) · precision(t), the average precision. It depends on the ratio of the two set sizes.
* FPR95 = FPR(t) at the highest t with TPR(t) ≥ .95: the share of normal images that is flagged when the threshold is
  set so that 95 % of the outliers are caught. (Papers that take normal images as positive report another number: the
  share of outliers accepted when 95 % of the normal images are.)

Intervals are the 2.5 % and 97.5 % percentiles over stratified resamples (normal images and outliers are each drawn with
replacement, in their own number). A perfect separation has an interval of width zero: that is the bootstrap's limit,
not certainty.

References:
    A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks, arXiv 1610.02136.
    An Introduction to the Bootstrap, B. Efron and R. Tibshirani, 1993, chapter 13.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.metrics.inputs import as_scores

__all__ = ["Interval", "Ranking", "rank_outliers"]

_TRUE_POSITIVE_RATE = 0.95
_PERCENTILES = (0.025, 0.975)
# Of resamples that are counted at a time; more of them leave the caches.
_MOST_COUNTS = 30_000


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % percentile interval.

    Arguments:
        value: The figure on the images at hand.
        low: The 2.5 % percentile over the resamples.
        high: The 97.5 % percentile over the resamples.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ranking:
    """How well a score ranks outliers above normal images; outliers are the positive class.

    Arguments:
        auroc: Area under the curve of true over false positive rate; .5 is chance, 1 is perfect.
        aupr: Average precision; chance is the share of outliers.
        fpr95: Share of normal images flagged when 95 % of the outliers are; 0 is perfect.
        num_normal: The number of normal images.
        num_outlier: The number of outliers.
        num_bootstrap: The number of resamples behind the intervals.
    """

    auroc: Interval
    aupr: Interval
    fpr95: Interval
    num_normal: int
    num_outlier: int
    num_bootstrap: int


def rank_outliers(
    normal_scores: Tensor, outlier_scores: Tensor, *, num_bootstrap: int = 200, generator: torch.Generator
) -> Ranking:
    """Measures how well a score separates outliers (the positive class) from normal images.

    A resample is a vector of counts over the distinct scores, which are sorted once; each costs a few passes over them.

    Arguments:
        normal_scores: Scores of normal images, higher = outlier, (N,).
        outlier_scores: Scores of outliers, higher = outlier, (M,).
        num_bootstrap: The number of resamples for the intervals, at least 1.
        generator: Draws the resamples.

    Returns:
        AUROC, AUPR and FPR95 with their intervals, and the numbers behind them.

    Raises:
        ValueError: If a set is empty or holds NaN, or `num_bootstrap` is below 1.

    References:
        A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks, arXiv 1610.02136.

    Example:
        >>> normal, outlier = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([2.5, 4.0])
        >>> ranking = rank_outliers(normal, outlier, generator=torch.Generator().manual_seed(0))
        >>> ranking.auroc.value, round(ranking.aupr.value, 3), ranking.fpr95.value
        (0.875, 0.833, 0.25)
    """
    if num_bootstrap < 1:
        raise ValueError(f"num_bootstrap is {num_bootstrap}, expected at least 1")
    normal = as_scores(normal_scores, "normal_scores").cpu()
    outlier = as_scores(outlier_scores, "outlier_scores").cpu()
    distinct, ascending = torch.unique(torch.cat([normal, outlier]), return_inverse=True)
    places = len(distinct) - 1 - ascending
    normal_places, outlier_places = places.split([len(normal), len(outlier)])

    def counts(of: Tensor) -> Tensor:
        return torch.bincount(of, minlength=len(distinct)).double()

    def resamples(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(count):
            yield counts(_resample(normal_places, generator)), counts(_resample(outlier_places, generator))

    (value,) = _figures(counts(normal_places)[None], counts(outlier_places)[None])
    at_once = max(1, _MOST_COUNTS // len(distinct))
    parts = [min(at_once, num_bootstrap - begin) for begin in range(0, num_bootstrap, at_once)]
    resampled = torch.cat([_figures(*map(torch.stack, zip(*resamples(part), strict=True))) for part in parts])
    bounds = torch.quantile(resampled, torch.tensor(_PERCENTILES, dtype=torch.float64), dim=0)
    auroc, aupr, fpr95 = (Interval(*row) for row in torch.stack([value, *bounds], dim=1).tolist())
    return Ranking(auroc, aupr, fpr95, len(normal), len(outlier), num_bootstrap)


def _resample(values: Tensor, generator: torch.Generator) -> Tensor:
    indices = torch.randint(len(values), (len(values),), generator=generator, device=generator.device)
    return values[indices.cpu()]


def _figures(normal_counts: Tensor, outlier_counts: Tensor) -> Tensor:
    """Returns AUROC, AUPR and FPR95, (R, 3), from counts at the distinct scores in descending order, each (R, T)."""
    false_positives, true_positives = normal_counts.cumsum(1), outlier_counts.cumsum(1)
    num_normal, num_outlier = false_positives[:, -1:], true_positives[:, -1:]
    normals_below = num_normal - false_positives + normal_counts / 2
    auroc = (outlier_counts * normals_below).sum(1, keepdim=True) / (num_normal * num_outlier)
    precision = true_positives / (true_positives + false_positives).clamp_min(1.0)
    aupr = (outlier_counts * precision).sum(1, keepdim=True) / num_outlier
    rates = torch.full_like(num_outlier, _TRUE_POSITIVE_RATE)
    threshold = torch.searchsorted(true_positives / num_outlier, rates)
    fpr95 = false_positives.gather(1, threshold) / num_normal
    return torch.cat([auroc, aupr, fpr95], dim=1)
