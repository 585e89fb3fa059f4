"""Quadrature where the answer is known: a linear decoder makes the VAE a Gaussian, a quadratic energy keeps it one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vaebm.data import planar_density
from vaebm.distributions import NoiseLayout
from vaebm.evaluation import (
    histogram,
    importance_weights,
    make_grid,
    measure_planar,
    planar_model,
    summarize_weights,
)
from vaebm.models import VAEBM, Decoded, ImageFields

DOUBLE = torch.float64
SLOPE, SCALE, STRENGTH = 0.2, 0.1, 8.0


class Linear(nn.Module):
    """x = slope · z + scale · ε in the plane: N(0, slope² + scale²) in each coordinate."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(SLOPE))
        self.image_shape, self.noise_layout = (2, 1, 1), NoiseLayout(((2,),))

    def decode(self, latent_noise: Tensor) -> Decoded:
        mean = self.slope * latent_noise.view(-1, 2, 1, 1)
        return Decoded(mean, torch.full_like(mean, SCALE), [latent_noise])


class Quadratic(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return 0.5 * STRENGTH * images.flatten(1).square().sum(1)


def normal(points: Tensor, variance: float) -> Tensor:
    return torch.exp(-0.5 * points.square().sum(1) / variance) / (2 * math.pi * variance)


def test_both_densities_and_log_z_are_the_closed_forms(generator: torch.Generator) -> None:
    density = planar_density("ring")
    model = VAEBM(Linear(), Quadratic()).requires_grad_(False)
    exact = planar_model(model, density, 100, 100)
    variance = SLOPE**2 + SCALE**2
    narrowed = variance / (1 + STRENGTH * variance)
    squared = density.extent**2
    for values, expected in ((exact.vae, variance * squared), (exact.vaebm, narrowed * squared)):
        assert torch.allclose(values, normal(exact.grid.points, expected), atol=1e-5)
    # The official potential claims another scale of x given z.
    claimed = SLOPE**2 + (math.exp(-2) + 0.01) ** 2
    assert torch.allclose(
        exact.official, normal(exact.grid.points, claimed / (1 + STRENGTH * claimed) * squared), atol=1e-5
    )
    assert exact.log_z == pytest.approx(-math.log(1 + STRENGTH * variance), abs=1e-5)
    estimate = summarize_weights(importance_weights(model, 100_000, generator, 50_000))
    assert estimate.log_z.low < exact.log_z < estimate.log_z.high
    assert estimate.forward_bound.high < exact.log_z


def test_the_truth_is_as_far_from_itself_as_it_should() -> None:
    density = planar_density("gaussians")
    grid = make_grid(density)
    figures = measure_planar(density.log_prob(grid.points).exp(), grid, density)
    assert figures.gap == pytest.approx(0, abs=1e-9)
    assert figures.log_likelihood == pytest.approx(-1.1005, abs=1e-3)
    assert figures.total_variation == pytest.approx(0, abs=1e-9)
    assert figures.mode_masses == pytest.approx([0.04] * 25, abs=1e-6)
    # P(chi² with 2 degrees of freedom ≤ 16).
    assert figures.within_four_sigma == pytest.approx(1 - math.exp(-8), abs=5e-4)


def test_a_wrong_density_is_told_so() -> None:
    density = planar_density("gaussians")
    grid = make_grid(density)
    lopsided = 2 * density.log_prob(grid.points).exp() * (grid.points[:, 0] > 0.5)
    flat = torch.full_like(lopsided, 1 / (2 * density.extent) ** 2)
    figures = measure_planar(0.5 * (lopsided / (lopsided.sum() * grid.cell) + flat), grid, density)
    assert figures.gap > 1
    assert min(figures.mode_masses) < 0.02
    assert max(figures.mode_masses) > 0.05
    # Fifteen of 25 modes are missing, but for what the flat half leaves in their place.
    assert 0.5 < figures.total_variation < 0.6


def test_a_histogram_of_samples_is_near_their_density(generator: torch.Generator) -> None:
    density = planar_density("ring")
    grid = make_grid(density, 40)
    counted = histogram(density.sample(200_000, generator), grid, density)
    assert float(counted.sum()) * grid.cell == pytest.approx(1)
    masses = measure_planar(counted, grid, density).mode_masses
    assert masses == pytest.approx([1 / 8] * 8, abs=0.004)


def test_what_quadrature_can_not_do() -> None:
    density = planar_density("ring")
    on_mean = VAEBM(Linear(), Quadratic(), ImageFields("mean", "mean", "mean"))
    with pytest.raises(ValueError, match="no density over points"):
        planar_model(on_mean, density)
    with pytest.raises(ValueError, match="make the latent grid finer"):
        planar_model(VAEBM(Linear(), Quadratic()), density, 100, 12)
    wide = VAEBM(Linear(), Quadratic())
    wide.vae.slope.data.fill_(0.5)
    with pytest.raises(ValueError, match="adds up to 0"):
        planar_model(wide, density, 100, 100)
