"""The paper's recipes: sizes, noise and settings as published, and what they cost."""

from __future__ import annotations

import functools
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vaebm.models import NVAE, ImageFields
from vaebm.recipes import (
    NOTES,
    PAPER_RECIPES,
    Config,
    NVAEConfig,
    build_model,
    config_class,
    digits,
    from_dict,
    to_dict,
)
from vaebm.recipes.estimates import Estimate, checkpoint_bytes, estimate
from vaebm.recipes.hierarchical import NVAENetworkConfig
from vaebm.recipes.paper import cifar10
from vaebm.recipes.small import SMALL_RECIPES


@functools.cache
def costs_of_cifar10() -> Estimate:
    return estimate(cifar10(), (3, 32, 32))


@pytest.mark.parametrize(
    ("name", "vae", "of_decoder", "layers", "energy", "latent", "noise", "num_steps", "step_size", "rate"),
    [
        ("cifar10", 130.7, 51.7, (610, 364), 5.14, 153_600, 156_672, 10, 8e-5, 4e-5),
        ("celeba64", 65.0, 24.1, (330, 196), 4.34, 134_400, 146_688, 10, 5e-6, 5e-5),
        ("lsun_church64", 65.0, 24.1, (330, 196), 5.81, 134_400, 146_688, 10, 4e-6, 4e-5),
        ("celebahq256", 365.4, 132.3, (570, 268), 14.2, 1_745_920, 1_942_528, 6, 3e-6, 4e-5),
    ],
)
def test_sizes_and_settings_are_the_published_ones(
    name: str, vae: float, of_decoder: float, layers: tuple[int, int], energy: float, latent: int, noise: int,
    num_steps: int, step_size: float, rate: float,
) -> None:  # fmt: skip
    config = PAPER_RECIPES[name]()
    with torch.device("meta"):
        model = build_model(config, (3, *config.data.image_size))
    counts = {name: sum(values.numel() for values in getattr(model, name).parameters()) for name in ("vae", "energy")}
    assert round(counts["vae"] / 1e6, 1) == vae
    below, within = ("start", "rises", "outward", "pixels"), (".cells.", ".prior_map.", ".merger.")
    decoder = [values.numel() for part, values in model.vae.named_parameters()
               if part.startswith(below) or any(word in part for word in within)]  # fmt: skip
    assert round(sum(decoder) / 1e6, 1) == of_decoder
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    assert tuple(sum(isinstance(module, kind) for module in model.vae.modules()) for kind in kinds) == layers
    assert counts["energy"] / 1e6 == pytest.approx(energy, rel=0.005)
    assert (model.noise_layout.latent_size, model.noise_layout.size) == (latent, noise)
    assert (config.energy.num_steps, config.energy.step_size, config.energy.learning_rate) == (
        num_steps, step_size, rate,
    )  # fmt: skip
    assert config.sampling.step_size == step_size
    assert checkpoint_bytes(config, model) > 3 * 4 * counts["vae"]
    assert NOTES[name].images


def test_an_estimate_counts_what_is_there() -> None:
    costs = costs_of_cifar10()
    assert round(costs.num_parameters["vae"] / 1e6, 1) == 130.7
    assert costs.num_parameters["energy"] / 1e6 == pytest.approx(5.14, rel=0.005)
    assert (costs.latent_size, costs.noise_size) == (153_600, 156_672)


def test_the_largest_recipe_is_estimated() -> None:
    """Two flows, 256 pixels: 365.4 M weights of the VAE and 14.2 M of the energy network."""
    costs = estimate(PAPER_RECIPES["celebahq256"](), (3, 256, 256))
    assert round(costs.num_parameters["vae"] / 1e6, 1) == 365.4
    assert costs.num_parameters["energy"] / 1e6 == pytest.approx(14.2, rel=0.005)
    assert min(costs.step_flops, costs.vae_memory, costs.energy_memory) > 0
    assert costs.checkpoint > 3 * 4 * costs.num_parameters["vae"]


