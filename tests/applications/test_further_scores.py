"""Scores that take gradients: the slope of the log-density, and the gain of an image's own posterior."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

import vaebm
from vaebm.applications import gradient_norms, in_float64, likelihood_regrets, outlier_scores
from vaebm.applications.further_scores import _elbos
from vaebm.data import load_splits, to_float
from vaebm.models import NVAE, VAEBM, ConvVAE, EnergyNetwork


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def model() -> VAEBM:
    torch.manual_seed(0)
    vae = ConvVAE((1, 8, 8), (3, 2), widths=(16,), scale_kind="pixel", scale=0.1)
    return in_float64(VAEBM(vae, EnergyNetwork((1, 8, 8), widths=(4, 6), num_hidden=8)).eval())


@pytest.fixture(scope="module")
def digits_and_noise() -> tuple[Tensor, Tensor]:
    digits = to_float(load_splits("mnist").test.images[:24])
    return digits, digits[torch.arange(24).flip(0)].flip(2).roll(7, 3)


def test_the_gradient_norm_is_the_slope_of_the_joint(model: VAEBM) -> None:
    images = torch.rand(3, 1, 8, 8, generator=seeded(), dtype=torch.float64) * 1.6 - 0.8
    norms = gradient_norms(model, images, generator=seeded(), num_posterior_samples=2)
    step = 1e-5

    def joint(moved: Tensor) -> Tensor:
        return outlier_scores(model, moved, num_posterior_samples=2, generator=seeded()).joint

    slopes = [
        (joint(images + step * unit) - joint(images - step * unit)) / (2 * step)
        for unit in torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
    ]
    assert torch.allclose(torch.stack(slopes).norm(dim=0), norms, rtol=1e-4)


def test_scores_do_not_depend_on_the_batch(model: VAEBM) -> None:
    images = torch.rand(5, 1, 8, 8, generator=seeded(), dtype=torch.float64) * 2 - 1
    for score in (gradient_norms, partial(likelihood_regrets, num_steps=10)):
        whole = score(model, images, generator=seeded())
        parts = score(model, images, generator=seeded(), batch_size=2)
        assert whole.dtype == torch.float64
        assert torch.allclose(whole, parts, rtol=1e-6)
        assert score(model, images[:0], generator=seeded()).shape == (0,)


def test_regret_is_never_negative_and_grows_with_the_steps(model: VAEBM) -> None:
    images = torch.rand(4, 1, 8, 8, generator=seeded(), dtype=torch.float64) * 2 - 1
    none, few, more = (likelihood_regrets(model, images, generator=seeded(), num_steps=steps) for steps in (0, 5, 60))
    assert torch.equal(none, torch.zeros(4, dtype=torch.float64))
    assert bool((few > 0).all())
    assert bool((more > few).all())


def test_a_step_out_of_all_numbers_takes_no_best_away(model: VAEBM) -> None:
    images = torch.rand(3, 1, 8, 8, generator=seeded(), dtype=torch.float64) * 1.6 - 0.8
    found = likelihood_regrets(model, images, generator=seeded(), num_steps=3, learning_rate=1e200)
    assert bool((found >= 0).all())


def test_the_first_posterior_is_the_encoders(model: VAEBM) -> None:
    torch.manual_seed(1)
    vae = ConvVAE((1, 8, 8), (4,), widths=(16,), scale=0.3)
    one_group = in_float64(VAEBM(vae, model.energy).eval())
    images = torch.rand(3, 1, 8, 8, generator=seeded(), dtype=torch.float64)
    still = torch.zeros(3, 4, dtype=torch.float64)
    mean = one_group.vae.elbo_terms(images, still).noise
    scale = one_group.vae.elbo_terms(images, still + 1).noise - mean
    noise = torch.randn(2000, 4, generator=seeded(), dtype=torch.float64)
    found = _elbos(one_group, images, mean, scale.log(), noise)
    expected = torch.stack([one_group.vae.elbo_terms(images, draw.expand(3, -1)).elbo for draw in noise]).mean(0)
    assert torch.allclose(found, expected, rtol=1e-8)


def test_on_digits_what_is_not_one_has_more_of_both(digits_and_noise: tuple[Tensor, Tensor]) -> None:
    model = vaebm.load("mnist")
    digits, others = digits_and_noise
    for score, settings in ((gradient_norms, {"num_posterior_samples": 2}), (likelihood_regrets, {"num_steps": 30})):
        normal, odd = (score(model, images, generator=seeded(), **settings) for images in (digits, others))
        assert float(odd.median()) > 1.2 * float(normal.median()), score.__name__


def test_a_hierarchical_vae_has_them_too() -> None:
    torch.manual_seed(0)
    vae = NVAE((3, 8, 8), (1, 2), latents=2, encoder_width=4, decoder_width=4)
    model = VAEBM(vae, EnergyNetwork((3, 8, 8), "residual", (4,), 1, 3, 0, "sum")).eval()
    images = torch.rand(2, 3, 8, 8, generator=seeded()) * 2 - 1
    assert bool((likelihood_regrets(model, images, generator=seeded(), num_steps=3) > 0).all())
    assert bool((gradient_norms(model, images, generator=seeded()) > 0).all())


def test_images_of_another_shape_are_refused(model: VAEBM) -> None:
    for score in (gradient_norms, likelihood_regrets):
        with pytest.raises(ValueError, match=r"expected \(N, 1, 8, 8\)"):
            score(model, torch.zeros(2, 3, 8, 8), generator=seeded())
    with pytest.raises(ValueError, match="num_noises is 0"):
        likelihood_regrets(model, torch.zeros(2, 1, 8, 8), generator=seeded(), num_noises=0)
