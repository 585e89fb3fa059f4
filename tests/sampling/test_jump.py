"""Jumps see the change of the energy alone; and they cross where local moves are trapped."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vaebm.sampling import ChainState, Jump, Kernel, Langevin, Mala, Mixture, run_chain, split_rhat

DOUBLE = torch.float64


def energy(noise: Tensor) -> Tensor:
    return noise.sin().sum(1)


def log_density(noise: Tensor) -> Tensor:
    return -energy(noise) - 0.5 * noise.square().sum(1)


@pytest.mark.parametrize("size", [1.0, 0.3])
def test_acceptance_is_the_change_of_the_energy(size: float) -> None:
    noise = torch.randn(50, 4, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    fresh = torch.randn(50, 4, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    info = Jump(size)(ChainState(noise), log_density, torch.Generator().manual_seed(2)).info
    proposed = (1 - size**2) ** 0.5 * noise + size * fresh
    expected = (energy(noise) - energy(proposed)).exp().clamp(max=1)
    assert torch.allclose(info.acceptance, expected, rtol=1e-12)


def test_no_gradient_is_taken() -> None:
    def without(noise: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return log_density(noise)

    noise = torch.zeros(3, 2, requires_grad=True)
    info = Jump()(ChainState(noise), without, torch.Generator().manual_seed(0)).info
    assert info.grad_norm.isnan().all()


def wells(noise: Tensor) -> Tensor:
    """N(±2.5, .15²) with masses .3 (left) and .7."""
    left, right = (-0.5 * ((noise[:, 0] - centre) / 0.15).square() for centre in (-2.5, 2.5))
    return torch.logaddexp(left + math.log(0.3), right + math.log(0.7))


TRAPPED = {"langevin": Langevin(0.01), "mala": Mala(0.02)}
CROSSING = {"jump": Jump(), "mala and jump": Mixture((Mala(0.02), Jump()), (0.5, 0.5))}


def chains(kernel: Kernel, num_steps: int) -> Tensor:
    noise = torch.full((400, 1), -2.5, dtype=DOUBLE)
    steps = run_chain(kernel, noise, wells, num_steps, torch.Generator().manual_seed(0))
    return torch.stack([step.state.noise[:, 0] for step in steps], 1)


@pytest.mark.parametrize("kernel", TRAPPED.values(), ids=TRAPPED)
def test_local_moves_stay_in_their_well(kernel: Kernel) -> None:
    seen = chains(kernel, 400)
    assert (seen < 0).all()
    # The trap's second half: started in one well, they agree with each other. No R̂ warns.
    assert split_rhat(seen[:8, 100:]) < 1.2


@pytest.mark.parametrize("kernel", CROSSING.values(), ids=CROSSING)
def test_jumps_cross_and_find_the_masses(kernel: Kernel) -> None:
    seen = chains(kernel, 1500)
    # Standard error of 400 chains: .023.
    assert float((seen[:, -1] > 0).double().mean()) == pytest.approx(0.7, abs=0.08)


@pytest.mark.parametrize("size", [0.0, -0.5, 1.5, float("nan")])
def test_a_size_must_be_a_share(size: float) -> None:
    with pytest.raises(ValueError, match="size"):
        Jump(size)
