"""Stage 2."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaebm.data import Batches, to_float
from vaebm.distributed import Engine
from vaebm.distributions import standard_normal_log_prob
from vaebm.metrics import feature_statistics, frechet_distance
from vaebm.models import NVAE, VAEBM, ConvVAE, EnergyNetwork, ImageFields
from vaebm.recipes import load_judges
from vaebm.sampling import ChainState, KernelInfo, Langevin, LogDensity, Transition, run_chain
from vaebm.training import (
    EnergySettings,
    EnergyState,
    Progress,
    VAESettings,
    energy_step,
    fit,
    start_energy,
    start_vae,
    vae_step,
)
from vaebm.training.chains import positive_images
from vaebm.training.energy_stage import _clip_entries

SETTINGS = EnergySettings(num_iterations=8, batch_size=12, num_steps=3, buffer_size=30, replay_rise=0.4)


@dataclass
class Stage:
    """An energy network in training, with all that a checkpoint holds."""

    model: VAEBM
    batches: Batches
    state: EnergyState

    def go(self, engine: Engine, until: int, settings: EnergySettings = SETTINGS) -> list[Progress[EnergyState]]:
        progress = list(fit(energy_step(self.model, settings, engine), self.state, self.batches, until))
        self.state = progress[-1].state
        return progress

    def stored(self) -> dict[str, Any]:
        networks = {"vae": self.model.vae.state_dict(), "energy": self.model.energy.state_dict()}
        return {**networks, "batches": self.batches.state_dict(), "stage": self.state.state_dict()}

    def restore(self, stored: dict[str, Any]) -> None:
        self.model.vae.load_state_dict(stored["vae"])
        self.model.energy.load_state_dict(stored["energy"])
        self.batches.load_state_dict(stored["batches"])
        self.state.load_state_dict(stored["stage"])


def begin(
    digits: Tensor,
    seed: int = 0,
    settings: EnergySettings = SETTINGS,
    fields: ImageFields | None = None,
    **arguments: Any,
) -> Stage:
    torch.manual_seed(seed)
    vae = ConvVAE((1, 8, 8), (4, 2), widths=(16,), num_hidden=8, scale=0.3)
    model = VAEBM(vae, EnergyNetwork((1, 8, 8), **{"widths": (4, 6), "num_hidden": 8, **arguments}), fields)
    batches = Batches(digits, settings.batch_size, torch.Generator().manual_seed(seed))
    state = start_energy(model, settings, digits[:20], torch.Generator().manual_seed(seed + 1))
    return Stage(model, batches, state)


def copy_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("stop", [1, 5])
@pytest.mark.parametrize("normalization", ["weight", "spectral"])
@pytest.mark.parametrize("buffer_keeps", ["all", "latent"])
def test_resuming_gives_the_same_bits(
    digits: Tensor, engine: Engine, through_a_file: Any, stop: int, normalization: str, buffer_keeps: str
) -> None:
    settings = replace(SETTINGS, buffer_keeps=buffer_keeps)
    whole, stopped, resumed = (begin(digits, seed, settings, normalization=normalization) for seed in (0, 0, 9))
    expected = whole.go(engine, 8, settings)
    stopped.go(engine, stop, settings)
    resumed.restore(through_a_file(stopped.stored()))
    found = resumed.go(engine, 8, settings)
    assert equal(resumed.model.energy.state_dict(), whole.model.energy.state_dict())
    assert equal(resumed.state.average, whole.state.average)
    assert torch.equal(resumed.state.buffer.noise, whole.state.buffer.noise)
    assert [one.figures for one in found] == [one.figures for one in expected[stop:]]


def test_other_seed_other_weights(digits: Tensor, engine: Engine) -> None:
    one, other = begin(digits), begin(digits)
    other.state.generator.manual_seed(77)
    one.go(engine, 2)
    other.go(engine, 2)
    assert not equal(one.model.energy.state_dict(), other.model.energy.state_dict())


def test_the_vae_is_frozen_and_untouched(digits: Tensor, engine: Engine) -> None:
    stage = begin(digits)
    vae, energy = copy_of(stage.model.vae), copy_of(stage.model.energy)
    stage.go(engine, 4)
    assert equal(stage.model.vae.state_dict(), vae)
    assert not equal(stage.model.energy.state_dict(), energy)
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in stage.model.vae.parameters())
    assert all(parameter.requires_grad for parameter in stage.model.energy.parameters())


@pytest.mark.parametrize("spread", [0.2, 0.05])
def test_energies_start_centred_with_the_stated_spread(digits: Tensor, spread: float) -> None:
    model = begin(digits, settings=replace(SETTINGS, initial_spread=spread)).model
    energies = model.energy(digits[:20]).detach()
    assert float(energies.mean()) == pytest.approx(0, abs=1e-5)
    assert float(energies.std()) == pytest.approx(spread, rel=1e-3)


def test_a_loaded_model_whose_parameters_are_frozen_can_be_trained_on(digits: Tensor, engine: Engine) -> None:
    stage = begin(digits)
    stage.model.requires_grad_(False).eval()
    state = start_energy(stage.model, SETTINGS, digits[:20], torch.Generator().manual_seed(0))
    before = copy_of(stage.model.energy)
    Stage(stage.model, stage.batches, state).go(engine, 1)
    assert not equal(stage.model.energy.state_dict(), before)


@pytest.mark.parametrize(("keeps", "width"), [("all", 70), ("latent", 6)])
def test_the_buffer_holds_the_last_ends(digits: Tensor, engine: Engine, keeps: str, width: int) -> None:
    settings = replace(SETTINGS, buffer_keeps=keeps)
    progress = begin(digits, settings=settings).go(engine, 4, settings)
    buffers = [one.state.buffer.noise for one in progress]
    assert [tuple(buffer.shape) for buffer in buffers] == [(12, width), (24, width), (30, width), (30, width)]
    assert torch.equal(buffers[2][:-12], buffers[1][-18:])


def test_without_a_buffer_every_chain_starts_anew(digits: Tensor, engine: Engine) -> None:
    settings = replace(SETTINGS, buffer_size=0)
    progress = begin(digits, settings=settings).go(engine, 4, settings)
    assert [one.figures["num_replayed"] for one in progress] == [0, 0, 0, 0]
    assert len(progress[-1].state.buffer.noise) == 0


def test_the_share_of_replayed_chains_rises(digits: Tensor, engine: Engine) -> None:
    settings = EnergySettings(
        num_iterations=20, batch_size=200, num_steps=1, buffer_size=400, replay_rise=0.5, replay_probability=0.9
    )
    progress = begin(digits, settings=settings).go(engine, 20, settings)
    replayed = [one.figures["num_replayed"] / 200 for one in progress]
    assert replayed[0] == 0
    assert replayed[5] == pytest.approx(0.45, abs=0.12)
    assert sum(replayed[10:]) / 10 == pytest.approx(0.9, abs=0.03)


class MeanSquare(nn.Module):
    """E(x) = weight · mean x², which tells how noisy black images are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.weight * images.square().flatten(1).mean(1)


