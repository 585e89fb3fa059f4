"""MALA on a standard normal, where the acceptance is known: min(1, exp(−(η/8)(x'² − x²)))."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaebm.sampling import ChainState, Langevin, Mala, run_chain

DOUBLE = torch.float64


def standard_normal(noise: Tensor) -> Tensor:
    return -0.5 * noise.square().sum(1)


@pytest.mark.parametrize("step_size", [0.01, 0.5, 2.0])
def test_acceptance_is_the_closed_form(step_size: float) -> None:
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    proposed = Langevin(step_size)(ChainState(noise), standard_normal, torch.Generator().manual_seed(2)).state.noise
    info = Mala(step_size)(ChainState(noise), standard_normal, torch.Generator().manual_seed(2)).info
    rise = proposed.square().sum(1) - noise.square().sum(1)
    assert torch.allclose(info.acceptance, (-step_size / 8 * rise).exp().clamp(max=1), rtol=1e-10)


def test_chains_stay_or_go_where_langevin_goes() -> None:
    noise = 2 * torch.randn(500, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    proposed = Langevin(2.0)(ChainState(noise), standard_normal, torch.Generator().manual_seed(2)).state.noise
    state, info = Mala(2.0)(ChainState(noise), standard_normal, torch.Generator().manual_seed(2))
    gone, stayed = (state.noise == proposed).all(1), (state.noise == noise).all(1)
    assert (gone ^ stayed).all()
    assert 0 < int(stayed.sum()) < 250
    assert torch.equal(info.displacement == 0, stayed)


@pytest.mark.parametrize("step_size", [0.5, 3.0])
def test_the_stationary_density_has_no_bias(step_size: float, generator: torch.Generator) -> None:
    noise = torch.randn(50_000, 1, generator=generator, dtype=DOUBLE)
    for step in run_chain(Mala(step_size), noise, standard_normal, 20, generator):
        noise = step.state.noise
    # Langevin's variance would be 1 / (1 − η/4): 1.14 and 4. Standard error .006.
    assert float(noise.var()) == pytest.approx(1, abs=0.03)


def test_where_the_density_ends_no_chain_goes() -> None:
    def half(noise: Tensor) -> Tensor:
        return torch.where(noise[:, 0] > 0, standard_normal(noise), torch.nan)

    noise = torch.full((200, 1), 0.05, dtype=DOUBLE)
    state, info = Mala(1.0)(ChainState(noise), half, torch.Generator().manual_seed(0))
    assert (state.noise > 0).all()
    assert (info.acceptance == 0).sum() > 50


@pytest.mark.parametrize("step_size", [0.0, -1.0, float("nan")])
def test_a_step_size_must_be_positive(step_size: float) -> None:
    with pytest.raises(ValueError, match="step_size"):
        Mala(step_size)
