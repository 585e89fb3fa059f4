r"""Metropolised jumps that leave N(0, I) invariant: independent draws, or partial ones.

noise' = √(1 − ρ²) noise + ρ ξ, ξ ~ N(0, I), keeps N(0, I) for any ρ. For h ∝ N(0, I) · exp(−E) the proposal therefore
cancels against the base, and the acceptance is min(1, exp(E − E')): only the change of the energy counts, and no
gradient is taken. With ρ = 1 the move forgets where it was and crosses between any two modes; with a small ρ it is the
local move of the preconditioned Crank–Nicolson algorithm.

References:
    MCMC methods for functions: modifying old algorithms to make them faster (Cotter, Roberts, Stuart, White),
    https://arxiv.org/abs/1202.0709
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.sampling.kernel import ChainState, KernelInfo, LogDensity, Transition, accept


@dataclass(frozen=True)
class Jump:
    """The kernel of Metropolised jumps.

    Arguments:
        size: The share ρ of fresh noise, above 0 and at most 1; 1 is an independent draw.

    Raises:
        ValueError: If the size is out of range.

    Example:
        >>> target = lambda noise: -0.5 * noise.square().sum(1)
        >>> state, info = Jump()(ChainState(torch.ones(2, 3)), target, torch.Generator().manual_seed(0))
        >>> info.acceptance
        tensor([1., 1.], dtype=torch.float64)
    """

    size: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.size <= 1:
            raise ValueError(f"size is {self.size}: expected a number above 0 and at most 1")

    @torch.no_grad()
    def __call__(self, state: ChainState, log_density: LogDensity, generator: torch.Generator) -> Transition:
        """Proposes one jump to each chain."""
        noise = state.noise.detach()
        value = log_density(noise) if state.log_density is None else state.log_density
        fresh = torch.randn(noise.shape, generator=generator, device=generator.device, dtype=noise.dtype)
        proposed = (1 - self.size**2) ** 0.5 * noise + self.size * fresh.to(noise.device)
        there = ChainState(proposed, log_density(proposed))
        assert there.log_density is not None
        log_ratio = _tilt(there.log_density, proposed) - _tilt(value, noise)
        after, probability = accept(ChainState(noise, value), there, log_ratio, generator)
        moved = (after.noise - noise).norm(dim=1)
        return Transition(after, KernelInfo(value, torch.full_like(value, torch.nan), moved, probability))


def _tilt(log_density: Tensor, noise: Tensor) -> Tensor:
    """Returns log h − log N(0, I) up to a constant, (B,), float64: where log h is float64, exact to its precision."""
    return log_density.double() + 0.5 * noise.double().square().sum(1)
