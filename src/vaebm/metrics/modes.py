"""Shares of classes among images, and how far they are from the shares that were expected.

    share(c) = #{i : labelᵢ = c} / N,        total variation = ½ Σ_c |p(c) − q(c)|.

A model that has lost a mode shows it here before any distance between features does.
"""

import torch
from torch import Tensor

__all__ = ["class_shares", "total_variation"]


def class_shares(labels: Tensor, num_classes: int) -> Tensor:
    """Computes the share of each class among the labels.

    Arguments:
        labels: Integer labels in 0 … num_classes − 1, (N,).
        num_classes: The number of classes, those that never occur included.

    Returns:
        The shares, (num_classes,), float64, with sum 1.

    Raises:
        ValueError: If there is no label, or a label is out of range.

    Example:
        >>> class_shares(torch.tensor([0, 2, 2, 2]), 3)
        tensor([0.2500, 0.0000, 0.7500], dtype=torch.float64)
    """
    if labels.ndim != 1 or len(labels) == 0 or labels.is_floating_point():
        raise ValueError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}, expected integers of shape (N,)")
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, expected 0 to {num_classes - 1}: "
            "check num_classes"
        )
    counts = torch.bincount(labels.long(), minlength=num_classes)
    return counts.double() / len(labels)


def total_variation(shares: Tensor, reference: Tensor) -> float:
    """Computes the total variation ½ Σ_c |p(c) − q(c)| between two distributions over classes.

    Arguments:
        shares: The one distribution, (K,).
        reference: The other distribution, (K,).

    Returns:
        A number between 0 (equal) and 1 (nothing in common).

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> total_variation(torch.tensor([1.0, 0.0]), torch.tensor([0.75, 0.25]))
        0.25
    """
    if shares.ndim != 1 or shares.shape != reference.shape:
        raise ValueError(
            f"the shares have shapes {tuple(shares.shape)} and {tuple(reference.shape)}, expected (K,) twice"
        )
    return float((shares.double() - reference.double()).abs().sum()) / 2
