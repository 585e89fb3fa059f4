r"""Unadjusted Langevin dynamics.

noise ← noise + (η/2) ∇ log h(noise) + √η ξ, ξ ~ N(0, I). Without an accept step the stationary density is biased: for
h = N(0, 1) its variance is 1/(1 − η/4), so the bias is of first order in η.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
    Exponential convergence of Langevin distributions and their discrete approximations (Roberts, Tweedie),
    https://doi.org/10.2307/3318418
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.sampling.kernel import ChainState, KernelInfo, LogDensity, Transition, evaluate


def check_step_size(step_size: float) -> None:
    """Raises a ``ValueError`` if a step size is not positive."""
    if not step_size > 0:
        raise ValueError(f"step_size is {step_size}: expected a positive number")


def langevin_move(grad: Tensor, step_size: float, generator: torch.Generator) -> Tensor:
    """Draws (η/2) ∇ log h + √η ξ, shape (B, D), of the gradient (B, D)."""
    fresh = torch.randn(grad.shape, generator=generator, device=generator.device, dtype=grad.dtype)
    move: Tensor = 0.5 * step_size * grad + step_size**0.5 * fresh.to(grad.device)
    return move


@dataclass(frozen=True)
class Langevin:
    """The unadjusted Langevin kernel.

    Arguments:
        step_size: The step size η > 0 of the paper.

    Raises:
        ValueError: If the step size is not positive.

    Example:
        >>> kernel = Langevin(0.01)
        >>> target = lambda noise: -0.5 * noise.square().sum(1)
        >>> state, info = kernel(ChainState(torch.ones(2, 3)), target, torch.Generator().manual_seed(0))
        >>> info.log_density
        tensor([-1.5000, -1.5000])
    """

    step_size: float

    def __post_init__(self) -> None:
        check_step_size(self.step_size)

    def __call__(self, state: ChainState, log_density: LogDensity, generator: torch.Generator) -> Transition:
        """Moves all chains by one step."""
        value, grad = evaluate(log_density, state)
        move = langevin_move(grad, self.step_size, generator)
        info = KernelInfo(value, grad.norm(dim=1), move.norm(dim=1), torch.ones_like(value))
        return Transition(ChainState(state.noise.detach() + move), info)
