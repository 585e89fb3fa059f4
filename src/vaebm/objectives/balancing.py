r"""What NVAE adds to the ELBO in training: its warm-up, balanced divergences, and penalties on weights.

While the weight β of the divergence rises, groups are *balanced*: with k_l the batch mean of |KL_l| and n_s the number
of groups of scale s, the coarsest being s = 0,

    γ_l ∝ (k_l + 0.01) / α_s,    α_s = (2^s)² / n_s,    mean γ = 1,

without gradient, and the loss takes Σ γ_l KL_l: groups that carry much are paid less for, so that none collapses early.
The penalty on weights is λ (Σ σ_max(W) + Σ max|g|), over all convolutions and over the scales g of all batch norms.

References:
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["balancing_weights", "batch_norm_penalty", "hierarchical_kl_weight_at", "penalty_weight_at"]

CONSTANT_SHARE, LEAST_WEIGHT = 1e-4, 1e-4
LEAST_DIVERGENCE = 0.01


def hierarchical_kl_weight_at(iteration: int, num_iterations: int, warmup: float = 0.3) -> float:
    """Returns NVAE's weight β of the divergence: from 1e-4 to 1, linearly over a share ``warmup`` of training.

    Example:
        >>> [round(hierarchical_kl_weight_at(iteration, 1000), 3) for iteration in (0, 150, 400)]
        [0.0, 0.5, 1.0]
    """
    if warmup <= 0:
        return 1.0
    return max(min((iteration - CONSTANT_SHARE * num_iterations) / (warmup * num_iterations), 1.0), LEAST_WEIGHT)


def balancing_weights(
    kl: Tensor, num_groups: Sequence[int], whole_mean: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Returns the weights γ (groups,) of the divergences of a batch, without gradient.

    Arguments:
        kl: The divergences (B, groups), the coarsest group first.
        num_groups: The number of groups of each scale, the coarsest scale first.
        whole_mean: Maps a mean over this part of a batch to that over the whole; by default it is the whole.

    Raises:
        ValueError: If there are more or fewer groups.

    Example:
        >>> balancing_weights(torch.tensor([[1.0, 3.0]]), (1, 1))
        tensor([1.1461, 0.8539])
    """
    if sum(num_groups) != kl.shape[1]:
        raise ValueError(f"{kl.shape[1]} groups: expected {sum(num_groups)}, as there are in the scales")
    shares = [(2**scale) ** 2 / count for scale, count in enumerate(num_groups) for _ in range(count)]
    alpha = kl.new_tensor(shares) / min(shares)
    means = kl.detach().abs().mean(0)
    weights = ((means if whole_mean is None else whole_mean(means)) + LEAST_DIVERGENCE) / alpha
    balanced: Tensor = weights / weights.mean()
    return balanced


def batch_norm_penalty(network: nn.Module) -> Tensor:
    """Returns Σ max|g| over the scales g of all batch norms of a network, a scalar; 0 without any.

    Example:
        >>> batch_norm_penalty(nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(2)))
        tensor(2., grad_fn=<SumBackward0>)
    """
    scales = [module.weight.abs().amax() for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    return torch.stack(scales).sum() if scales else torch.zeros(())


def penalty_weight_at(kl_weight: float, weight: float, initial: float | None = None) -> float:
    """Returns the weight λ of the penalty; with an initial one it goes from there log-linearly as β goes from 0 to 1.

    Example:
        >>> [round(penalty_weight_at(kl_weight, 0.1, 10.0), 3) for kl_weight in (0.0, 0.5, 1.0)]
        [10.0, 1.0, 0.1]
    """
    if initial is None:
        return weight
    return math.exp((1 - kl_weight) * math.log(initial) + kl_weight * math.log(weight))
