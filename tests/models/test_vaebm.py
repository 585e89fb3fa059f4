"""The VAEBM's density, against closed forms."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, distributions, nn

from vaebm.models import VAEBM, ConvVAE, Decoded, EnergyNetwork, ImageFields

if TYPE_CHECKING:
    from conftest import LinearGaussianVAE, QuadraticEnergy, ZeroEnergy

DOUBLE = torch.float64
FIELDS = [ImageFields(*fields) for fields in itertools.product(("sampled", "mean"), repeat=3)]


def draw(model: VAEBM, count: int = 4) -> Tensor:
    return torch.randn(count, model.noise_layout.size, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def log_normal(noise: Tensor) -> Tensor:
    return distributions.Normal(torch.zeros_like(noise), 1.0).log_prob(noise).sum(1)


def networks(body: str, scale_kind: str, fields: ImageFields) -> VAEBM:
    vae = ConvVAE((1, 8, 8), (3, 2), body=body, widths=(6, 4), num_hidden=8, scale_kind=scale_kind)
    return VAEBM(vae, EnergyNetwork((1, 8, 8), widths=(4,)), fields).double()


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: "-".join(vars(fields).values()))
def test_without_an_energy_the_density_is_standard_normal(
    linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy, fields: ImageFields
) -> None:
    model = VAEBM(linear_vae, zero_energy, fields)
    noise = draw(model)
    assert torch.allclose(model.log_density(noise), log_normal(noise), rtol=1e-13, atol=0)


def test_a_constant_energy_is_minus_the_log_of_the_constant(linear_vae: LinearGaussianVAE) -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images),), 2.5)

    model = VAEBM(linear_vae, Constant())
    noise = draw(model)
    assert torch.allclose(model.log_density(noise), log_normal(noise) - 2.5, rtol=1e-13, atol=0)


@pytest.mark.parametrize("body", ["dense", "convolutional"])
@pytest.mark.parametrize("scale_kind", ["fixed", "shared", "pixel"])
@pytest.mark.parametrize("chain_image", ["sampled", "mean"])
def test_density_and_energy_add_up_to_standard_normal(body: str, scale_kind: str, chain_image: str) -> None:
    model = networks(body, scale_kind, ImageFields(chain_image=chain_image))
    noise = draw(model)
    energy = model.energy(model.transport(noise).image)
    assert energy.abs().min() > 1e-4
    assert torch.allclose(model.log_density(noise) + energy, log_normal(noise), rtol=1e-12, atol=0)


def test_density_of_images_and_latents_carries_the_jacobian(
    linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy
) -> None:
    """log h(noise) = log p(x|z) + log p(z) − E(x) + log |∂(z, x)/∂noise|, the Jacobian by autograd."""
    model = VAEBM(linear_vae, quadratic_energy)

    def carried(noise: Tensor) -> Tensor:
        result = model.transport(noise[None])
        return torch.cat([result.latents[0][0], result.image.flatten()])

    for noise in draw(model, 3):
        at = model.transport(noise[None])
        log_likelihood = distributions.Normal(at.mean, at.scale).log_prob(at.image).sum()
        jacobian = torch.autograd.functional.jacobian(carried, noise)
        volume = torch.linalg.slogdet(jacobian).logabsdet
        expected = log_likelihood + log_normal(at.latents[0])[0] - quadratic_energy(at.image)[0] + volume
        assert torch.allclose(model.log_density(noise[None])[0], expected, rtol=1e-12, atol=0)


def test_gradient_under_a_quadratic_energy(linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy) -> None:
    model = VAEBM(linear_vae, quadratic_energy)
    noise = draw(model).requires_grad_()
    (grad,) = torch.autograd.grad(model.log_density(noise).sum(), noise)
    images = model.transport(noise).image.flatten(1)
    force = quadratic_energy.strength * (images - quadratic_energy.centre)
    expected = -noise - torch.cat([force @ linear_vae.weight, linear_vae.scale * force], 1)
    assert torch.allclose(grad, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: "-".join(vars(fields).values()))
def test_fields_choose_images_and_layout(
    linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy, fields: ImageFields
) -> None:
    model = VAEBM(linear_vae, zero_energy, fields)
    noise = draw(model)
    result = model.transport(noise)
    assert torch.equal(result.pick("mean"), result.mean)
    if fields == ImageFields("mean", "mean", "mean"):
        assert model.noise_layout.size == model.noise_layout.latent_size == 2
        with pytest.raises(ValueError, match="no image noise"):
            result.pick("sampled")
        return
    assert model.noise_layout.size == 2 + 6
    sampled = result.mean + result.scale * noise[:, 2:].view(-1, 1, 2, 3)
    assert torch.equal(result.pick("sampled"), sampled)
    assert torch.equal(result.image, sampled if fields.chain_image == "sampled" else result.mean)


@pytest.mark.parametrize("scale_kind", ["fixed", "pixel"])
def test_images_are_found_again_at_their_place_in_noise_space(scale_kind: str) -> None:
    model = networks("convolutional", scale_kind, ImageFields())
    images = torch.rand(3, 1, 8, 8, dtype=DOUBLE) * 2 - 1
    noise = model.noise_of(images, torch.randn(3, 5, dtype=DOUBLE))
    assert noise.shape == (3, model.noise_layout.size)
    assert torch.allclose(model.transport(noise).image, images, rtol=0, atol=1e-12)


def test_without_image_noise_the_place_of_an_image_gives_its_reconstruction() -> None:
    model = networks("dense", "fixed", ImageFields("mean", "mean", "mean"))
    images, posterior_noise = torch.rand(3, 1, 8, 8, dtype=DOUBLE), torch.randn(3, 5, dtype=DOUBLE)
    image = model.transport(model.noise_of(images, posterior_noise)).image
    expected = model.vae.elbo_terms(images, posterior_noise).reconstruction
    assert torch.allclose(image, expected, rtol=0, atol=1e-12)


def test_unnormalised_joint(linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy) -> None:
    images = torch.randn(3, 1, 2, 3, dtype=DOUBLE)
    log_likelihood = linear_vae.log_prob(images)
    joint = VAEBM(linear_vae, quadratic_energy).unnormalized_log_joint(images, log_likelihood)
    assert torch.equal(joint, log_likelihood - quadratic_energy(images))


def test_an_energy_on_the_mean_has_no_density_over_images(
    linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy
) -> None:
    model = VAEBM(linear_vae, zero_energy, ImageFields("mean", "mean", "mean"))
    with pytest.raises(ValueError, match="no density over images"):
        model.unnormalized_log_joint(torch.zeros(1, 1, 2, 3), torch.zeros(1))


@pytest.mark.parametrize("name", ["chain_image", "loss_image", "output_image"])
def test_a_field_is_sampled_or_mean(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 'median': expected one of sampled, mean"):
        ImageFields(**{name: "median"})


@pytest.mark.parametrize("scale", [0.5, 0.05])
def test_the_official_potential_lacks_the_jacobian_and_claims_another_scale(
    linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy, scale: float
) -> None:
    linear_vae.scale = scale
    model = VAEBM(linear_vae, quadratic_energy)
    noise = draw(model)
    claimed = max(scale, math.exp(-2) + 0.01)
    moved = model.transport(noise)
    assert (moved.image.abs() > 1).any()
    pixels = ((moved.image.clamp(-1, 1) - moved.mean) / claimed).flatten(1).square().sum(1)
    expected = (
        model.log_density(noise)
        - log_normal(noise)
        - 0.5 * noise[:, : model.noise_layout.latent_size].square().sum(1)
        - 0.5 * pixels
        - math.prod(model.image_shape) * math.log(claimed)
    )
    assert torch.allclose(model.official_log_density(noise), expected, rtol=1e-12)


def test_the_official_potential_knows_the_scales_of_the_prior() -> None:
    model = networks("dense", "pixel", ImageFields())
    for prior in model.vae.priors:
        torch.nn.init.normal_(prior[-1].weight)
    noise = draw(model)
    decoded = model.vae.decode(noise[:, : model.noise_layout.latent_size])
    assert decoded.log_prior_scale.abs().min() > 0.01
    first = model.vae.priors[0](decoded.latents[0]).chunk(2, 1)[1]
    assert torch.allclose(decoded.log_prior_scale, (5 * torch.tanh(first / 5)).sum(1), rtol=1e-10)
    with_scales = model.official_log_density(noise)
    model.vae.decode = lambda latent_noise, known=decoded: Decoded(known.mean, known.scale, known.latents)
    assert torch.allclose(model.official_log_density(noise) - with_scales, decoded.log_prior_scale, rtol=1e-10)
    with pytest.raises(ValueError, match="the chains see the mean"):
        networks("dense", "pixel", ImageFields("mean", "mean", "mean")).official_log_density(noise[:, :5])
