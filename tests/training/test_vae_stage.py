"""Stage 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vaebm.data import Batches
from vaebm.distributed import Engine
from vaebm.models import NVAE, ConvVAE
from vaebm.training import Progress, VAESettings, VAEState, fit, start_vae, vae_step

SETTINGS = VAESettings(num_iterations=12, batch_size=16, ema_decay=0.5, kl_weight=2.0)


@dataclass
class Stage:
    """A VAE in training, with all that a checkpoint holds."""

    vae: ConvVAE | NVAE
    batches: Batches
    state: VAEState

    def go(self, engine: Engine, until: int, settings: VAESettings = SETTINGS) -> list[Progress[VAEState]]:
        progress = list(fit(vae_step(self.vae, settings, engine), self.state, self.batches, until))
        self.state = progress[-1].state
        return progress

    def stored(self) -> dict[str, Any]:
        return {"vae": self.vae.state_dict(), "batches": self.batches.state_dict(), "stage": self.state.state_dict()}

    def restore(self, stored: dict[str, Any]) -> None:
        self.vae.load_state_dict(stored["vae"])
        self.batches.load_state_dict(stored["batches"])
        self.state.load_state_dict(stored["stage"])


def begin(digits: Tensor, seed: int = 0, settings: VAESettings = SETTINGS) -> Stage:
    torch.manual_seed(seed)
    vae = ConvVAE((1, 8, 8), (4, 2), widths=(32, 16), num_hidden=16, scale_kind="shared", scale=0.05)
    batches = Batches(digits, settings.batch_size, torch.Generator().manual_seed(seed))
    return Stage(vae, batches, start_vae(vae, settings, torch.Generator().manual_seed(seed + 1)))


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("stop", [1, 5])
def test_resuming_gives_the_same_bits(digits: Tensor, engine: Engine, through_a_file: Any, stop: int) -> None:
    whole, stopped, resumed = begin(digits), begin(digits), begin(digits, seed=9)
    expected = whole.go(engine, 12)
    stopped.go(engine, stop)
    resumed.restore(through_a_file(stopped.stored()))
    found = resumed.go(engine, 12)
    assert equal(resumed.vae.state_dict(), whole.vae.state_dict())
    assert equal(resumed.state.average, whole.state.average)
    assert [one.figures for one in found] == [one.figures for one in expected[stop:]]


def test_other_seed_other_weights(digits: Tensor, engine: Engine) -> None:
    one, other = begin(digits), begin(digits)
    other.state.generator.manual_seed(77)
    one.go(engine, 2)
    other.go(engine, 2)
    assert not equal(one.vae.state_dict(), other.vae.state_dict())


def test_the_elbo_rises(digits: Tensor, engine: Engine) -> None:
    settings = VAESettings(num_iterations=150, batch_size=64)
    figures = [progress.figures for progress in begin(digits, settings=settings).go(engine, 150, settings)]
    first, last = figures[0], figures[-1]
    assert last["elbo"] > first["elbo"] + 20
    assert last["bits_per_dim"] < first["bits_per_dim"]


def test_figures_agree_with_each_other(digits: Tensor, engine: Engine) -> None:
    figures = begin(digits).go(engine, 3)[-1].figures
    assert figures["elbo"] == pytest.approx(figures["log_likelihood"] - figures["kl"], rel=1e-9)
    weighted = (figures["kl_weight"] * figures["kl"] - figures["log_likelihood"]) / 64
    assert figures["loss"] == pytest.approx(weighted, rel=1e-9)
    assert figures["kl_weight"] == pytest.approx(2.0 * (0.05 + 2 / (0.3 * 12)))
    assert figures["learning_rate"] > 0
    assert figures["grad_norm"] > 0


def test_dequantisation_is_uniform_noise_of_the_stated_width(engine: Engine) -> None:
    seen: list[Tensor] = []

    class Recording(ConvVAE):
        def elbo_terms(self, images: Tensor, posterior_noise: Tensor) -> Any:
            seen.append(images)
            return super().elbo_terms(images, posterior_noise)

    vae = Recording((1, 8, 8), (2,), widths=(8,))
    settings = VAESettings(num_iterations=1, dequantization=0.5)
    state = start_vae(vae, settings, torch.Generator().manual_seed(0))
    vae_step(vae, settings, engine)(state, torch.zeros(100, 1, 8, 8))
    noise = seen[0]
    assert -0.25 <= float(noise.min()) < -0.249
    assert 0.249 < float(noise.max()) <= 0.25
    assert float(noise.std()) == pytest.approx(0.5 / 12**0.5, rel=0.02)


def test_without_an_average_none_is_kept(digits: Tensor, engine: Engine) -> None:
    settings = VAESettings(num_iterations=2, batch_size=8)
    stage = begin(digits, settings=settings)
    stage.go(engine, 2, settings)
    assert stage.state.average == {}


def test_the_average_is_that_of_the_weights(digits: Tensor, engine: Engine) -> None:
    stage = begin(digits)
    before = {name: value.clone() for name, value in stage.vae.state_dict().items()}
    stage.go(engine, 1)
    for name, value in stage.vae.state_dict().items():
        assert torch.allclose(stage.state.average[name], 0.5 * (before[name] + value), atol=1e-7)


def test_a_large_gradient_is_clipped(digits: Tensor, engine: Engine) -> None:
    settings = VAESettings(num_iterations=10, batch_size=16, clip_norm=1e-3)
    stage = begin(digits, settings=settings)
    figures = stage.go(engine, 1, settings)[-1].figures
    assert figures["grad_norm"] > 1e-3
    norm = sum(float(parameter.grad.square().sum()) for parameter in stage.vae.parameters()) ** 0.5
    assert norm == pytest.approx(1e-3, rel=1e-3)


HIERARCHICAL = VAESettings(
    num_iterations=20, batch_size=16, learning_rate=1e-2, ema_decay=0.0, kl_warmup=0.3, objective="balanced",
    optimizer="adamax", weight_decay=3e-4, schedule="warm_cosine", rate_warmup=0.1, penalty=0.1, initial_penalty=10.0,
)  # fmt: skip


def begin_hierarchy(digits: Tensor, seed: int = 0) -> Stage:
    torch.manual_seed(seed)
    vae = NVAE((1, 8, 8), groups=(1, 1), latents=2, encoder_width=4, decoder_width=4)
    batches = Batches(digits, 16, torch.Generator().manual_seed(seed))
    return Stage(vae, batches, start_vae(vae, HIERARCHICAL, torch.Generator().manual_seed(seed + 1)))


def test_the_objective_of_nvae_learns_and_resumes_to_the_bit(
    digits: Tensor, engine: Engine, through_a_file: Any
) -> None:
    whole, stopped, resumed = begin_hierarchy(digits), begin_hierarchy(digits), begin_hierarchy(digits, seed=9)
    progress = whole.go(engine, 20, HIERARCHICAL)
    stopped.go(engine, 4, HIERARCHICAL)
    resumed.restore(through_a_file(stopped.stored()))
    resumed.go(engine, 20, HIERARCHICAL)
    assert equal(resumed.vae.state_dict(), whole.vae.state_dict())
    figures = [step.figures for step in progress]
    assert figures[-1]["elbo"] > figures[0]["elbo"]
    assert figures[0]["kl_weight"] == 1e-4
    assert figures[-1]["kl_weight"] == 1
    assert figures[0]["learning_rate"] == pytest.approx(0.005)
    # λ falls from 10 to 0.1 while the divergence is warmed up.
    assert figures[0]["penalty"] > 50 * figures[-1]["penalty"] > 0


def test_balancing_and_penalty_change_the_step(digits: Tensor, engine: Engine) -> None:
    """Without them the same first step gives other weights; the figures of the ELBO are the same."""
    stage = begin_hierarchy(digits)
    (first,) = stage.go(engine, 1, HIERARCHICAL)
    for change in ({"objective": "elbo", "kl_weight": 1e-4, "kl_warmup": 0.0}, {"penalty": 0.0}):
        other = begin_hierarchy(digits)
        settings = replace(HIERARCHICAL, **change)
        other.state = replace(other.state, vectors={}) if "penalty" in change else other.state
        (found,) = other.go(engine, 1, settings)
        assert found.figures["elbo"] == first.figures["elbo"]
        assert not equal(other.vae.state_dict(), stage.vae.state_dict())
