"""The energy stage with other kernels, and without chains, on a ring of Gaussians."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vaebm.data import planar_density
from vaebm.distributed import make_engine
from vaebm.models import VAEBM, ConvVAE, DenseEnergy
from vaebm.sampling import Jump, Langevin, Mala, Mixture
from vaebm.training import (
    EnergySettings,
    EnergyState,
    Progress,
    energy_step,
    fit,
    log_density_of,
    make_kernel,
    start_energy,
)


def batches() -> Iterator[Tensor]:
    density, generator = planar_density("ring"), torch.Generator().manual_seed(0)
    while True:
        yield density.to_images(density.sample(64, generator))


def train(**settings: object) -> list[Progress[EnergyState]]:
    torch.manual_seed(0)
    model = VAEBM(ConvVAE((2, 1, 1), (2,), widths=(16,)), DenseEnergy((2, 1, 1), widths=(16, 16)))
    chosen = EnergySettings(
        num_iterations=30,
        batch_size=64,
        learning_rate=5e-3,
        num_steps=4,
        matched_noise=False,
        **settings,  # type: ignore[arg-type]
    )
    data = batches()
    state = start_energy(model, chosen, next(data), torch.Generator().manual_seed(1))
    return list(fit(energy_step(model, chosen, make_engine("fp32", "cpu")), state, data, 30))


def test_the_importance_sampled_objective_runs_no_chain_and_falls() -> None:
    steps = train(objective="importance_sampled", num_prior_samples=256)
    assert {"loss", "data_energy", "log_z", "effective_sample_size"} <= steps[0].figures.keys()
    assert "sample_energy" not in steps[0].figures
    assert len(steps[-1].state.buffer.noise) == 0
    assert sum(step.figures["loss"] for step in steps[-5:]) < sum(step.figures["loss"] for step in steps[:5]) - 0.2
    assert 1 < steps[-1].figures["effective_sample_size"] <= 256
    again = train(objective="importance_sampled", num_prior_samples=256)
    assert [step.figures for step in again] == [step.figures for step in steps]


@pytest.mark.parametrize(("kernel", "jumps"), [("langevin", 0.0), ("mala", 0.0), ("mala", 0.5), ("langevin", 1.0)])
def test_chains_of_any_kernel(kernel: str, jumps: float) -> None:
    figures = train(kernel=kernel, jump_probability=jumps)[-1].figures
    assert (figures["acceptance"] == 1) == (kernel == "langevin" and jumps == 0)
    assert 0 < figures["acceptance"] <= 1
    assert (figures["chain_grad_norm"] != figures["chain_grad_norm"]) == (jumps == 1)
    assert figures["displacement"] > 0


def test_chains_that_keep_momentum_go_further() -> None:
    plain, kept = (train(persistence=part)[0].figures["displacement"] for part in (0.0, 0.8))
    assert kept > 1.2 * plain


def test_kernels_by_name() -> None:
    assert make_kernel("langevin", 0.1) == Langevin(0.1)
    assert make_kernel("mala", 0.1, 0.25) == Mixture((Mala(0.1), Jump()), (0.75, 0.25))
    assert make_kernel("mala", 0.1, 1.0) == Jump()
    assert make_kernel("langevin", 0.1, persistence=0.5) == Langevin(0.1, 0.5)
    for name, jumps in (("mala", 0.0), ("langevin", 0.5)):
        with pytest.raises(ValueError, match="only langevin without jumps keeps momentum"):
            make_kernel(name, 0.1, jumps, 0.5)
    with pytest.raises(ValueError, match="expected one of langevin, mala"):
        make_kernel("hmc", 0.1)


def test_chains_under_the_official_potential_go_elsewhere() -> None:
    exact, official = (train(potential=name)[0].figures["displacement"] for name in ("exact", "official"))
    assert exact != official
    model = VAEBM(ConvVAE((2, 1, 1), (2,), widths=(16,)), DenseEnergy((2, 1, 1), widths=(16, 16)))
    assert log_density_of(model, "official") == model.official_log_density
    assert log_density_of(model, "exact") == model.log_density
    with pytest.raises(ValueError, match="expected one of exact, official"):
        log_density_of(model, "other")
