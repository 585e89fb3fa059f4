"""Settings derived from images: networks from their size, iterations from what they cost and the time there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vaebm.recipes import ConfigError, build_model
from vaebm.recipes.images import (
    Costs,
    Counts,
    duration,
    evaluation_seconds,
    finest_detail,
    images,
    within,
)

CIFAR = Counts(training=2918, selection=416, calibration=833, test=833)
COSTS = Costs(0.1, 0.4, 0.0005, 0.01, 0.02, 0.01)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (9, 31), (28, 28), (32, 48), (64, 64), (100, 128), (128, 128)])
def test_there_are_networks_for_every_size(channels: int, size: tuple[int, int]) -> None:
    config = images((channels, *size))
    model = build_model(config, (channels, *size)).eval()
    with torch.no_grad():
        noise = torch.zeros(2, model.noise_layout.size)
        density = model.log_density(noise)
        terms = model.vae.elbo_terms(torch.zeros(2, channels, *size), noise[:, : model.noise_layout.latent_size])
    assert density.shape == (2,)
    assert bool(torch.isfinite(terms.elbo).all())


def test_a_larger_image_costs_less_than_its_number_of_pixels() -> None:
    def parameters(size: int) -> int:
        return sum(value.numel() for value in build_model(images((3, size, size)), (3, size, size)).parameters())

    assert parameters(128) < 3 * parameters(32)


@pytest.mark.parametrize(("size", "pooling"), [(8, 1), (16, 1), (28, 2), (32, 2), (64, 4), (128, 8)])
def test_an_energy_sees_about_16_squares_of_pixels_a_side(size: int, pooling: int) -> None:
    assert images((1, size, size)).energy_network.input_pooling == pooling


@pytest.mark.parametrize("minutes", [10, 30, 60])
def test_a_run_takes_about_as_long_as_there_is_time(minutes: int) -> None:
    planned = within(images((3, 32, 32)), COSTS, CIFAR, 60.0 * minutes)
    config = planned.config
    spent = (
        config.vae.num_iterations * COSTS.vae_iteration
        + config.energy.num_iterations * COSTS.energy_iteration
        + evaluation_seconds(config, COSTS, CIFAR)
    )
    assert 0.9 * 60 * minutes < spent < 60 * minutes


def test_few_images_are_not_gone_through_for_ever() -> None:
    few = Counts(training=200, selection=30, calibration=60, test=60)
    config = within(images((1, 32, 32)), COSTS, few, 3600.0).config
    assert config.vae.num_iterations == 300
    assert config.evaluation.num_samples == 60
    assert config.selection.num_samples == 30


def test_less_is_measured_where_that_takes_long() -> None:
    slow = replace(COSTS, chain_step=0.004)
    config = within(images((3, 32, 32)), slow, CIFAR, 1800.0).config
    assert config.evaluation.num_samples < CIFAR.test
    assert evaluation_seconds(config, slow, CIFAR) <= 0.3 * 1800


def test_without_a_judge_no_candidate_is_chosen() -> None:
    config = within(images((3, 32, 32)), replace(COSTS, judged_image=0.0), CIFAR, 600.0).config
    assert config.selection.num_samples == 0


@pytest.mark.parametrize("counts", [CIFAR, Counts(50_000, 5000, 5000, 10_000), Counts(20, 3, 5, 5)])
@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_a_budget_that_is_not_enough_is_refused_with_one_that_is(counts: Counts, factor: float) -> None:
    costs = Costs(*(factor * value for value in vars(COSTS).values()))
    with pytest.raises(ConfigError, match=r"a budget of 20 s is not enough .* expected \d+ min or more") as caught:
        within(images((3, 32, 32)), costs, counts, 20.0)
    assert "\n" not in str(caught.value)
    told = int(str(caught.value).split("expected ")[1].split(" min")[0])
    assert within(images((3, 32, 32)), costs, counts, 60.0 * told).config.energy.num_iterations >= 100


def test_a_large_test_set_is_not_measured_whole_in_a_short_time() -> None:
    large = Counts(training=50_000, selection=5000, calibration=5000, test=10_000)
    config = within(images((3, 32, 32)), COSTS, large, 600.0).config
    assert 250 <= config.evaluation.num_test <= 2000
    assert evaluation_seconds(config, COSTS, large) <= 0.3 * 600
    assert within(images((3, 32, 32)), COSTS, large, 36_000.0).config.evaluation.num_test == 0


def test_the_reasons_name_what_was_chosen() -> None:
    planned = within(images((3, 64, 64)), COSTS, CIFAR, 1800.0)
    text = "\n".join(planned.reasons)
    assert f"{planned.config.energy.num_iterations:,} iterations" in text
    assert str(list(planned.config.vae_network.widths)) in text
    assert "2,918 training" in text


@pytest.mark.parametrize(
    ("seconds", "words"), [(1, "1 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (3660, "1 h 1 min")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_latents_follow_from_size_and_number() -> None:
    assert images((3, 32, 32), count=3000).vae_network.latent_groups == (64,)
    assert images((3, 32, 32), count=120).vae_network.latent_groups == (30,)
    assert images((1, 8, 8), count=3000).vae_network.latent_groups == (16,)
    assert images((1, 8, 8), count=7).vae_network.latent_groups == (8,)


@pytest.mark.parametrize("deviation", [4.0, 10.0, 20.0])
def test_the_finest_detail_of_a_noisy_slope_is_its_noise(deviation: float) -> None:
    generator = torch.Generator().manual_seed(0)
    slope = torch.linspace(60, 190, 48).expand(30, 1, 48, 48)
    noisy = (slope + deviation * torch.randn(slope.shape, generator=generator)).round().clamp(0, 255).byte()
    assert finest_detail(noisy) == pytest.approx(deviation / 127.5, rel=0.05)


def test_the_floor_of_the_scale_follows_the_detail_within_bounds() -> None:
    floors = [images((1, 28, 28), detail=detail).vae_network.scale for detail in (0.0, 0.07, 0.3)]
    assert floors == [0.05, 0.07, 0.1]