@pytest.mark.parametrize("scale_kind", ["fixed", "shared"])
@pytest.mark.parametrize(
    ("loss_image", "matched_noise", "expected"),
    [("sampled", True, 0.3**2), ("sampled", False, 0.0), ("mean", True, 0.0), ("mean", False, 0.0)],
)
def test_data_get_the_noise_of_the_negatives(
    engine: Engine, loss_image: str, matched_noise: bool, expected: float, scale_kind: str
) -> None:
    # A shared scale starts at .3 above its least one.
    vae = ConvVAE((1, 8, 8), (4,), widths=(16,), scale_kind=scale_kind, scale=0.3 if scale_kind == "fixed" else 1e-6)
    model = VAEBM(vae, MeanSquare(), ImageFields(loss_image=loss_image))
    settings = EnergySettings(num_iterations=1, batch_size=4, num_steps=1, matched_noise=matched_noise, spectral=0)
    black = torch.zeros(100, 1, 8, 8)
    state = start_energy(model, settings, black, torch.Generator().manual_seed(0))
    figures = energy_step(model, settings, engine)(state, black).figures
    # 6,400 squares of normal noise: a standard error of 1.8 percent.
    assert figures["data_energy"] == pytest.approx(expected, rel=0.08, abs=0)


def test_a_vae_of_one_pixel_scale_is_not_asked_for_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = NVAE((3, 8, 8), (1,), latents=2, encoder_width=4, decoder_width=4, scale_kind="fixed", least_scale=0.2)
    model, images = VAEBM(vae, MeanSquare()), torch.zeros(50, 3, 8, 8)
    settings, noise = EnergySettings(), torch.Generator()
    with monkeypatch.context() as patch:
        patch.setattr(vae, "elbo_terms", None)
        found = positive_images(model, settings, engine, images, noise.manual_seed(0), is_noisy=True)
    monkeypatch.setattr(NVAE, "constant_scale", None)
    asked = positive_images(model, settings, engine, images, noise.manual_seed(0), is_noisy=True)
    assert torch.equal(found, asked)
    assert float(found.std()) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("loss_image", ["sampled", "mean"])
