"""log Z where it is known: no energy, a constant one, a quadratic one on a linear-Gaussian VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from vaebm.evaluation import (
    annealed_weights,
    importance_weights,
    likelihood_terms,
    log_likelihood,
    reverse_estimate,
    summarize_weights,
    tilt_of,
)
from vaebm.models import VAEBM, ImageFields
from vaebm.sampling import Langevin, Mala, adaptive_ladder, run_chain, uniform_ladder

if TYPE_CHECKING:
    from conftest import LinearGaussianVAE, QuadraticEnergy, ZeroEnergy

DOUBLE = torch.float64
STRENGTH, CENTRE = 3.0, 0.5


class Constant(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.full((len(images),), 2.5)


def quadratic(vae: LinearGaussianVAE, energy: QuadraticEnergy) -> VAEBM:
    energy.strength.data.fill_(STRENGTH)
    energy.centre.data.fill_(CENTRE)
    return VAEBM(vae, energy).requires_grad_(False)


def covariance(vae: LinearGaussianVAE) -> Tensor:
    return vae.weight @ vae.weight.T + vae.scale**2 * torch.eye(len(vae.bias), dtype=DOUBLE)


def exact_log_z(vae: LinearGaussianVAE) -> float:
    """log E[exp(−½ a |x − c|²)] over x ~ N(b, Σ): −½ log |I + aΣ| − ½ a (b − c)ᵀ (I + aΣ)⁻¹ (b − c)."""
    matrix = torch.eye(len(vae.bias), dtype=DOUBLE) + STRENGTH * covariance(vae)
    offset = vae.bias - CENTRE
    return float(-0.5 * torch.logdet(matrix) - 0.5 * STRENGTH * offset @ torch.linalg.solve(matrix, offset))


def test_without_an_energy_log_z_is_zero(
    linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy, generator: torch.Generator
) -> None:
    summary = summarize_weights(importance_weights(VAEBM(linear_vae, zero_energy), 100, generator))
    assert summary.log_z.value == summary.forward_bound.value == summary.log_z.high == 0
    assert summary.ess == pytest.approx(100)


def test_without_an_energy_chains_sample_the_vae(
    linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy, generator: torch.Generator
) -> None:
    model = VAEBM(linear_vae, zero_energy)
    noise = torch.randn(20_000, model.noise_layout.size, generator=generator, dtype=DOUBLE)
    for step in run_chain(Langevin(0.02), noise, model.log_density, 20, generator):
        noise = step.state.noise
    images = model.transport(noise).image.flatten(1)
    assert torch.allclose(images.mean(0), linear_vae.bias, atol=0.05)
    assert torch.allclose(torch.cov(images.T), covariance(linear_vae), atol=0.05)


def test_a_constant_energy_is_minus_log_z(linear_vae: LinearGaussianVAE, generator: torch.Generator) -> None:
    model = VAEBM(linear_vae, Constant())
    assert summarize_weights(importance_weights(model, 50, generator)).log_z.value == pytest.approx(-2.5, rel=1e-12)
    weights = annealed_weights(model, 50, uniform_ladder(4, Mala(0.1)), generator).log_weights
    assert summarize_weights(weights).forward_bound.value == pytest.approx(-2.5, rel=1e-12)


def test_a_quadratic_energy(
    linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy, generator: torch.Generator
) -> None:
    model, exact = quadratic(linear_vae, quadratic_energy), exact_log_z(linear_vae)
    simple = summarize_weights(importance_weights(model, 50_000, generator))
    assert simple.is_usable
    assert simple.log_z.low < exact < simple.log_z.high
    assert simple.forward_bound.high < exact
    pilot = torch.randn(300, model.noise_layout.size, generator=generator, dtype=DOUBLE)
    ladder = adaptive_ladder(tilt_of(model), pilot, generator, conditional_ess=0.99)
    annealed = annealed_weights(model, 1000, ladder, generator, num_steps=3)
    summary = summarize_weights(annealed.log_weights)
    assert summary.log_z.value == pytest.approx(exact, abs=0.05)
    assert simple.forward_bound.value < summary.forward_bound.value < exact
    # The quadratic energy on a linear VAE leaves the noise Gaussian: exact draws are at hand.
    down = reverse_estimate(model, exact_draws(model, 1000, generator), ladder, generator, num_steps=3)
    assert exact < down.value < exact + 1


def exact_draws(model: VAEBM, count: int, generator: torch.Generator) -> Tensor:
    size = model.noise_layout.size
    zero = torch.zeros(1, size, dtype=DOUBLE)
    slope = torch.autograd.functional.jacobian(lambda noise: model.transport(noise).image.flatten(), zero)[:, 0]
    offset = model.transport(zero).image.flatten() - CENTRE
    precision = torch.eye(size, dtype=DOUBLE) + STRENGTH * slope.T @ slope
    mean = -torch.linalg.solve(precision, STRENGTH * slope.T @ offset)
    factor = torch.linalg.cholesky(torch.linalg.inv(precision))
    return mean + torch.randn(count, size, generator=generator, dtype=DOUBLE) @ factor.T


def test_the_likelihood_is_a_normal_density(linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy) -> None:
    model = quadratic(linear_vae, quadratic_energy)
    precision = torch.linalg.inv(covariance(linear_vae))
    total = precision + STRENGTH * torch.eye(len(precision), dtype=DOUBLE)
    mean = torch.linalg.solve(total, precision @ linear_vae.bias + STRENGTH * CENTRE)
    expected = torch.distributions.MultivariateNormal(mean, precision_matrix=total)
    images = torch.randn(5, *linear_vae.image_shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    found = log_likelihood(model, images, linear_vae.log_prob(images), exact_log_z(linear_vae))
    assert torch.allclose(found, expected.log_prob(images.flatten(1)), rtol=1e-9)


def test_an_energy_on_the_mean_gives_no_likelihood(linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy) -> None:
    model = VAEBM(linear_vae, zero_energy, ImageFields("mean", "mean", "mean"))
    with pytest.raises(ValueError, match="no density over images"):
        log_likelihood(model, torch.zeros(1, 1, 2, 3), torch.zeros(1), 0.0)


def test_intervals_cover(generator: torch.Generator) -> None:
    """Log-normal weights: log Z = μ + σ²/2, mean of log w = μ."""
    hits = torch.zeros(2)
    for _ in range(300):
        summary = summarize_weights(0.5 * torch.randn(400, generator=generator, dtype=DOUBLE) + 1)
        for index, (interval, truth) in enumerate(((summary.log_z, 1.125), (summary.forward_bound, 1.0))):
            hits[index] += interval.low < truth < interval.high
    assert (hits > 270).all()


@pytest.mark.parametrize("weights", [torch.zeros(1), torch.zeros(2, 2), torch.tensor([0.0, float("nan")])])
def test_bad_weights(weights: Tensor) -> None:
    with pytest.raises(ValueError, match="log-weight"):
        summarize_weights(weights)


def test_terms_are_taken_at_the_same_images(
    linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy, generator: torch.Generator
) -> None:
    model = quadratic(linear_vae, quadratic_energy)
    images = torch.zeros(20_000, *model.image_shape, dtype=DOUBLE)
    clean = likelihood_terms(model, images, generator, with_pixel_noise=False)
    assert clean.energy == pytest.approx(float(model.energy(images[:1])), rel=1e-9)
    noisy = likelihood_terms(model, images, generator, with_pixel_noise=True)
    # E[½ a |s ξ − c|²] = ½ a |c|² + ½ a s² D.
    extra = 0.5 * STRENGTH * linear_vae.scale**2 * images[0].numel()
    assert noisy.energy == pytest.approx(clean.energy + float(extra), rel=0.02)
    on_mean = VAEBM(linear_vae, quadratic_energy, ImageFields("mean", "mean", "mean"))
    with pytest.raises(ValueError, match="no density over images"):
        likelihood_terms(on_mean, images[:2], generator, with_pixel_noise=False)
