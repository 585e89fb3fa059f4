"""How well scores of images tell outliers from normal images, for each set of outliers and each score.

A score function maps images (B, C, H, W) to named scores (B,), higher = outlier; it is a callable, so that evaluation
knows neither models nor how a score is made. Every set goes through bytes first, x ↦ to_float(to_uint8(x)), outliers as
well: noise outside the range, or finer than a byte, would be recognisable by arithmetic alone.

References:
    A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks, arXiv 1610.02136.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.data import to_float, to_uint8
from vaebm.metrics import Ranking, rank_outliers

__all__ = ["RankedScore", "ScoreFunction", "measure_outliers", "rank_scores", "score_images"]

ScoreFunction = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class RankedScore:
    """How well one score separates one set of outliers from the normal images.

    Arguments:
        outliers: The name of the set of outliers.
        score: The name of the score.
        seed: The seed that the generator of the resamples was made with.
        ranking: AUROC, AUPR and FPR95 with intervals, and the set sizes; outliers are the positive class.
    """

    outliers: str
    score: str
    seed: int
    ranking: Ranking


def measure_outliers(
    score_function: ScoreFunction,
    normal: Tensor,
    outlier_sets: Mapping[str, Tensor],
    *,
    generator: torch.Generator,
    batch_size: int = 500,
    num_bootstrap: int = 200,
) -> list[RankedScore]:
    """Scores normal images once and each set of outliers once, and ranks each score on each set.

    Arguments:
        score_function: Images (B, C, H, W) to named scores (B,), higher = outlier.
        normal: Normal images that were not trained on, float in [-1, 1], (N, C, H, W).
        outlier_sets: Outliers by name, float, nominally in [-1, 1], each (M, C, H, W).
        generator: Draws the resamples for the intervals.
        batch_size: The number of images that are scored at a time.
        num_bootstrap: The number of resamples for the intervals.

    Returns:
        One row for each set and score, set by set.

    Raises:
        ValueError: If shapes of images differ, or a score is missing, misshapen or NaN.

    Example:
        >>> noise = {"noise": torch.rand(8, 1, 4, 4)}
        >>> rows = measure_outliers(
        ...     lambda images: {"brightness": images.mean((1, 2, 3))},
        ...     torch.full((8, 1, 4, 4), -1.0), noise, generator=torch.Generator().manual_seed(0),
        ... )
        >>> [(row.outliers, row.score, row.ranking.auroc.value) for row in rows]
        [('noise', 'brightness', 1.0)]
    """
    for name, images in outlier_sets.items():
        if images.shape[1:] != normal.shape[1:]:
            found, expected = tuple(images.shape[1:]), tuple(normal.shape[1:])
            raise ValueError(f"outliers {name} have images of shape {found}, expected {expected} like the normal ones")
    normal_scores = score_images(score_function, normal, batch_size)
    outlier_scores = {name: score_images(score_function, images, batch_size) for name, images in outlier_sets.items()}
    return rank_scores(normal_scores, outlier_scores, generator=generator, num_bootstrap=num_bootstrap)


@torch.no_grad()
def score_images(score_function: ScoreFunction, images: Tensor, batch_size: int = 500) -> dict[str, Tensor]:
    """Scores images batch by batch, after they have gone through uint8.

    Arguments:
        score_function: Images (B, C, H, W) to named scores (B,).
        images: float, nominally in [-1, 1], (N, C, H, W).
        batch_size: The number of images that are scored at a time.

    Returns:
        Each score by name, (N,), float64, on the CPU.

    Raises:
        ValueError: If there is no image, or the function does not return (B,) under the same names for each batch.

    Example:
        >>> score_images(lambda images: {"mean": images.mean((1, 2, 3))}, torch.full((2, 1, 4, 4), 3.0))
        {'mean': tensor([1., 1.], dtype=torch.float64)}
    """
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"the images have shape {tuple(images.shape)}, expected (N, C, H, W) with N at least 1")
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        scores = score_function(to_float(to_uint8(batch)).to(images.device))
        if start > 0 and scores.keys() != parts.keys():
            raise ValueError(f"the score function returned {sorted(scores)}, expected {sorted(parts)} as before")
        for name, values in scores.items():
            if values.shape != (len(batch),):
                raise ValueError(
                    f"score {name} has shape {tuple(values.shape)}, expected ({len(batch)},): one an image"
                )
            parts.setdefault(name, []).append(values.cpu().double())
    return {name: torch.cat(values) for name, values in parts.items()}


def rank_scores(
    normal_scores: Mapping[str, Tensor],
    outlier_scores: Mapping[str, Mapping[str, Tensor]],
    *,
    generator: torch.Generator,
    num_bootstrap: int = 200,
) -> list[RankedScore]:
    """Ranks scores that have been computed before; outliers are the positive class.

    Arguments:
        normal_scores: Each score by name, (N,), higher = outlier.
        outlier_scores: The same by set of outliers, each (M,).
        generator: Draws the resamples for the intervals.
        num_bootstrap: The number of resamples for the intervals.

    Returns:
        One row for each set and score, set by set.

    Raises:
        ValueError: If a set has other scores than the normal images, or a score is NaN.
    """
    rows = []
    for name, scores in outlier_scores.items():
        if scores.keys() != normal_scores.keys():
            raise ValueError(f"outliers {name} have scores {sorted(scores)}, expected {sorted(normal_scores)}")
        for score, values in scores.items():
            ranking = rank_outliers(normal_scores[score], values, num_bootstrap=num_bootstrap, generator=generator)
            rows.append(RankedScore(name, score, generator.initial_seed(), ranking))
    return rows
