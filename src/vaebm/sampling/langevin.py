r"""Unadjusted Langevin dynamics.

noise ← noise + (η/2) ∇ log h(noise) + √η ξ, ξ ~ N(0, I). Without an accept step the stationary density is biased: for
h = N(0, 1) its variance is 1/(1 − η/4), so the bias is of first order in η.

How far a chain is from following h is told by the probability with which each move would have been accepted by
Metropolis and Hastings. It needs the gradient where the move ends, so it is known for nothing one step later.

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


def metropolis_ratio(start: ChainState, end: ChainState, step_size: float) -> Tensor:
    """Returns log h(end) q(start|end) − log h(start) q(end|start), (B,), float64; q is the density of a Langevin move.

    Both states must know log-density and gradient.
    """
    assert start.log_density is not None
    assert end.log_density is not None
    rise = end.log_density.double() - start.log_density.double()
    return rise + _log_move(end, start, step_size) - _log_move(start, end, step_size)


def _log_move(start: ChainState, end: ChainState, step_size: float) -> Tensor:
    """Returns log q(end|start), (B,), up to a constant."""
    assert start.grad is not None
    drift = start.noise.double() + 0.5 * step_size * start.grad.double()
    return -(end.noise.double() - drift).square().sum(1) / (2 * step_size)


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

    def draw(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        """Draws what a step draws, (B, D); see ``pass_over``."""
        return torch.randn(noise.shape, generator=generator, device=generator.device, dtype=noise.dtype)

    def __call__(self, state: ChainState, log_density: LogDensity, generator: torch.Generator) -> Transition:
        """Moves all chains by one step."""
        value, grad = evaluate(log_density, state)
        here = ChainState(state.noise.detach(), value, grad)
        move = langevin_move(grad, self.step_size, generator)
        earlier = None
        if state.before is not None:
            # Not a number: refused.
            earlier = metropolis_ratio(state.before, here, self.step_size).clamp(max=0).exp().nan_to_num(0.0)
        info = KernelInfo(value, grad.norm(dim=1), move.norm(dim=1), torch.ones_like(value), earlier)
        return Transition(ChainState(here.noise + move, before=here), info)
