"""Two real processes train by the importance-sampled likelihood as one does: the normaliser rests on all draws."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from two_processes import launch, work

from vaebm.distributed import Engine, make_engine
from vaebm.models import VAEBM, ConvVAE, DenseEnergy, EnergyNetwork, ImageFields
from vaebm.training import EnergySettings, energy_step, fit, start_energy

# Uneven, and so few that one of the processes has no data, no draws, or neither.
SIZES = {"uneven": (7, 13), "no data": (1, 12), "no draws": (6, 1), "nothing": (1, 1)}


def settings_of(batch_size: int, num_draws: int, matched: bool) -> EnergySettings:
    return EnergySettings(
        num_iterations=20, batch_size=batch_size, objective="importance_sampled", num_prior_samples=num_draws,
        centring=1.0, spectral=0.01 if matched else 0.0, matched_noise=matched, buffer_size=0,
        learning_rate=1e-3 if matched else 0.1,
    )  # fmt: skip


def run_stage(
    name: str, model: VAEBM, images: Tensor, settings: EnergySettings, engine: Engine, is_adam: bool
) -> dict[str, Tensor]:
    state = start_energy(model, settings, images, torch.Generator().manual_seed(2))
    if not is_adam:
        # The first steps of Adam are of one size however small a gradient, and so show its rounding.
        state.optimizer = torch.optim.SGD(model.energy.parameters(), 0.01)
    batch, found = images[: settings.batch_size], dict[str, Tensor]()
    for progress in fit(energy_step(model, settings, engine), state, iter([batch] * 20), 20):
        at = progress.state.iteration
        found |= {f"{name}.{at}.{figure}": torch.tensor(value) for figure, value in progress.figures.items()}
    return found | {f"{name}.{key}": value.clone() for key, value in model.energy.state_dict().items()}


def train(engine: Engine) -> dict[str, Tensor]:
    """Stage 2 of points and of images, with batches of several sizes."""
    torch.manual_seed(0)
    points, images = torch.rand(8, 2, 1, 1) - 0.5, torch.rand(8, 1, 8, 8) * 2 - 1
    found = {}
    for name, sizes in SIZES.items():
        torch.manual_seed(1)
        vae = ConvVAE((2, 1, 1), (2,), widths=(8, 8), scale_kind="shared", scale=0.1)
        model = VAEBM(vae, DenseEnergy((2, 1, 1), widths=(16, 16), input_scale=4.0), ImageFields(*["sampled"] * 3))
        found |= run_stage(f"points, {name}", model, points, settings_of(*sizes, False), engine, False)
    vae = ConvVAE((1, 8, 8), (4, 2), widths=(16,), num_hidden=8, scale_kind="pixel", scale=0.2)
    model = VAEBM(vae, EnergyNetwork((1, 8, 8), widths=(4, 6), num_hidden=8))
    return found | run_stage("images", model, images, settings_of(7, 13, True), engine, True)


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    alone = train(make_engine("fp32", "cpu"))
    first, second = launch(__file__, tmp_path)
    # The weights of draws tell them apart.
    assert 1 < float(alone["points, uneven.20.effective_sample_size"]) < 12
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        assert torch.allclose(first[name].double(), value.double(), rtol=1e-5, atol=1e-5), name


def test_a_kernel_has_no_place_without_chains() -> None:
    vae = ConvVAE((2, 1, 1), (2,), widths=(8,), scale_kind="shared", scale=0.1)
    model = VAEBM(vae, DenseEnergy((2, 1, 1), widths=(8,)))
    with pytest.raises(ValueError, match="runs no chains"):
        energy_step(model, settings_of(2, 2, False), make_engine("fp32", "cpu"), kernel=object())  # type: ignore[arg-type]


if __name__ == "__main__":
    work(Path(sys.argv[1]), train)
