from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from vaebm.training import Progress, fit
from vaebm.training.fit import one_cycle


@dataclass
class Sum:
    iteration: int
    total: float


def add(state: Sum, images: Tensor) -> Progress[Sum]:
    total = state.total + float(images.sum())
    return Progress(Sum(state.iteration + 1, total), {"total": total})


def batches() -> itertools.count[Tensor]:
    return (torch.tensor([float(number)]) for number in itertools.count(1))


def test_it_yields_state_and_figures_after_each_iteration() -> None:
    progress = list(fit(add, Sum(0, 0.0), batches(), 4))
    assert [one.state.iteration for one in progress] == [1, 2, 3, 4]
    assert [one.figures["total"] for one in progress] == [1, 3, 6, 10]


def test_iterations_behind_the_state_count() -> None:
    assert [one.state.iteration for one in fit(add, Sum(2, 0.0), batches(), 4)] == [3, 4]
    assert list(fit(add, Sum(4, 0.0), batches(), 4)) == []


def test_the_caller_may_stop_and_no_batch_is_drawn_ahead() -> None:
    source = batches()
    state = Sum(0, 0.0)
    for progress in fit(add, state, source, 10):
        state = progress.state
        if state.iteration == 2:
            break
    assert float(next(source)) == 3
    assert (state.iteration, state.total) == (2, 3)


def test_one_cycle_rises_then_falls_to_zero() -> None:
    rates = [one_cycle(iteration, 400, 2.0) for iteration in range(401)]
    assert rates[0] == pytest.approx(0.08)
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[100] == max(rates) == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(0, abs=1e-15)
    assert max(abs(one - other) for one, other in itertools.pairwise(rates)) < 0.04
