"""Two real processes train as one does, in both stages, by Langevin chains and by MALA with jumps."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from two_processes import launch, work

from vaebm.distributed import Engine, make_engine
from vaebm.models import NVAE, VAEBM, ConvVAE, EnergyNetwork
from vaebm.training import (
    EnergySettings,
    GuardSettings,
    VAESettings,
    energy_step,
    fit,
    guarded_fit,
    start_energy,
    start_vae,
    vae_step,
)

# Uneven, so that one process has more rows than the other.
BATCH_SIZE = 7
SINGLE_CELLS = {"encoder_cells": 1, "decoder_cells": 1, "outer_cells": 1}


def train_hierarchical(engine: Engine, batch_size: int) -> dict[str, Tensor]:
    """Stage 1 of an NVAE, whose batch norms and balanced groups look at the whole batch."""
    torch.manual_seed(0)
    images = torch.rand(batch_size, 3, 8, 8) * 2 - 1
    vae = NVAE((3, 8, 8), (1, 2), latents=2, encoder_width=4, decoder_width=4, **SINGLE_CELLS)
    settings = VAESettings(num_iterations=20, batch_size=batch_size, objective="balanced", kl_warmup=1.0, penalty=0.1)
    state = start_vae(vae, settings, torch.Generator().manual_seed(1))
    state.optimizer = torch.optim.SGD(vae.parameters(), 0.01)
    figures = {}
    for progress in fit(vae_step(vae, settings, engine), state, iter([images] * 10), 10):
        figures = {f"nvae.{batch_size}.{name}": torch.tensor(value) for name, value in progress.figures.items()}
    return figures | {f"nvae.{batch_size}.{name}": value.clone() for name, value in vae.state_dict().items()}


def train_apart(engine: Engine) -> dict[str, Tensor]:
    """Stage 1 of an NVAE whose batch norms see the batch of their own process; each keeps what all must agree on."""
    torch.manual_seed(0)
    images = torch.rand(8, 3, 8, 8) * 2 - 1
    vae = NVAE((3, 8, 8), (1, 2), latents=2, encoder_width=4, decoder_width=4, **SINGLE_CELLS)
    settings = VAESettings(num_iterations=20, batch_size=8, objective="balanced", shared_batch_norm=False)
    state = start_vae(vae, settings, torch.Generator().manual_seed(1))
    for _ in fit(vae_step(vae, settings, engine), state, iter([images] * 5), 5):
        pass
    return {f"apart.{name}": value.clone() for name, value in vae.state_dict().items()}


def train(engine: Engine) -> dict[str, Tensor]:
    """Both stages for a few iterations.

    With SGD, as the first steps of Adam are of one size however small a gradient, and so show its rounding.
    """
    torch.manual_seed(0)
    images = torch.rand(BATCH_SIZE, 1, 8, 8) * 2 - 1
    vae = ConvVAE((1, 8, 8), (4, 2), widths=(16,), num_hidden=8, scale_kind="pixel", scale=0.2)
    model = VAEBM(vae, EnergyNetwork((1, 8, 8), widths=(4, 6), num_hidden=8)).to(engine.device)
    first = VAESettings(num_iterations=3, batch_size=BATCH_SIZE, learning_rate=0.1)
    state = start_vae(vae, first, torch.Generator().manual_seed(1))
    state.optimizer = torch.optim.SGD(vae.parameters(), 0.1)
    # With one image, one of the processes has none.
    figures = train_hierarchical(engine, BATCH_SIZE) | train_hierarchical(engine, 1) | train_apart(engine)
    for progress in fit(vae_step(vae, first, engine), state, iter([images] * 3), 3):
        figures |= {f"vae.{name}": torch.tensor(value) for name, value in progress.figures.items()}
    for kernel, jump_probability in (("langevin", 0.0), ("mala", 0.5)):
        second = EnergySettings(
            num_iterations=20, batch_size=BATCH_SIZE, num_steps=3, buffer_size=10, centring=1.0, learning_rate=0.01,
            kernel=kernel, jump_probability=jump_probability,
        )  # fmt: skip
        begun = start_energy(model, second, images, torch.Generator().manual_seed(2))
        begun.optimizer = torch.optim.SGD(model.energy.parameters(), 0.01)
        for progress in fit(energy_step(model, second, engine), begun, iter([images] * 20), 20):
            figures |= {f"{kernel}.{name}": torch.tensor(value) for name, value in progress.figures.items()}
            begun = progress.state
        figures |= {f"{kernel}.{name}": value.clone() for name, value in model.state_dict().items()}
        figures[f"{kernel}.buffer"] = begun.buffer.noise
    # A guard that is easily alarmed goes back in all processes at once.
    guard = GuardSettings(window=3, snapshot_every=4, largest_noise_norm=1.0, num_attempts=3)
    begun = start_energy(model, second, images, torch.Generator().manual_seed(2))
    begun.optimizer = torch.optim.SGD(model.energy.parameters(), 0.01)
    make_step = partial(energy_step, model, engine=engine)
    *_, last = guarded_fit(model, second, make_step, begun, iter([images] * 90), guard)
    acts = [(act.iteration, act.returned_to, act.learning_rate, act.step_size) for act in last.memory.acts]
    figures["guard.acts"] = torch.tensor(acts)
    return figures | {f"guard.{name}": value.clone() for name, value in model.state_dict().items()}


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    alone = train(make_engine("fp32", "cpu"))
    first, second = launch(__file__, tmp_path)
    assert float(alone["langevin.num_replayed"]) > 0
    assert 0 < float(alone["mala.acceptance"]) < 1
    assert len(alone["guard.acts"]) > 1
    apart = {name for name in alone if name.startswith("apart.")}
    for name in sorted(apart):
        # All agree on weights and averaged statistics, to the bit; alone they are others.
        assert torch.equal(first[name], second[name]), name
    assert any(name.endswith("running_var") and not torch.allclose(first[name], alone[name]) for name in apart)
    for name, value in alone.items():
        if name in apart:
            continue
        for result in (first, second):
            assert torch.allclose(result[name].double(), value.double(), rtol=1e-5, atol=1e-5, equal_nan=True), name


if __name__ == "__main__":
    work(Path(sys.argv[1]), train)
