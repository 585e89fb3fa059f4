"""Densities of the plane: exact, normalised, and sampled as they say."""

from __future__ import annotations

import math

import pytest
import torch

from vaebm.data import PLANAR_DENSITIES, DataError, planar_density

DOUBLE = torch.float64


@pytest.mark.parametrize("name", PLANAR_DENSITIES)
def test_the_density_adds_up_to_one_within_its_square(name: str) -> None:
    density = planar_density(name)
    axis = (torch.arange(300, dtype=DOUBLE) + 0.5) / 300 * 2 * density.extent - density.extent
    mass = density.log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * (2 * density.extent / 300) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", PLANAR_DENSITIES)
def test_samples_have_the_moments_of_the_mixture(name: str, generator: torch.Generator) -> None:
    density = planar_density(name)
    points = density.sample(50_000, generator)
    expected = torch.cov(density.centres.T, correction=0) + density.sigma**2 * torch.eye(2, dtype=DOUBLE)
    assert torch.allclose(points.mean(0), density.centres.mean(0), atol=0.04)
    assert torch.allclose(torch.cov(points.T), expected, atol=0.05)


def test_the_25_gaussians_have_the_log_likelihood_of_the_issue(generator: torch.Generator) -> None:
    density = planar_density("gaussians")
    entropy = math.log(25) + math.log(2 * math.pi * math.e * density.sigma**2)
    assert entropy == pytest.approx(1.10, abs=0.001)
    assert float(density.log_prob(density.sample(100_000, generator)).mean()) == pytest.approx(-entropy, abs=0.02)


def test_points_and_images_are_one_affine_map_apart(generator: torch.Generator) -> None:
    density = planar_density("ring")
    points = density.sample(10, generator)
    images = density.to_images(points)
    assert images.shape == (10, 2, 1, 1)
    assert images.abs().max() < 1
    assert torch.allclose(density.to_points(images), points, atol=1e-6)
    assert density.log_jacobian == pytest.approx(math.log((images[0, 0, 0, 0] / points[0, 0]) ** 2), abs=1e-5)


def test_an_unknown_name() -> None:
    with pytest.raises(DataError, match="unknown density 'square': expected one of gaussians"):
        planar_density("square")