def test_negatives_are_the_images_of_the_loss_at_the_ends_of_the_chains(engine: Engine, loss_image: str) -> None:
    vae = ConvVAE((1, 8, 8), (4,), widths=(16,), scale=0.3)
    model = VAEBM(vae, MeanSquare(), ImageFields(loss_image=loss_image))
    settings = EnergySettings(num_iterations=1, batch_size=50, num_steps=2, spectral=0)
    state = start_energy(model, settings, torch.zeros(2, 1, 8, 8), torch.Generator().manual_seed(0))
    progress = energy_step(model, settings, engine)(state, torch.zeros(50, 1, 8, 8))
    ends = model.transport(progress.state.buffer.noise).pick(loss_image)
    expected = float(ends.square().mean().detach())
    assert progress.figures["sample_energy"] == pytest.approx(expected, rel=1e-6)
    assert progress.figures["noise_norm"] == pytest.approx(float(progress.state.buffer.noise.square().mean()), rel=1e-6)


def test_chains_follow_the_density_of_the_model_from_the_start_points(digits: Tensor, engine: Engine) -> None:
    stage = begin(digits)
    reference = begin(digits)
    settings = replace(SETTINGS, buffer_size=12)
    end = stage.go(engine, 1, settings)[-1].state.buffer.noise
    generator = reference.state.generator
    torch.randn(12, 1, 8, 8, generator=generator)
    start = torch.randn(12, 70, generator=generator)
    torch.rand(12, generator=generator)
    torch.randperm(0, generator=generator)
    steps = list(run_chain(Langevin(settings.step_size), start, reference.model.log_density, 3, generator))
    assert torch.allclose(end, steps[-1].state.noise, atol=1e-6)


def test_spectral_norms_are_followed_from_step_to_step(digits: Tensor, engine: Engine) -> None:
    settings = replace(SETTINGS, learning_rate=1e-9)
    stage = begin(digits, settings=settings)
    convolutions = [layer for layer in stage.model.energy.modules() if isinstance(layer, nn.Conv2d)]
    norms = [torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2) for layer in convolutions]
    exact = float(sum(norms))
    penalties = [one.figures["spectral_penalty"] for one in stage.go(engine, 8, settings)]
    assert penalties[0] < 0.98 * exact
    assert penalties[-1] == pytest.approx(exact, rel=0.005)


def test_another_kernel_can_be_given(digits: Tensor, engine: Engine) -> None:
    def stay(state: ChainState, log_density: LogDensity, _generator: torch.Generator) -> Transition:
        value = log_density(state.noise).detach()
        assert (value != standard_normal_log_prob(state.noise)).all()
        return Transition(
            state, KernelInfo(value, torch.ones_like(value), torch.zeros_like(value), torch.ones_like(value))
        )

    stage = begin(digits)
    figures = energy_step(stage.model, SETTINGS, engine, kernel=stay)(stage.state, digits[:12]).figures
    assert figures["displacement"] == 0
    assert figures["chain_grad_norm"] == 1


def test_figures_agree_with_each_other(digits: Tensor, engine: Engine) -> None:
    figures = begin(digits).go(engine, 2)[-1].figures
    assert figures["gap"] == pytest.approx(figures["data_energy"] - figures["sample_energy"], rel=1e-9)
    level = (figures["data_energy"] + figures["sample_energy"]) / 2
    loss = figures["gap"] + SETTINGS.centring * level**2 + SETTINGS.spectral * figures["spectral_penalty"]
    assert figures["loss"] == pytest.approx(loss, rel=1e-6)
    assert 0 < figures["learning_rate"] < SETTINGS.learning_rate
    assert figures["displacement"] > 0


def test_an_error_in_a_chain_leaves_the_energy_trainable(digits: Tensor, engine: Engine) -> None:
    def broken(_state: ChainState, _log_density: LogDensity, _generator: torch.Generator) -> Transition:
        raise RuntimeError("broken")

    stage = begin(digits)
    with pytest.raises(RuntimeError, match="broken"):
        energy_step(stage.model, SETTINGS, engine, kernel=broken)(stage.state, digits[:12])
    assert all(parameter.requires_grad for parameter in stage.model.energy.parameters())
    assert stage.model.energy.training


