r"""The negative ELBO with a weight on its divergence: −E_q[log p(x|z)] + β Σ_l max(KL_l, free nats).

β = 1 is the bound. With a fixed pixel scale s, training at weight β is training at scale s√β with weight 1, up to a
factor: both see the ratio β s². A decoder trained so and used at s keeps sharp pixels without a starved prior; its ELBO
is always reported with weight 1.

References:
    Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114
    Ladder Variational Autoencoders (warm-up), https://arxiv.org/abs/1602.02282
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.models import ElboTerms
from vaebm.objectives.balancing import balancing_weights


@dataclass(frozen=True)
class ElboLoss:
    """The loss () to minimise, and batch means of the unweighted terms in nats: elbo, log_likelihood, kl, each ()."""

    loss: Tensor
    elbo: Tensor
    log_likelihood: Tensor
    kl: Tensor


def kl_weight_at(iteration: int, num_iterations: int, weight: float, warmup: float) -> float:
    """Returns the divergence's weight: 5 % of ``weight`` at first, all of it after a share ``warmup`` of training.

    In between it rises linearly, weight·min(1, 0.05 + iteration/(warmup·num_iterations)).

    Example:
        >>> kl_weight_at(0, 100, 1.0, 0.3), kl_weight_at(50, 100, 1.0, 0.3)
        (0.05, 1.0)
    """
    if warmup <= 0:
        return weight
    return weight * min(1.0, 0.05 + iteration / (warmup * num_iterations))


def elbo_loss(
    terms: ElboTerms,
    kl_weight: float = 1.0,
    free_nats: float = 0.0,
    whole_mean: Callable[[Tensor], Tensor] | None = None,
) -> ElboLoss:
    """Returns the negative weighted ELBO of a batch, divided by the number of pixels and channels of an image.

    Arguments:
        terms: The ELBO terms of B images.
        kl_weight: The weight β of the divergence.
        free_nats: The divergence, batch mean of a group, below which it costs nothing.
        whole_mean: Maps a mean over this part of a batch to that over the whole; by default it is the whole.

    Returns:
        The loss and the unweighted terms.
    """
    means = terms.kl.mean(0)
    whole = means if whole_mean is None else whole_mean(means)
    groups = torch.where(whole.detach() < free_nats, free_nats, means).sum()
    log_likelihood = terms.log_likelihood.mean()
    loss = (kl_weight * groups - log_likelihood) / terms.reconstruction.shape[1:].numel()
    return ElboLoss(loss, terms.elbo.mean().detach(), log_likelihood.detach(), terms.kl.sum(1).mean().detach())


def balanced_elbo_loss(
    terms: ElboTerms,
    num_groups: Sequence[int],
    kl_weight: float,
    whole_mean: Callable[[Tensor], Tensor] | None = None,
) -> ElboLoss:
    """Returns the negative weighted ELBO with balanced divergences, divided as in ``elbo_loss``.

    Arguments:
        terms: The ELBO terms of B images.
        num_groups: The number of latent groups of each scale, the coarsest scale first.
        kl_weight: The weight β of the divergence.
        whole_mean: Maps a mean over this part of a batch to that over the whole; by default it is the whole.

    Returns:
        The loss and the unweighted terms.
    """
    divergence = (terms.kl * balancing_weights(terms.kl, num_groups, whole_mean)).sum(1).mean()
    log_likelihood = terms.log_likelihood.mean()
    loss = (kl_weight * divergence - log_likelihood) / terms.reconstruction.shape[1:].numel()
    return ElboLoss(loss, terms.elbo.mean().detach(), log_likelihood.detach(), terms.kl.sum(1).mean().detach())
