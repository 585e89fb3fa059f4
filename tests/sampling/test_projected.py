"""Chains in a box."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaebm.sampling import ChainState, Jump, Langevin, Projected, pass_over, run_chain


def normal(noise: Tensor) -> Tensor:
    return -0.5 * noise.square().sum(1)


def test_positions_are_those_of_the_kernel_cut_off() -> None:
    start = torch.linspace(-2, 2, 12).view(3, 4)
    free, _ = Langevin(0.3)(ChainState(start), normal, torch.Generator().manual_seed(0))
    held, info = Projected(Langevin(0.3), 0.5)(ChainState(start), normal, torch.Generator().manual_seed(0))
    torch.testing.assert_close(held.noise, free.noise.clamp(-0.5, 0.5))
    # Nothing is kept that belongs to the place before it was cut off.
    assert (held.log_density, held.grad, held.before) == (None, None, None)
    assert info.earlier_acceptance is None


def test_a_flat_density_fills_the_box() -> None:
    kernel, generator = Projected(Langevin(0.1), 1.0), torch.Generator().manual_seed(0)
    for step in run_chain(kernel, torch.zeros(2000, 1), lambda noise: 0 * noise.sum(1), 200, generator):
        places = step.state.noise
    inside = places[places.abs() < 1]
    # Uniform within, besides what piles up at the faces.
    assert abs(float(inside.mean())) < 0.05
    assert float(inside.var()) == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("kernel", [Projected(Langevin(0.1), 1.0), Projected(Jump(), 1.0)])
def test_passing_over_draws_what_a_chain_draws(kernel: Projected) -> None:
    first, second = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    list(run_chain(kernel, torch.zeros(5, 3), normal, 4, first))
    pass_over(kernel, torch.zeros(5, 3), 4, second)
    assert torch.equal(first.get_state(), second.get_state())


def test_the_bound_is_positive() -> None:
    with pytest.raises(ValueError, match="bound is 0: expected a positive number"):
        Projected(Langevin(0.1), 0)


def test_a_kernel_that_keeps_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="keeps momentum"):
        Projected(Langevin(0.1, 0.5), 1.0)