def trained_on_digits(digits: Tensor, engine: Engine) -> VAEBM:
    torch.manual_seed(0)
    vae = ConvVAE((1, 8, 8), (16,), widths=(128, 64), scale=0.1)
    first = VAESettings(num_iterations=250, batch_size=64, kl_weight=10.0)
    batches = Batches(digits, 64, torch.Generator().manual_seed(1))
    for _ in fit(vae_step(vae, first, engine), start_vae(vae, first, torch.Generator().manual_seed(2)), batches, 250):
        pass
    model = VAEBM(vae, EnergyNetwork((1, 8, 8), widths=(16, 32), stem_kernel_size=3, num_hidden=32))
    second = EnergySettings(num_iterations=150, batch_size=48, num_steps=10, learning_rate=1e-3)
    state = start_energy(model, second, digits[:200], torch.Generator().manual_seed(3))
    for progress in fit(energy_step(model, second, engine), state, batches, 150):
        state = progress.state
    model.energy.load_state_dict(state.average)
    return model.requires_grad_(False)


def share_closed(model: VAEBM, digits: Tensor) -> float:
    """Returns how much of the VAE's distance from digits to their floor chains of a model close."""
    (judge,) = load_judges((1, 8, 8))

    def distance(images: Tensor) -> float:
        statistics = [feature_statistics(judge.classifier.features(some)) for some in (images, digits[1000:])]
        return frechet_distance(*statistics)

    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(797, model.noise_layout.size, generator=generator)
    before = model.transport(noise).mean.clamp(-1, 1)
    for step in run_chain(Langevin(0.05), noise, model.log_density, 30, generator):
        noise = step.state.noise
    after = model.transport(noise).mean.clamp(-1, 1)
    floor = distance(digits[:797])
    return (distance(before) - distance(after)) / (distance(before) - floor)


def test_the_rate_is_constant_where_asked(digits: Tensor, engine: Engine) -> None:
    constant = replace(SETTINGS, schedule="constant")
    rates = [step.figures["learning_rate"] for step in begin(digits).go(engine, 8, constant)]
    assert rates == [SETTINGS.learning_rate] * 8
    falling = [step.figures["learning_rate"] for step in begin(digits).go(engine, 8)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < falling[0]
    share = 4 / SETTINGS.num_iterations
    rising = [
        step.figures["learning_rate"] for step in begin(digits).go(engine, 8, replace(constant, rate_warmup=share))
    ]
    assert rising == pytest.approx([SETTINGS.learning_rate * part for part in (0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1)])


def test_entries_of_the_gradient_are_cut_off_but_not_the_first_time() -> None:
    weight = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([weight], 0.1, betas=(0.9, 0.5))
    weight.grad = torch.tensor([100.0, -1.0, 0.0])
    _clip_entries(optimizer, 3.0)
    assert weight.grad.tolist() == [100.0, -1.0, 0.0]
    optimizer.step()
    # After one step the corrected mean square is that of the first gradient.
    weight.grad = torch.tensor([1000.0, -9.0, 0.05])
    _clip_entries(optimizer, 3.0)
    assert weight.grad.tolist() == pytest.approx([300.1, -3.1, 0.05])


def test_nvae_and_the_network_of_the_paper_train_unchanged(engine: Engine) -> None:
    torch.manual_seed(0)
    vae = NVAE((3, 16, 16), (1, 1), 2, 8, 8)
    model = VAEBM(vae, EnergyNetwork((3, 16, 16), "residual", (8, 8), 1, 3, 0, "sum"))
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
    paper = EnergySettings(
        num_iterations=3, batch_size=8, num_steps=2, step_size=8e-5, buffer_size=0, matched_noise=False, centring=0.0,
        spectral=0.2, ema_decay=0.0, betas=(0.99, 0.999), weight_decay=3e-5, schedule="constant", clip_deviations=3.0,
    )  # fmt: skip
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    state = start_energy(model, paper, to_float(images[:16].numpy()), torch.Generator().manual_seed(1))
    batches = Batches(images, 8, torch.Generator().manual_seed(2))
    *_, last = fit(energy_step(model, paper, engine), state, batches, 3)
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert torch.isfinite(torch.tensor(list(last.figures.values()))).all()
