"""Two real processes train the energy network of an NVAE as one does: folded chains, in float32 and in bfloat16."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from two_processes import launch, work

from vaebm.distributed import Engine, make_engine
from vaebm.models import NVAE, VAEBM, EnergyNetwork
from vaebm.training import EnergySettings, energy_step, fit, start_energy

PRECISIONS = ("fp32", "bf16")
# Uneven, so that one process has more rows than the other.
BATCH_SIZE, NUM_ITERATIONS = 7, 20


def train(engine: Engine) -> dict[str, Tensor]:
    """Stage 2 for a few iterations in either precision, with SGD, whose first steps don't show rounding."""
    found = {}
    for precision in PRECISIONS:
        torch.manual_seed(0)
        images = torch.rand(BATCH_SIZE, 3, 16, 16) * 2 - 1
        vae = NVAE((3, 16, 16), (1, 2), 2, 4, 4, encoder_cells=1, decoder_cells=1, outer_cells=1)
        energy = EnergyNetwork((3, 16, 16), "residual", (4, 8), depth=1, num_hidden=0, pooling="sum")
        model = VAEBM(vae.eval(), energy)
        settings = EnergySettings(num_iterations=NUM_ITERATIONS, batch_size=BATCH_SIZE, num_steps=3, step_size=0.01,
                                  buffer_size=10, centring=1.0, learning_rate=1e-4)  # fmt: skip
        state = start_energy(model, settings, images, torch.Generator().manual_seed(2))
        state.optimizer = torch.optim.SGD(energy.parameters(), 1e-4)
        step = energy_step(model, settings, replace(engine, precision=precision))
        for progress in fit(step, state, iter([images] * NUM_ITERATIONS), NUM_ITERATIONS):
            for name in ("loss", "gap"):
                told = torch.tensor(progress.figures[name])
                found[f"{precision}.{name}.{progress.state.iteration}"] = told
            state = progress.state
        found |= {f"{precision}.{name}": value.clone() for name, value in energy.state_dict().items()}
        found[f"{precision}.buffer"] = state.buffer.noise
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    return [train(make_engine("fp32", "cpu")), *launch(__file__, tmp_path_factory.mktemp("launched"))]


def test_in_float32_they_are_the_same(results: list[dict[str, Tensor]]) -> None:
    alone, *launched = results
    names = [name for name in alone if name.startswith("fp32.")]
    assert sum(name.startswith("fp32.loss.") for name in names) == NUM_ITERATIONS
    for name in names:
        for result in launched:
            assert torch.allclose(result[name], alone[name], rtol=1e-5, atol=1e-5), name


def losses(result: dict[str, Tensor], precision: str) -> Tensor:
    return torch.stack([result[f"{precision}.loss.{number}"] for number in range(1, NUM_ITERATIONS + 1)])


def test_in_bfloat16_both_agree_to_the_bit_and_with_one_to_its_rounding(results: list[dict[str, Tensor]]) -> None:
    alone, first, second = results
    names = [name for name in alone if name.startswith("bf16.")]
    assert names
    for name in names:
        assert torch.equal(first[name], second[name]), name
    rounding = (losses(alone, "bf16") - losses(alone, "fp32")).abs().max()
    apart = (losses(alone, "bf16") - losses(first, "bf16")).abs().max()
    assert float(apart) < float(rounding) < 0.1 * float(losses(alone, "fp32").abs().max())
    noises = [result["bf16.buffer"] for result in (alone, first)]
    assert float((noises[0] - noises[1]).norm() / noises[0].norm()) < 1e-3


if __name__ == "__main__":
    work(Path(sys.argv[1]), train)
