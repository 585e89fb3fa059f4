r"""The contrastive loss of the energy network.

−∇ log(h(x)/Z) = ∇ E(x) − E_{x'~h}[∇ E(x')], so one descends mean E(data) − mean E(samples). That difference doesn't
see the level of E, which drifts; the centring term c·((Ē₊ + Ē₋)/2)² holds it. The L2 term l·(mean E₊² + mean E₋²) also
limits the gap.

A batch may be part of a larger one: with L the level (Ē₊ + Ē₋)/2 of the whole and l that of the part, the part's
centring term is c·(2 l L − L²). Its mean over the parts is c·L², and so is that of the gradients, L being a constant.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
    Implicit Generation and Modeling with Energy-Based Models (L2 term), https://arxiv.org/abs/1903.08689
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ContrastiveLoss:
    """The loss () and batch means, each (): data_energy Ē₊, sample_energy Ē₋, gap Ē₊ − Ē₋, and mean squares."""

    loss: Tensor
    data_energy: Tensor
    sample_energy: Tensor
    gap: Tensor
    data_square: Tensor
    sample_square: Tensor


def contrastive_loss(
    data_energy: Tensor,
    sample_energy: Tensor,
    centring: float = 0.0,
    l2: float = 0.0,
    whole_level: Callable[[Tensor], Tensor] | None = None,
) -> ContrastiveLoss:
    """Returns Ē₊ − Ē₋ + centring·((Ē₊ + Ē₋)/2)² + l2·(mean E₊² + mean E₋²), in float64.

    Arguments:
        data_energy: Energies of data, shape (B,).
        sample_energy: Energies of samples, shape (B',).
        centring: The weight of the term that holds the level.
        l2: The weight of the term that holds each energy near zero.
        whole_level: Maps the level () of this part of a batch to that of the whole; by default it is the whole.

    Returns:
        The loss and its parts.

    Example:
        >>> import torch
        >>> contrastive_loss(torch.tensor([1.0]), torch.tensor([3.0]), centring=0.5).loss
        tensor(0., dtype=torch.float64)
    """
    data, samples = data_energy.double(), sample_energy.double()
    data_mean, sample_mean = data.mean(), samples.mean()
    gap = data_mean - sample_mean
    level = (data_mean + sample_mean) / 2
    whole = level.detach() if whole_level is None else whole_level(level.detach())
    data_square, sample_square = data.square().mean(), samples.square().mean()
    loss = gap + centring * (2 * level * whole - whole.square())
    if l2:
        loss = loss + l2 * (data_square + sample_square)
    means = (data_mean, sample_mean, gap, data_square, sample_square)
    return ContrastiveLoss(loss, *(value.detach() for value in means))


def separation(gap: float, data_variance: float, sample_variance: float) -> float:
    """Returns how far energies tell data from samples: the gap in units of their standard deviation.

    Far below zero the network knows each sample: chains don't follow it any more.

    Arguments:
        gap: Ē₊ − Ē₋.
        data_variance: The variance of energies of data.
        sample_variance: The variance of energies of samples.

    Returns:
        The gap over the root of the mean variance; 0 where the energy is the same for all.

    Example:
        >>> separation(-4.0, 5.0, 3.0)
        -2.0
    """
    variance = (data_variance + sample_variance) / 2
    return 0.0 if variance == 0 and gap == 0 else gap / max(variance, 1e-12) ** 0.5
