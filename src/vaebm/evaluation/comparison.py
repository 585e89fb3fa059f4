"""Which of several outlier scores should be trusted? Those that notice defects made on purpose.

N normal images and, of each, one spoilt copy for every kind of defect. A score is worth its AUROC between the normal
images and the spoilt ones, by kind, and the mean over kinds. Intervals are percentiles over resamples of the N images:
a normal image and its spoilt copies are drawn together, the same images for every score, so that differences between
scores keep what they have in common. The *confidence* in the best score is the share of resamples in which it's the
best again. It's chosen and measured on the same images, so that its own AUROC is a little flattered.

References:
    A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks, arXiv 1610.02136.
    An Introduction to the Bootstrap, B. Efron and R. Tibshirani, 1993, chapter 13.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.metrics import Interval
from vaebm.metrics.inputs import as_scores

__all__ = ["Comparison", "compare_scores"]


@dataclass(frozen=True)
class Comparison:
    """How well scores notice defects.

    Arguments:
        auroc: AUROC by score and by kind of defect; the kind ``mean`` is the mean over all kinds.
        best: The score with the highest mean.
        runner_up: The next best; empty if there is one score only.
        confidence: The share of resamples in which the best score has the highest mean; a tie counts half.
        num_images: The number N of normal images.
        num_bootstrap: The number of resamples.
    """

    auroc: dict[str, dict[str, Interval]]
    best: str
    runner_up: str
    confidence: float
    num_images: int
    num_bootstrap: int


def compare_scores(
    normal: Mapping[str, Tensor],
    spoilt: Mapping[str, Mapping[str, Tensor]],
    *,
    generator: torch.Generator,
    num_bootstrap: int = 500,
) -> Comparison:
    """Compares scores by how well they notice defects.

    Arguments:
        normal: Each score of the normal images, (N,), higher = outlier.
        spoilt: By kind of defect, each score of the spoilt images, (N,), the i-th made of the i-th normal image.
        generator: Draws the resamples.
        num_bootstrap: The number of resamples.

    Returns:
        The figures, and which score is the best.

    Raises:
        ValueError: If a set has other scores or another number of images than the normal ones, or a score is NaN.

    Example:
        >>> normal = {"good": torch.arange(20.0), "useless": torch.zeros(20)}
        >>> spoilt = {"scratch": {"good": torch.arange(20.0) + 30, "useless": torch.zeros(20)}}
        >>> found = compare_scores(normal, spoilt, generator=torch.Generator().manual_seed(0))
        >>> found.best, found.auroc["good"]["mean"].value, found.auroc["useless"]["scratch"].value, found.confidence
        ('good', 1.0, 0.5, 1.0)
    """
    if not normal or not spoilt:
        raise ValueError("there is no score or no kind of defect to compare: expected at least one of each")
    count = len(next(iter(normal.values())))
    for kind, scores in spoilt.items():
        if scores.keys() != normal.keys() or any(len(values) != count for values in scores.values()):
            raise ValueError(f"{kind} has scores {sorted(scores)}, expected {sorted(normal)}, {count} of each")
    drawn = torch.randint(count, (num_bootstrap, count), generator=generator, device=generator.device).cpu()
    weights = torch.zeros(num_bootstrap, count, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    # The first row is the images themselves.
    weights = torch.cat([torch.ones(1, count, dtype=torch.float64), weights])
    areas = {
        score: {kind: _areas(values, spoilt[kind][score], weights) for kind in spoilt}
        for score, values in normal.items()
    }
    for by_kind in areas.values():
        by_kind["mean"] = torch.stack(list(by_kind.values())).mean(0)
    means = torch.stack([by_kind["mean"] for by_kind in areas.values()])
    order = means[:, 0].argsort(descending=True, stable=True).tolist()
    names, lead = list(areas), means.new_ones(num_bootstrap)
    if len(names) > 1:
        lead = means[order[0], 1:] - means[order[1:], 1:].amax(0)
    return Comparison(
        {score: {kind: _interval(row) for kind, row in by_kind.items()} for score, by_kind in areas.items()},
        names[order[0]],
        names[order[1]] if len(names) > 1 else "",
        float(((lead > 0).double() + 0.5 * (lead == 0).double()).mean()),
        count,
        num_bootstrap,
    )


def _areas(normal: Tensor, outlier: Tensor, weights: Tensor) -> Tensor:
    """Returns the AUROC under each row of weights (R, N) of the images, (R,)."""
    below, above = as_scores(normal, "normal").cpu(), as_scores(outlier, "spoilt").cpu()
    beaten = (above > below[:, None]).double() + 0.5 * (above == below[:, None]).double()
    areas: Tensor = ((weights @ beaten) * weights).sum(1) / len(beaten) ** 2
    return areas


def _interval(row: Tensor) -> Interval:
    low, high = torch.quantile(row[1:], torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(float(row[0]), low, high)
