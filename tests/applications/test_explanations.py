"""Heat maps and nearest normal images: closed forms, and scratches on real digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from vaebm.applications import heat_maps, nearest_normal, outlier_scores
from vaebm.data import load_images, scratches, smoothed, to_float
from vaebm.models import VAEBM, ImageFields
from vaebm.recipes import load

if TYPE_CHECKING:
    from conftest import LinearGaussianVAE, QuadraticEnergy, ZeroEnergy

DOUBLE = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(count: int = 5) -> Tensor:
    return torch.rand(count, 1, 2, 3, generator=seeded(1), dtype=DOUBLE) * 2 - 1


def slope_of_the_likelihood(vae: LinearGaussianVAE, images: Tensor) -> Tensor:
    """−∂ log p(x)/∂x = (W Wᵀ + s² I)⁻¹ (x − b)."""
    covariance = vae.weight @ vae.weight.T + vae.scale**2 * torch.eye(len(vae.bias), dtype=DOUBLE)
    return torch.linalg.solve(covariance, (images.flatten(1) - vae.bias).T).T.view_as(images)


def test_without_an_energy_the_heat_is_the_slope_of_the_likelihood(
    linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy
) -> None:
    images = some_images()
    model = VAEBM(linear_vae, zero_energy)
    heat = heat_maps(model, images, generator=seeded(), num_posterior_samples=2_000, smoothing=0)
    assert torch.allclose(heat, slope_of_the_likelihood(linear_vae, images).abs().sum(1), atol=0.15)


def test_an_energy_adds_its_slope(linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy) -> None:
    images = some_images()
    model = VAEBM(linear_vae, quadratic_energy, ImageFields(loss_image="mean"))
    heat = heat_maps(model, images, generator=seeded(), num_posterior_samples=2_000, smoothing=0)
    expected = (slope_of_the_likelihood(linear_vae, images) + 2.0 * (images - 0.2)).abs().sum(1)
    assert torch.allclose(heat, expected, atol=0.15)


def test_the_heat_is_the_slope_of_the_score_itself(
    linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy
) -> None:
    model, images, step = VAEBM(linear_vae, quadratic_energy), some_images(), 1e-5

    def score(at: Tensor) -> Tensor:
        return outlier_scores(model, at, generator=seeded(7)).outlier_score

    heat = heat_maps(model, images, generator=seeded(7), smoothing=0)
    moved = torch.zeros_like(images)
    moved[:, 0, 1, 2] = step
    slope = (score(images + moved) - score(images - moved)) / (2 * step)
    assert torch.allclose(heat[:, 1, 2], slope.abs(), rtol=1e-6)


def test_smoothing_is_a_gaussian_of_the_heat(linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy) -> None:
    model = VAEBM(linear_vae, quadratic_energy)
    raw = heat_maps(model, some_images(), generator=seeded(), smoothing=0)
    soft = heat_maps(model, some_images(), generator=seeded(), smoothing=1.5)
    assert torch.allclose(soft, smoothed(raw[:, None], 1.5)[:, 0])
    assert not torch.allclose(soft, raw)


@pytest.mark.parametrize("explain", [heat_maps, nearest_normal], ids=["heat", "nearest"])
def test_neither_company_nor_order_matters(
    linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy, explain: object
) -> None:
    model, images, order = VAEBM(linear_vae, quadratic_energy), some_images(7), torch.randperm(7)
    whole = explain(model, images, generator=seeded())  # type: ignore[operator]
    mixed = explain(model, images[order], generator=seeded(), batch_size=3)  # type: ignore[operator]
    assert torch.allclose(mixed, whole[order], rtol=1e-6)
    assert explain(model, images[:0], generator=seeded()).shape == whole[:0].shape  # type: ignore[operator]


def test_without_an_energy_the_chain_goes_to_the_middle(linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy) -> None:
    images, model = 0.3 * some_images(), VAEBM(linear_vae, zero_energy)
    start = linear_vae.posterior(images).mean
    assert bool((start.norm(dim=1) < 2**0.5).all())
    found = nearest_normal(model, images, generator=seeded(), num_steps=10, step_size=0.1, tether=0)
    assert torch.allclose(found.double(), linear_vae.decode(start * 0.95**10).mean, atol=1e-6)


def test_the_chain_starts_within_the_radius_of_the_noise(
    linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy
) -> None:
    far = 40 * (some_images() - linear_vae.bias.view(1, 1, 2, 3))
    start = linear_vae.posterior(far).mean
    expected = linear_vae.decode(start / start.norm(dim=1, keepdim=True) * 2**0.5).mean.clamp(-1, 1)
    found = nearest_normal(VAEBM(linear_vae, zero_energy), far, generator=seeded(), num_steps=0)
    assert torch.allclose(found.double(), expected, atol=1e-6)


@pytest.mark.parametrize("chain_image", ["sampled", "mean"])
def test_a_long_chain_ends_on_the_peak(
    linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy, chain_image: str
) -> None:
    model = VAEBM(linear_vae, quadratic_energy, ImageFields(chain_image=chain_image))
    found = nearest_normal(model, some_images(), generator=seeded(), num_steps=2000, tether=0, num_noises=3)
    noise = torch.randn(3, 6, generator=seeded()).double().mean(0) * (chain_image == "sampled")
    # a Wᵀ (W z + b + s ε̄ − c) + z = 0
    weight = linear_vae.weight.detach()
    target = 2.0 * weight.T @ (0.2 - linear_vae.bias.detach() - linear_vae.scale * noise)
    peak = torch.linalg.solve(torch.eye(2, dtype=DOUBLE) + 2.0 * weight.T @ weight, target)
    expected = linear_vae.decode(peak[None]).mean.clamp(-1, 1).expand_as(found)
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_a_tether_keeps_it_near(linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy) -> None:
    model, images = VAEBM(linear_vae, quadratic_energy), some_images()

    def distance(tether: float) -> float:
        found = nearest_normal(model, images, generator=seeded(), step_size=0.01, num_steps=300, tether=tether)
        return float((found - images).abs().mean())

    assert distance(100) < 0.8 * distance(0)


def test_the_heat_is_where_the_scratch_is() -> None:
    model, clean = load("mnist"), torch.from_numpy(load_images("mnist").images[:60])
    spoilt = scratches(clean, seeded(1), 0.8)
    scratch = smoothed((spoilt != clean).float(), 1.0)[:, 0] > 0.05
    heat = heat_maps(model, to_float(spoilt), generator=seeded(), num_posterior_samples=4).flatten(1)
    share = (heat * scratch.flatten(1)).sum(1) / heat.sum(1)
    # The scratch and what is next to it cover 13 % of an image and hold 28 % of the heat; 19 % before it was there.
    assert float(share.mean()) > 1.7 * float(scratch.float().mean())
    highest = scratch.flatten(1).gather(1, heat.argmax(1, keepdim=True))
    assert float(highest.float().mean()) > 0.65


def test_the_nearest_normal_image_has_no_scratch() -> None:
    model, clean = load("mnist"), torch.from_numpy(load_images("mnist").images[:60])
    spoilt, clean = to_float(scratches(clean, seeded(1), 0.8)), to_float(clean)
    found = nearest_normal(model, spoilt, generator=seeded())

    def distance(one: Tensor, other: Tensor) -> Tensor:
        return (one - other).square().flatten(1).sum(1)

    assert float((distance(found, clean) < distance(found, spoilt)).float().mean()) > 0.85
    # Nearer to its own image than to any other, for most of them.
    every = torch.cdist(found.flatten(1), clean.flatten(1))
    assert float((every.argmin(1) == torch.arange(60)).float().mean()) > 0.7


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model, images: heat_maps(model, images[..., :2], generator=seeded()), "expected"),
        (lambda model, images: heat_maps(model, images, generator=seeded(), num_posterior_samples=0), "at least 1"),
        (lambda model, images: heat_maps(model, images, generator=seeded(), smoothing=-1), "at least 1 and 0"),
        (lambda model, images: nearest_normal(model, images.long(), generator=seeded()), "floats"),
        (lambda model, images: nearest_normal(model, images, generator=seeded(), step_size=0), "above 0"),
    ],
)
def test_what_can_not_be_explained_is_refused(
    linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy, call: object, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        call(VAEBM(linear_vae, zero_energy), some_images())  # type: ignore[operator]
