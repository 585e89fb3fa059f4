"""Chains that are kept in a box: after each move every entry is cut off at a bound.

What is left in the box isn't exactly h restricted to it, since cut-off moves pile up at its faces. It is the practice
of energy-based models in pixel space, whose energy says nothing of colours outside the range of images.

References:
    Implicit Generation and Modeling with Energy-Based Models, https://arxiv.org/abs/1903.08689
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, Transition


@dataclass(frozen=True)
class Projected:
    """A kernel whose positions are cut off at ±bound.

    Arguments:
        kernel: The kernel that moves; its earlier acceptance isn't known any more. None that keeps momentum.
        bound: The largest absolute value of an entry.

    Raises:
        ValueError: If the bound is not positive, or the kernel keeps momentum.

    Example:
        >>> from vaebm.sampling import Langevin
        >>> state = ChainState(torch.full((2, 3), 5.0))
        >>> moved = Projected(Langevin(0.1), 1.0)(state, lambda noise: noise.sum(1), torch.Generator().manual_seed(0))
        >>> float(moved.state.noise.max())
        1.0
    """

    kernel: Kernel
    bound: float

    def __post_init__(self) -> None:
        if getattr(self.kernel, "persistence", 0):
            raise ValueError("the kernel keeps momentum, which a cut would break: expected persistence 0")
        if not self.bound > 0:
            raise ValueError(f"bound is {self.bound}: expected a positive number")

    def draw(self, noise: Tensor, generator: torch.Generator) -> None:
        """Draws what a step draws; see ``pass_over``."""
        draw = getattr(self.kernel, "draw", None)
        if draw is None:
            self.kernel(ChainState(noise), lambda entries: 0 * entries.sum(1), generator)
        else:
            draw(noise, generator)

    def __call__(self, state: ChainState, log_density: LogDensity, generator: torch.Generator) -> Transition:
        """Moves all chains by one step, and cuts them off."""
        moved, info = self.kernel(state, log_density, generator)
        return Transition(ChainState(moved.noise.clamp(-self.bound, self.bound)), info)
