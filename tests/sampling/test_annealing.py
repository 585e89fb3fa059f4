"""Annealed importance sampling where log Z is known: no tilt, a constant, a Gaussian tilt."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vaebm.sampling import (
    Ladder,
    Langevin,
    Mala,
    adaptive_ladder,
    anneal,
    anneal_down,
    effective_sample_size,
    resized_ladder,
    uniform_ladder,
)

DOUBLE = torch.float64
WIDTH, CENTRE, SIZE = 0.3, 1.0, 5


def start(count: int = 2000, size: int = SIZE, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def gaussian(noise: Tensor) -> Tensor:
    """f = −½ |(noise − c)/w|²."""
    return -0.5 * ((noise - CENTRE) / WIDTH).square().sum(1)


# ∫ N(x; 0, 1) exp(−½ ((x − c)/w)²) dx = w / √(1 + w²) · exp(−½ c² / (1 + w²)), for each entry.
LOG_Z = SIZE * (math.log(WIDTH) - 0.5 * math.log(1 + WIDTH**2) - 0.5 * CENTRE**2 / (1 + WIDTH**2))


def exact(count: int = 2000) -> Tensor:
    """Draws of N(0, I) exp(f), a Gaussian."""
    variance = WIDTH**2 / (1 + WIDTH**2)
    return CENTRE / (1 + WIDTH**2) + variance**0.5 * start(count, seed=9)


@pytest.mark.parametrize("level", [0.0, -3.5])
def test_a_constant_tilt_is_its_own_log_normaliser(level: float, generator: torch.Generator) -> None:
    def constant(noise: Tensor) -> Tensor:
        return torch.full((len(noise),), level)

    for run in (anneal, anneal_down):
        weights = run(constant, start(50), uniform_ladder(7, Mala(0.5)), generator).log_weights
        assert torch.allclose(weights, torch.full((50,), level, dtype=DOUBLE), rtol=0, atol=1e-12)


def test_weights_average_to_z_and_bounds_hold_it_from_both_sides(generator: torch.Generator) -> None:
    ladder = adaptive_ladder(gaussian, start(500, seed=4), generator, conditional_ess=0.99)
    up = anneal(gaussian, start(), ladder, generator, num_steps=3)
    down = anneal_down(gaussian, exact(), ladder, generator, num_steps=3)
    log_mean = float(torch.logsumexp(up.log_weights, 0)) - math.log(len(up.log_weights))
    inverse = math.log(len(down.log_weights)) - float(torch.logsumexp(-down.log_weights, 0))
    assert log_mean == pytest.approx(LOG_Z, abs=0.05)
    assert inverse == pytest.approx(LOG_Z, abs=0.05)
    assert LOG_Z - 0.5 < float(up.log_weights.mean()) < LOG_Z
    assert LOG_Z < float(down.log_weights.mean()) < LOG_Z + 0.5
    assert effective_sample_size(up.log_weights) > 800
    assert (up.acceptance > 0.4).all()


def test_more_temperatures_better_weights(generator: torch.Generator) -> None:
    means = [
        float(anneal(gaussian, start(), uniform_ladder(count, Mala(0.05)), generator).log_weights.mean())
        for count in (2, 10, 40, 160)
    ]
    assert means == sorted(means)
    assert means[-1] < LOG_Z


def test_two_temperatures_are_simple_importance_sampling(generator: torch.Generator) -> None:
    noise = start(100)
    weights = anneal(gaussian, noise, uniform_ladder(2, Mala(0.1)), generator).log_weights
    assert torch.allclose(weights, gaussian(noise))


def test_the_ends_follow_the_tilted_density(generator: torch.Generator) -> None:
    ladder = adaptive_ladder(gaussian, start(500, seed=4), generator, conditional_ess=0.99)
    ends = anneal(gaussian, start(4000), ladder, generator, num_steps=5).noise
    assert float(ends.mean()) == pytest.approx(CENTRE / (1 + WIDTH**2), abs=0.02)
    assert float(ends.var(0).mean()) == pytest.approx(WIDTH**2 / (1 + WIDTH**2), rel=0.1)


def test_a_resized_ladder_follows_the_same_path(generator: torch.Generator) -> None:
    ladder = adaptive_ladder(gaussian, start(500, seed=4), generator, conditional_ess=0.9)
    assert resized_ladder(ladder, len(ladder.temperatures)) == ladder
    fine = resized_ladder(ladder, 2 * len(ladder.temperatures) - 1)
    assert fine.temperatures[::2] == pytest.approx(ladder.temperatures)
    assert fine.kernels[::2] == fine.kernels[1::2] == ladder.kernels
    assert resized_ladder(ladder, 2) == Ladder((0.0, 1.0), ladder.kernels[-1:])
    means = [
        float(anneal(gaussian, start(), resized_ladder(ladder, count), generator).log_weights.mean())
        for count in (2, 8, 32)
    ]
    assert means == sorted(means)
    assert means[-1] < LOG_Z
    with pytest.raises(ValueError, match="a ladder of 1 temperatures: expected two or more"):
        resized_ladder(ladder, 1)


def test_the_ladder_keeps_its_limit(generator: torch.Generator) -> None:
    ladder = adaptive_ladder(gaussian, start(300), generator, max_temperatures=4)
    assert len(ladder.temperatures) == 4
    assert adaptive_ladder(lambda noise: 0 * noise[:, 0], start(300), generator).temperatures == (0.0, 1.0)


@pytest.mark.parametrize(
    ("temperatures", "count"), [((0.0,), 0), ((), 0), ((0.0, 0.5), 1), ((0.0, 0.5, 0.5, 1.0), 3), ((0.0, 1.0), 2)]
)
def test_bad_ladders(temperatures: tuple[float, ...], count: int) -> None:
    with pytest.raises(ValueError, match="ladder"):
        Ladder(temperatures, (Langevin(0.1),) * count)


def test_a_ladder_of_one_temperature_says_so() -> None:
    with pytest.raises(ValueError, match="a ladder of 1 temperatures: expected two or more"):
        uniform_ladder(1, Mala(0.1))