def test_the_cost_of_a_step_is_that_of_its_convolutions() -> None:
    """905 GFLOP for 16 images of the CIFAR-10 model, forwards and backwards to the noise."""
    assert 16 * costs_of_cifar10().step_flops / 1e9 == pytest.approx(905, rel=0.01)


def test_a_checkpoint_holds_the_weights_and_two_moments() -> None:
    """Of 130.7 M weights."""
    assert 1.4 < costs_of_cifar10().checkpoint / 2**30 < 1.6


def test_a_gradient_costs_twice_its_value_and_recomputing_the_value_once_more() -> None:
    config = replace(cifar10(), vae_network=NVAENetworkConfig((1, 2), 2, 8, 8))
    forward = estimate(config, (3, 32, 32))
    again = estimate(replace(config, vae=replace(config.vae, recompute=True)), (3, 32, 32))
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        vae = NVAE((3, 32, 32), **asdict(config.vae_network))
        noise = torch.zeros(config.vae.batch_size, vae.noise_layout.latent_size)
        vae.elbo_terms(torch.zeros(config.vae.batch_size, 3, 32, 32), noise)
    alone = counter.get_total_flops()
    assert forward.vae_flops == pytest.approx(3 * alone, rel=0.02)
    assert 3.5 * alone < again.vae_flops < 4 * alone
    assert again.vae_memory < 0.6 * forward.vae_memory
    assert again.energy_memory == forward.energy_memory


def test_stacked_mnist_has_the_published_energy_network_and_its_own_data() -> None:
    config = PAPER_RECIPES["stacked_mnist"]()
    with torch.device("meta"):
        energy = build_model(config, (3, 32, 32)).energy
    assert sum(p.numel() for p in energy.parameters()) / 1e6 == pytest.approx(0.68, rel=0.005)
    assert config.data.source == "stacked_mnist"


@pytest.mark.parametrize("name", SMALL_RECIPES)
def test_small_twins_fit_a_laptop_and_come_back_from_their_values(name: str) -> None:
    config = SMALL_RECIPES[name]()
    assert from_dict(config_class(to_dict(config)), to_dict(config)) == config
    costs = estimate(config, (3, 32, 32))
    assert costs.num_parameters["vae"] < 5e6
    assert costs.memory < 4 * 2**30
    assert NOTES[name].images == NOTES[name.removesuffix("-small")].images


def test_negatives_of_the_loss() -> None:
    sampled = {name for name, recipe in PAPER_RECIPES.items() if recipe().images.loss_image == "sampled"}
    assert sampled == {"cifar10", "stacked_mnist"}
    assert all(
        recipe().images == ImageFields("sampled", recipe().images.loss_image) for recipe in PAPER_RECIPES.values()
    )


def test_epochs_became_iterations() -> None:
    assert PAPER_RECIPES["cifar10"]().vae.num_iterations == 400 * 50_000 // 256
    assert PAPER_RECIPES["celebahq256"]().vae.batch_size == 64
    assert PAPER_RECIPES["celebahq256"]().energy.replay_rise == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", PAPER_RECIPES)
def test_a_configuration_comes_back_from_its_values(name: str) -> None:
    config = PAPER_RECIPES[name]()
    values = to_dict(config)
    assert config_class(values) is NVAEConfig
    assert from_dict(config_class(values), values) == config
    assert config_class(to_dict(digits())) is Config


def test_memory_grows_with_batch_and_buffer() -> None:
    config = digits()
    small = estimate(config, (1, 8, 8))
    large = estimate(replace(config, energy=replace(config.energy, buffer_size=10_000)), (1, 8, 8))
    # The guard's five snapshots have copies of it.
    added = 6 * (10_000 - config.energy.buffer_size) * small.noise_size * 4
    assert large.energy_memory - small.energy_memory == pytest.approx(added)
    kept = small.noise_size * config.energy.buffer_size
    half, on_disk = (
        estimate(replace(config, energy=replace(config.energy, **{name: value})), (1, 8, 8))
        for name, value in (("buffer_dtype", "float16"), ("buffer_on_disk", True))
    )
    assert small.energy_memory - half.energy_memory == pytest.approx(6 * 2 * kept)
    assert small.energy_memory - on_disk.energy_memory == pytest.approx(6 * 4 * kept)
    wide = estimate(replace(config, vae=replace(config.vae, batch_size=2 * config.vae.batch_size)), (1, 8, 8))
    assert wide.vae_flops == pytest.approx(2 * small.vae_flops)
    assert wide.vae_memory > small.vae_memory


