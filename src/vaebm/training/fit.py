"""The training loop, a generator that yields; logging, plots and checkpoints stay in the caller's ``for`` body."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor


class TrainingState(Protocol):
    """What goes from one step to the next."""

    iteration: int


StateT = TypeVar("StateT", bound=TrainingState)


class Progress(NamedTuple, Generic[StateT]):
    """The state after an iteration, and its figures by name."""

    state: StateT
    figures: dict[str, float]


def fit(
    step: Callable[[StateT, Tensor], Progress[StateT]], state: StateT, batches: Iterator[Tensor], num_iterations: int
) -> Iterator[Progress[StateT]]:
    """Steps until ``num_iterations`` are done, counting those that the state has behind it.

    Arguments:
        step: Maps a state and a batch of images (B, C, H, W) to the next state and its figures.
        state: Where to start.
        batches: An endless iterator of batches.
        num_iterations: The iteration at which to end.

    Yields:
        The state and the figures after each iteration.
    """
    while state.iteration < num_iterations:
        progress = step(state, next(batches))
        state = progress.state
        yield progress


def one_cycle(iteration: int, num_iterations: int, peak: float, rise: float = 0.25) -> float:
    """Returns the learning rate of a cosine cycle: from peak/25 up over a share ``rise``, then down to zero.

    Example:
        >>> [round(one_cycle(iteration, 100, 1.0), 2) for iteration in (0, 25, 100)]
        [0.04, 1.0, 0.0]
    """
    position = iteration / num_iterations
    if position < rise:
        return peak * (0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * position / rise)))
    return peak * 0.5 * (1 + math.cos(math.pi * (position - rise) / (1 - rise)))


def warm_cosine(iteration: int, num_iterations: int, peak: float, rise: float, least: float = 0.01) -> float:
    """Returns NVAE's learning rate: up linearly over a share ``rise``, then along a cosine to ``least`` · peak.

    Example:
        >>> [round(warm_cosine(iteration, 100, 1.0, 0.1), 3) for iteration in (0, 5, 10, 55, 100)]
        [0.1, 0.6, 1.0, 0.505, 0.01]
    """
    num_rising = rise * num_iterations
    if iteration < num_rising:
        return peak * min(1.0, (iteration + 1) / num_rising)
    position = (iteration - num_rising) / (num_iterations - num_rising)
    return peak * (least + (1 - least) * 0.5 * (1 + math.cos(math.pi * position)))
