"""Energy-based models in pixel space."""

from __future__ import annotations

import math

import pytest
import torch

from vaebm.models import VAEBM, EnergyNetwork, GaussianReference, ImageFields, TemperedEnergy
from vaebm.sampling import Langevin, grad_log_density, run_chain

MEANS = ImageFields("mean", "mean", "mean")


def test_its_likelihood_is_that_of_a_gaussian() -> None:
    reference = GaussianReference((1, 2, 3), scale=0.5)
    images = torch.randn(4, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    terms = reference.elbo_terms(images, torch.zeros(4, 6))
    expected = torch.distributions.Normal(0.0, 0.5).log_prob(images.double()).sum((1, 2, 3))
    torch.testing.assert_close(terms.elbo, expected)
    assert not terms.kl.any()
    torch.testing.assert_close(reference.decode(terms.noise).mean, images)


def test_the_density_over_noise_is_the_energy_with_its_reference() -> None:
    torch.manual_seed(0)
    energy = EnergyNetwork((1, 8, 8), widths=(4,))
    model = VAEBM(GaussianReference((1, 8, 8), 0.7), TemperedEnergy(energy, 0.01), MEANS)
    noise = torch.randn(3, model.noise_layout.size)
    image = 0.7 * noise.view(3, 1, 8, 8)
    base = torch.distributions.Normal(0.0, 1.0).log_prob(noise.double()).sum(1)
    torch.testing.assert_close(model.log_density(noise), base - energy(image).double() / 0.01, rtol=1e-6, atol=1e-3)


def test_a_step_at_low_temperature_is_a_step_of_gradient_descent() -> None:
    torch.manual_seed(0)
    energy, step_size, temperature = EnergyNetwork((1, 8, 8), widths=(4,)), 1e-10, 1e-12
    model = VAEBM(GaussianReference((1, 8, 8)), TemperedEnergy(energy, temperature), MEANS)
    noise = 0.1 * torch.randn(2, 64)
    slope = grad_log_density(lambda pixels: energy(pixels.view(-1, 1, 8, 8)), noise).grad
    (step,) = run_chain(Langevin(step_size), noise, model.log_density, 1, torch.Generator().manual_seed(0))
    moved = step.state.noise - noise
    # η/2T = 50 times the gradient; the noise is √η = 0.00001.
    torch.testing.assert_close(moved, -step_size / (2 * temperature) * slope, rtol=0, atol=6e-5)
    assert float(slope.abs().max()) * 50 > 0.1


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_scale_and_temperature_are_positive(value: float) -> None:
    with pytest.raises(ValueError, match="expected a positive number"):
        GaussianReference((1, 8, 8), value)
    with pytest.raises(ValueError, match="expected a positive number"):
        TemperedEnergy(EnergyNetwork((1, 8, 8), widths=(4,)), value)
