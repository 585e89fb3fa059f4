r"""Unadjusted Langevin dynamics.

noise ← noise + (η/2) ∇ log h(noise) + √η ξ, ξ ~ N(0, I). Without an accept step the stationary density is biased: for
h = N(0, 1) its variance is 1/(1 − η/4), so the bias is of first order in η.

How far a chain is from following h is told by the probability with which each move would have been accepted by
Metropolis and Hastings. It needs the gradient where the move ends, so it is known for nothing one step later.

A step is a leapfrog step of Hamiltonian dynamics, of length √η and with fresh momentum ξ. Chains that keep a part c of
it, momentum ← c · momentum + √(1 − c²) ξ, go on in the same direction: underdamped Langevin dynamics. At the same cost,
one gradient a step, they come further; the stationary density has the same bias of first order.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
    A generalized guided Monte Carlo algorithm (Horowitz), https://doi.org/10.1016/0370-2693(91)90812-5
    Exponential convergence of Langevin distributions and their discrete approximations (Roberts, Tweedie),
    https://doi.org/10.2307/3318418
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vaebm.sampling.kernel import ChainState, KernelInfo, LogDensity, Transition, evaluate


def check_step_size(step_size: float) -> None:
    """Raises a ``ValueError`` if a step size is not positive."""
    if not step_size > 0:
        raise ValueError(f"step_size is {step_size}: expected a positive number")


def check_persistence(persistence: float) -> None:
    """Raises a ``ValueError`` if a persistence is not in [0, 1)."""
    if not 0 <= persistence < 1:
        raise ValueError(f"persistence is {persistence}: expected a number from 0 to below 1")


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
    """The unadjusted Langevin kernel, with or without momentum.

    Arguments:
        step_size: The step size η > 0 of the paper.
        persistence: How much of its momentum a chain keeps from step to step, from 0 (the paper's dynamics) to below 1.

    Raises:
        ValueError: If the step size is not positive, or the persistence not in [0, 1).

    Example:
        >>> kernel = Langevin(0.01)
        >>> target = lambda noise: -0.5 * noise.square().sum(1)
        >>> state, info = kernel(ChainState(torch.ones(2, 3)), target, torch.Generator().manual_seed(0))
        >>> info.log_density
        tensor([-1.5000, -1.5000])
    """

    step_size: float
    persistence: float = 0.0

    def __post_init__(self) -> None:
        check_step_size(self.step_size)
        check_persistence(self.persistence)

    def draw(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        """Draws what a step draws, (B, D); see ``pass_over``."""
        return torch.randn(noise.shape, generator=generator, device=generator.device, dtype=noise.dtype)

    def __call__(self, state: ChainState, log_density: LogDensity, generator: torch.Generator) -> Transition:
        """Moves all chains by one step."""
        value, grad = evaluate(log_density, state)
        here = ChainState(state.noise.detach(), value, grad)
        if self.persistence:
            return self._keep_momentum(state, here, generator)
        move = langevin_move(grad, self.step_size, generator)
        earlier = None
        if state.before is not None:
            # Not a number: refused.
            earlier = metropolis_ratio(state.before, here, self.step_size).clamp(max=0).exp().nan_to_num(0.0)
        info = KernelInfo(value, grad.norm(dim=1), move.norm(dim=1), torch.ones_like(value), earlier)
        return Transition(ChainState(here.noise + move, before=here), info)

    def _keep_momentum(self, state: ChainState, here: ChainState, generator: torch.Generator) -> Transition:
        """Ends the leapfrog step before this one, renews a part of the momentum, and begins the next step."""
        assert here.log_density is not None
        assert here.grad is not None
        half_kick = 0.5 * self.step_size**0.5 * here.grad
        momentum, earlier = self.draw(here.noise, generator).to(here.noise.device), None
        if state.momentum is not None:
            ended = state.momentum + half_kick
            if state.before is not None:
                earlier = _energy_drop(state.before, here, ended).clamp(max=0).exp().nan_to_num(0.0)
            momentum = self.persistence * ended + (1 - self.persistence**2) ** 0.5 * momentum
        before = replace(here, momentum=momentum)
        kicked = momentum + half_kick
        move = self.step_size**0.5 * kicked
        value = here.log_density
        info = KernelInfo(value, here.grad.norm(dim=1), move.norm(dim=1), torch.ones_like(value), earlier)
        return Transition(ChainState(here.noise + move, before=before, momentum=kicked), info)


def _energy_drop(start: ChainState, end: ChainState, momentum: Tensor) -> Tensor:
    """Returns by how much log h − |momentum|²/2 rose over a leapfrog step, (B,), float64."""
    assert start.log_density is not None
    assert start.momentum is not None
    assert end.log_density is not None
    kinetic = 0.5 * (start.momentum.double().square().sum(1) - momentum.double().square().sum(1))
    return end.log_density.double() - start.log_density.double() + kinetic
