"""What is said of chains, where it is known what should be said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from vaebm.evaluation import diagnose_chains
from vaebm.models import VAEBM
from vaebm.sampling import Jump, Langevin, Mala

if TYPE_CHECKING:
    from conftest import LinearGaussianVAE, ZeroEnergy


class Wells(nn.Module):
    """Two narrow wells at ±1 in the first pixel."""

    def forward(self, images: Tensor) -> Tensor:
        return 400 * (images.flatten(1)[:, 0].abs() - 1).square()


def test_chains_of_the_vae_agree_and_jumps_are_free(
    linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy, generator: torch.Generator
) -> None:
    model = VAEBM(linear_vae, zero_energy).requires_grad_(False)
    found = diagnose_chains(model, Mala(0.5), 400, generator, num_draws=300)
    assert found.noise_rhat < 1.05
    assert found.noise_ess > 2000
    assert found.jump_acceptance == pytest.approx(1)
    assert found.importance_ess == pytest.approx(300)
    assert (found.num_chains, found.num_steps, found.num_draws) == (100, 200, 300)
    assert 0.5 < found.acceptance < 1


def test_narrow_wells_let_few_jumps_in(linear_vae: LinearGaussianVAE, generator: torch.Generator) -> None:
    model = VAEBM(linear_vae, Wells()).requires_grad_(False)
    local = diagnose_chains(model, Langevin(0.002), 40, generator, num_draws=2000)
    assert local.acceptance == 1
    assert local.jump_acceptance < 0.5
    assert 10 < local.importance_ess < 1000
    assert local.noise_rhat > 1.05
    assert diagnose_chains(model, Jump(), 40, generator).acceptance < 0.5


def test_short_chains_are_refused(linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy) -> None:
    with pytest.raises(ValueError, match="at least 8 steps"):
        diagnose_chains(VAEBM(linear_vae, zero_energy), Mala(0.5), 7, torch.Generator())


def test_large_models_run_few_chains_at_once(
    linear_vae: LinearGaussianVAE, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = VAEBM(linear_vae, Wells()).requires_grad_(False)
    assert model.largest_batch == 250
    monkeypatch.setattr("vaebm.models.vaebm.MOST_NOISE", 30 * model.noise_layout.size)
    assert model.largest_batch == 30
    sizes = []
    handle = model.energy.register_forward_hook(lambda module, images, values: sizes.append(len(values)))
    found = diagnose_chains(model, Mala(0.1), 200, generator, num_draws=100)
    handle.remove()
    assert max(sizes) == 30
    assert (found.num_chains, found.num_steps, found.num_draws) == (100, 100, 100)
    assert 0 < found.acceptance < 1
