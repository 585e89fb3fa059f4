r"""The Metropolis-adjusted Langevin algorithm: a Langevin move, accepted or refused, so that h is exactly stationary.

noise' = noise + (η/2) ∇ log h(noise) + √η ξ, accepted with probability min(1, h(noise') q(noise|noise') / (h(noise)
q(noise'|noise))), q the density of the move. Local, like the move itself: chains don't cross between far modes.

References:
    Exponential convergence of Langevin distributions and their discrete approximations (Roberts, Tweedie),
    https://doi.org/10.2307/3318418
    Optimal scaling of discrete approximations to Langevin diffusions (acceptance .574; Roberts, Rosenthal),
    https://doi.org/10.1111/1467-9868.00123
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vaebm.sampling.kernel import ChainState, KernelInfo, LogDensity, Transition, accept, evaluate, grad_log_density
from vaebm.sampling.langevin import check_step_size, langevin_move, metropolis_ratio


@dataclass(frozen=True)
class Mala:
    """The Metropolis-adjusted Langevin kernel.

    Arguments:
        step_size: The step size η > 0 of the paper.

    Raises:
        ValueError: If the step size is not positive.

    Example:
        >>> target = lambda noise: -0.5 * noise.square().sum(1)
        >>> state, info = Mala(0.1)(ChainState(torch.ones(2, 3)), target, torch.Generator().manual_seed(0))
        >>> bool((info.acceptance > 0.9).all())
        True
    """

    step_size: float

    def __post_init__(self) -> None:
        check_step_size(self.step_size)

    def __call__(self, state: ChainState, log_density: LogDensity, generator: torch.Generator) -> Transition:
        """Moves all chains by one step; a state that knows its gradient costs one evaluation, else two."""
        value, grad = evaluate(log_density, state)
        here = ChainState(state.noise.detach(), value, grad)
        move = langevin_move(grad, self.step_size, generator)
        there = ChainState(here.noise + move, *grad_log_density(log_density, here.noise + move))
        after, probability = accept(here, there, metropolis_ratio(here, there, self.step_size), generator)
        moved = (after.noise - here.noise).norm(dim=1)
        return Transition(after, KernelInfo(value, grad.norm(dim=1), moved, probability))
