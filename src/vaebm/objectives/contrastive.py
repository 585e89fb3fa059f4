r"""The contrastive loss of the energy network.

−∇ log(h(x)/Z) = ∇ E(x) − E_{x'~h}[∇ E(x')], so one descends mean E(data) − mean E(samples). That difference doesn't
see the level of E, which drifts; the centring term c·((Ē₊ + Ē₋)/2)² holds it. The L2 term l·(mean E₊² + mean E₋²) also
limits the gap.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
    Implicit Generation and Modeling with Energy-Based Models (L2 term), https://arxiv.org/abs/1903.08689
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ContrastiveLoss:
    """The loss () and batch means, each (): data_energy Ē₊, sample_energy Ē₋ and gap Ē₊ − Ē₋."""

    loss: Tensor
    data_energy: Tensor
    sample_energy: Tensor
    gap: Tensor


def contrastive_loss(
    data_energy: Tensor, sample_energy: Tensor, centring: float = 0.0, l2: float = 0.0
) -> ContrastiveLoss:
    """Returns Ē₊ − Ē₋ + centring·((Ē₊ + Ē₋)/2)² + l2·(mean E₊² + mean E₋²), in float64.

    Arguments:
        data_energy: Energies of data, shape (B,).
        sample_energy: Energies of samples, shape (B',).
        centring: The weight of the term that holds the level.
        l2: The weight of the term that holds each energy near zero.

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
    loss = gap + centring * ((data_mean + sample_mean) / 2).square()
    if l2:
        loss = loss + l2 * (data.square().mean() + samples.square().mean())
    return ContrastiveLoss(loss, data_mean.detach(), sample_mean.detach(), gap.detach())