# Learning rate, penalty, its start (0: none), epochs of the linear rise and of all, flows, groups, width.
STAGE_1 = {
    "cifar10": (1e-2, 0.1, 0.0, 5, 400, 1, (30,), 128),
    "celeba64": (1e-2, 0.1, 0.0, 1, 50, 1, (5, 5, 5), 48),
    "lsun_church64": (1e-2, 0.1, 0.0, 1, 60, 1, (5, 5, 5), 48),
    "celebahq256": (6e-3, 0.01, 10.0, 5, 200, 2, (4, 4, 4, 4, 4), 32),
}
# Iterations, batch, spectral penalty, replay probability, entries of the buffer, iterations of the rise, sample steps.
STAGE_2 = {
    "cifar10": (30_000, 32, 0.2, 0.0, 0, 0, 16),
    "celeba64": (30_000, 32, 0.2, 0.0, 0, 0, 20),
    "lsun_church64": (30_000, 32, 0.2, 0.6, 10_000, 5000, 20),
    "celebahq256": (9000, 16, 0.3, 0.6, 2000, 3000, 24),
}


@pytest.mark.parametrize("name", STAGE_1)
def test_stage_1_is_that_of_the_published_commands(name: str) -> None:
    config = PAPER_RECIPES[name]()
    rate, penalty, start, warm_epochs, epochs, num_flows, groups, width = STAGE_1[name]
    vae, network = config.vae, config.vae_network
    assert (vae.learning_rate, vae.penalty, vae.initial_penalty) == (rate, penalty, start)
    assert vae.rate_warmup == pytest.approx(warm_epochs / epochs)
    assert (vae.objective, vae.optimizer, vae.schedule, vae.weight_decay) == (
        "balanced", "adamax", "warm_cosine", 3e-4,
    )  # fmt: skip
    assert (vae.kl_warmup, vae.dequantization) == (0.3, 0.0)
    assert (network.num_flows, network.groups, network.latents) == (num_flows, groups, 20)
    assert (network.encoder_width, network.decoder_width) == (width, width)
    assert (network.encoder_cells, network.decoder_cells, network.outer_cells, network.outer_blocks) == (2, 2, 2, 1)


@pytest.mark.parametrize("name", STAGE_2)
def test_stage_2_is_that_of_the_published_commands(name: str) -> None:
    config = PAPER_RECIPES[name]()
    energy, expected = config.energy, STAGE_2[name]
    num_iterations, batch_size, spectral, probability, entries, rise, num_steps = expected
    assert (energy.num_iterations, energy.batch_size, energy.spectral) == (num_iterations, batch_size, spectral)
    assert (energy.replay_probability, energy.buffer_size, config.sampling.num_steps) == (
        probability, entries, num_steps,
    )  # fmt: skip
    if rise:
        assert energy.replay_rise * num_iterations == pytest.approx(rise)
        assert energy.buffer_keeps == "latent"
    assert (energy.betas, energy.weight_decay, energy.schedule) == ((0.99, 0.999), 3e-5, "constant")
    assert (energy.ema_decay, energy.centring, energy.matched_noise, energy.clip_deviations) == (0.0, 0.0, False, 3.0)


@pytest.mark.parametrize("name", PAPER_RECIPES)
def test_notes_name_images_hours_and_scores_with_their_source(name: str) -> None:
    notes = NOTES[name]
    assert "source" in notes.images or "bundled" in notes.images
    assert "V100" in notes.hours or "not published" in notes.hours
    assert any(source in notes.scores for source in ("from memory", "PapersWithCode", "table"))
