"""What the metrics accept: matrices of features and vectors of scores, brought to float64 on their own device.

A feature that is not finite would spread into every entry of a covariance, and a score that is NaN has no rank; both
are refused here, with the name of the argument, rather than handed on as a figure that means nothing.
"""

import torch
from torch import Tensor

__all__ = ["as_features", "as_scores"]


def as_features(features: Tensor, name: str, minimum: int = 2) -> Tensor:
    """Brings a set of features to a detached float64 matrix.

    Arguments:
        features: One row per image, (N, F).
        name: What the caller calls the argument; it stands in the message.
        minimum: The smallest N that the caller can work with.

    Returns:
        The features, (N, F), float64.

    Raises:
        ValueError: If the rank is not 2, N is below `minimum`, F is 0, or an entry is not finite.

    Example:
        >>> as_features(torch.zeros(3, 2), "features").dtype
        torch.float64
    """
    if features.ndim != 2 or features.shape[0] < minimum or features.shape[1] < 1:
        shape = tuple(features.shape)
        raise ValueError(f"{name} has shape {shape}, expected (N, F) with N at least {minimum}: one row per image")
    matrix = features.detach().to(torch.float64)
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError(f"{name} holds NaN or infinite values, expected finite features: check the images first")
    return matrix


def as_scores(scores: Tensor, name: str) -> Tensor:
    """Brings scores to a detached float64 vector; infinite scores keep their rank and are allowed.

    Arguments:
        scores: One score per image, (N,).
        name: What the caller calls the argument; it stands in the message.

    Returns:
        The scores, (N,), float64.

    Raises:
        ValueError: If the rank is not 1, there is no score, or a score is NaN.

    Example:
        >>> as_scores(torch.tensor([1, 2]), "scores")
        tensor([1., 2.], dtype=torch.float64)
    """
    if scores.ndim != 1 or len(scores) == 0:
        raise ValueError(
            f"{name} has shape {tuple(scores.shape)}, expected (N,) with N at least 1: one score per image"
        )
    vector = scores.detach().to(torch.float64)
    if bool(torch.isnan(vector).any()):
        raise ValueError(f"{name} holds NaN, expected numbers: a score without a rank cannot be compared")
    return vector
