"""Shares of classes among images, and how far they are from the shares that were expected.

    share(c) = #{i : labelᵢ = c} / N,        total variation = ½ Σ_c |p(c) − q(c)|.

A model that has lost a mode shows it here before any distance between features does.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ModeCoverage", "class_shares", "mode_coverage", "total_variation", "uniform_kl"]


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


class ModeCoverage(NamedTuple):
    """How many modes occur, and KL(p ‖ uniform) of their shares p, in nats, with its standard error."""

    num_modes: int
    kl: float
    kl_error: float


def mode_coverage(labels: Tensor, num_classes: int) -> ModeCoverage:
    """Counts the classes that occur, and compares their shares with equal ones.

    KL(p ‖ uniform) = Σ_c p(c) log(K p(c)), as the StackedMNIST tables of published work have it (VEEGAN, PacGAN and
    after). Of n draws of a uniform distribution it is about (K − 1)/2n, see ``uniform_kl``. Its standard error is

        √( (Var_p(log p) − (K − 1)/n)/n + (K − 1)/2n² ),

    by the delta method, less what the variance of log p is by chance; the last term is what is left where p is uniform,
    the variance of half a χ² of K − 1 degrees over n.

    Arguments:
        labels: The class of each sample, in 0 … K − 1, (N,).
        num_classes: The number of classes K.

    Raises:
        ValueError: If there is no label, or a label is out of range.

    References:
        VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning, https://arxiv.org/abs/1705.07761
        PacGAN: The power of two samples in generative adversarial networks, https://arxiv.org/abs/1712.04086

    Example:
        >>> mode_coverage(torch.tensor([0, 1, 1, 0]), 4)
        ModeCoverage(num_modes=2, kl=0.6931471805599453, kl_error=0.30618621784789724)
    """
    shares = class_shares(labels, num_classes)
    occurring = shares[shares > 0]
    surprise = (num_classes * occurring).log()
    kl = float((occurring * surprise).sum())
    variance = float((occurring * (surprise - kl).square()).sum())
    by_chance = (num_classes - 1) / len(labels)
    error = ((max(variance - by_chance, 0) + by_chance / 2) / len(labels)) ** 0.5
    return ModeCoverage(len(occurring), kl, error)


def uniform_kl(num_samples: int, num_classes: int) -> float:
    """Returns the KL divergence that so many draws of equally probable classes have by chance, about (K − 1)/2n.

    Example:
        >>> round(uniform_kl(26_000, 1000), 4)
        0.0192
    """
    return (num_classes - 1) / (2 * num_samples)
