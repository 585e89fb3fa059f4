"""Split-conformal p-values: from a score to a false-positive rate that can be promised.

With n scores c₁ … cₙ of normal images that neither trained nor chose the model, the p-value of a score s is

    p(s) = (1 + #{i : cᵢ ≥ s}) / (n + 1).

If the new image is exchangeable with the calibration images, P(p ≤ α) ≤ α for every α: flagging at p ≤ α raises a false
alarm on at most a share α of normal images, whatever the score. The promise is marginal over calibration sets; for one
set of n the rate varies around α with standard deviation about √(α(1 − α)/n). The smallest p-value is 1/(n + 1).

A program that holds no calibration scores decides the same by one number, their *threshold* at α: p(s) ≤ α says that at
most k of the cᵢ reach s, with k + 1 the largest whole number of (n + 1)-ths within α; that is, s lies above the
(k + 1)-th largest of them.

References:
    Testing for Outliers with Conformal p-values, arXiv 2104.08279.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vaebm.metrics.inputs import as_scores

__all__ = ["conformal_p_values", "false_positive_rates", "threshold"]


def conformal_p_values(calibration_scores: Tensor, scores: Tensor) -> Tensor:
    """Computes the conformal p-value p(s) = (1 + #{i : cᵢ ≥ s}) / (n + 1) of each score.

    Arguments:
        calibration_scores: Scores of held-out normal images, higher = outlier, (n,).
        scores: Scores to judge, higher = outlier, (N,).

    Returns:
        The p-values, (N,), float64, between 1 / (n + 1) and 1; small = outlier.

    Raises:
        ValueError: If a vector is empty or holds NaN.

    References:
        Testing for Outliers with Conformal p-values, arXiv 2104.08279.

    Example:
        >>> conformal_p_values(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0, 9.0]))
        tensor([1.0000, 0.7500, 0.2500], dtype=torch.float64)
    """
    calibration = as_scores(calibration_scores, "calibration_scores").sort().values
    queries = as_scores(scores, "scores").contiguous()
    num_below = torch.searchsorted(calibration, queries)
    return (1 + len(calibration) - num_below).double() / (len(calibration) + 1)


def threshold(calibration_scores: Tensor, rate: float) -> float:
    """Finds the score from which on an image is an outlier: score >= threshold if and only if its p-value <= rate.

    It is the next float64 above a calibration score, so that it decides ties as the p-value does.

    Arguments:
        calibration_scores: Scores of held-out normal images, higher = outlier, (n,).
        rate: The level α, the share of normal images that may be flagged.

    Returns:
        The threshold, for scores in float64; -inf if every score is one of an outlier.

    Raises:
        ValueError: If there are no scores, one is NaN or +inf, or n are too few for the rate: p is never below
            1 / (n + 1).

    Example:
        >>> scores = torch.arange(1, 100).double()
        >>> threshold(scores, 0.05) > 95, conformal_p_values(scores, torch.tensor([95.0, 95.5])).tolist()
        (True, [0.06, 0.05])
    """
    calibration = as_scores(calibration_scores, "calibration_scores").sort(descending=True).values
    total = len(calibration) + 1
    if bool(calibration.isposinf().any()):
        raise ValueError("calibration_scores holds +inf, which no threshold lies above: expected finite scores")
    # The quotients are those of conformal_p_values, so that no rounding of rate · (n + 1) comes between.
    num_allowed = int(((1 + torch.arange(total)).double() / total <= rate).sum())
    if num_allowed == 0:
        raise ValueError(
            f"the rate {rate} is below 1 / {total}, the smallest p-value of {total - 1} calibration scores"
        )
    return -math.inf if num_allowed == total else math.nextafter(float(calibration[num_allowed - 1]), math.inf)


def false_positive_rates(p_values: Tensor, levels: Sequence[float] = (0.01, 0.05, 0.10)) -> dict[float, float]:
    """Computes the share of normal images that each level flags: #{i : pᵢ ≤ α} / N.

    Arguments:
        p_values: p-values of normal images, (N,); float64, as they come, so that p = α counts.
        levels: The levels α, each between 0 and 1.

    Returns:
        The share by level; close to its level if the calibration holds.

    Raises:
        ValueError: If there is no p-value, one is NaN or outside [0, 1], or a level is outside [0, 1].

    Example:
        >>> false_positive_rates(torch.tensor([0.05, 0.2, 0.6, 1.0]).double(), levels=(0.1, 0.5))
        {0.1: 0.25, 0.5: 0.5}
    """
    values = as_scores(p_values, "p_values")
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError("p_values run outside [0, 1], expected the result of conformal_p_values")
    for level in levels:
        if not 0 <= level <= 1:
            raise ValueError(f"the level {level} is outside [0, 1], expected a share such as 0.05")
    return {float(level): float((values <= level).double().mean()) for level in levels}
