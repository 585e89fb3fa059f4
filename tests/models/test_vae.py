"""The ELBO against the exact likelihood of a linear-Gaussian VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, distributions

from vaebm.models import ElboTerms

if TYPE_CHECKING:
    from conftest import LinearGaussianVAE

DOUBLE = torch.float64


def some_images(count: int = 5) -> Tensor:
    return torch.randn(count, 1, 2, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def expected_elbo(vae: LinearGaussianVAE, images: Tensor) -> Tensor:
    """E_q[…] without sampling: the terms are quadratic in the noise, so the 2k points ±√k e_i average them exactly."""
    size = vae.noise_layout.latent_size
    points = size**0.5 * torch.cat([torch.eye(size, dtype=DOUBLE), -torch.eye(size, dtype=DOUBLE)])
    return torch.stack([vae.elbo_terms(images, point.expand(len(images), -1)).elbo for point in points]).mean(0)


def test_with_the_exact_posterior_the_elbo_is_the_likelihood(linear_vae: LinearGaussianVAE) -> None:
    images = some_images()
    assert torch.allclose(expected_elbo(linear_vae, images), linear_vae.log_prob(images), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("shift", "stretch"), [(0.4, 1.0), (0.0, 0.5), (-0.3, 2.0)])
def test_with_another_posterior_the_elbo_is_lower_by_its_divergence(
    linear_vae: LinearGaussianVAE, shift: float, stretch: float
) -> None:
    images = some_images()
    exact = linear_vae.posterior(images)
    linear_vae.posterior_shift, linear_vae.posterior_stretch = shift, stretch
    used = linear_vae.posterior(images)
    pair = (distributions.Normal(one.mean, one.scale) for one in (used, exact))
    divergence = distributions.kl_divergence(*pair).sum(1)
    elbo = expected_elbo(linear_vae, images)
    assert (elbo < linear_vae.log_prob(images)).all()
    assert torch.allclose(elbo, linear_vae.log_prob(images) - divergence, rtol=1e-12, atol=0)


def test_sampled_terms_average_to_the_elbo(linear_vae: LinearGaussianVAE, generator: torch.Generator) -> None:
    count = 20_000
    image = some_images(1)
    noise = torch.randn(count, 2, generator=generator, dtype=DOUBLE)
    samples = linear_vae.elbo_terms(image.expand(count, -1, -1, -1), noise).elbo
    error = float(samples.detach().std()) / count**0.5
    assert float((samples.mean() - linear_vae.log_prob(image)).detach().abs()) < 4 * error


def test_elbo_is_likelihood_minus_all_divergences() -> None:
    empty = torch.zeros(2, 1, 1, 1)
    terms = ElboTerms(torch.tensor([1.0, 2.0]), torch.tensor([[0.5, 0.25], [1.0, 3.0]]), empty, empty, empty)
    assert terms.elbo.tolist() == [0.25, -2.0]
