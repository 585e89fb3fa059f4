r"""Maximum likelihood of h(x) = p(x) exp(−E(x))/Z with Z estimated from draws of the VAE; no Markov chain.

Z = E_{x~p}[exp(−E(x))], so −log h(x) = E(x) + log Z + const is estimated by mean E(data) + log Ẑ,
log Ẑ = log mean exp(−E(draws)). Its gradient weighs each draw by w = exp(−E)/Σ exp(−E), so it sees the mass of every
mode that the VAE reaches, which local chains don't. By Jensen's inequality E[log Ẑ] ≤ log Z: the figure flatters the
likelihood, the more the fewer draws the weights are worth.

For few dimensions only: on images the weights collapse on a handful of draws, which ``effective_sample_size`` shows.

References:
    Quick Training of Probabilistic Neural Nets by Importance Sampling (Bengio, Senécal),
    https://proceedings.mlr.press/r4/bengio03a.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImportanceSampledLoss:
    """The loss () and, each (): data_energy, log_z = log Ẑ, effective_sample_size of the weights."""

    loss: Tensor
    data_energy: Tensor
    log_z: Tensor
    effective_sample_size: Tensor


def importance_sampled_loss(data_energy: Tensor, prior_energy: Tensor, centring: float = 0.0) -> ImportanceSampledLoss:
    """Returns mean E(data) + log mean exp(−E(draws)) + centring·(mean E(draws))², in float64.

    Arguments:
        data_energy: Energies of data, shape (B,).
        prior_energy: Energies of draws of the VAE, shape (B',).
        centring: The weight of the term that holds the level, which the likelihood doesn't see.

    Returns:
        The loss, which is minus the log-likelihood relative to the VAE's, and its parts.

    Example:
        >>> importance_sampled_loss(torch.tensor([1.0]), torch.tensor([3.0, 3.0])).loss
        tensor(-2., dtype=torch.float64)
    """
    data, prior = data_energy.double().mean(), prior_energy.double()
    log_z = torch.logsumexp(-prior, 0) - math.log(len(prior))
    loss = data + log_z + centring * prior.mean().square()
    weights = torch.softmax(-prior.detach(), 0)
    return ImportanceSampledLoss(loss, data.detach(), log_z.detach(), 1 / weights.square().sum())
