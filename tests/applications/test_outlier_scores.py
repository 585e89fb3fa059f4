from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from vaebm.applications import OutlierScores, outlier_scores
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork, ImageFields

if TYPE_CHECKING:
    from conftest import LinearGaussianVAE, QuadraticEnergy, ZeroEnergy

DOUBLE = torch.float64
FIELDS = [ImageFields(*fields) for fields in itertools.product(("sampled", "mean"), repeat=3)]


def build() -> VAEBM:
    vae = ConvVAE((1, 8, 8), (4, 2), widths=(16,), num_hidden=8, scale_kind="pixel")
    return VAEBM(vae, EnergyNetwork((1, 8, 8), widths=(4,)).eval()).double()


def some_images(count: int = 9, shape: tuple[int, ...] = (1, 8, 8)) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE) * 2 - 1


def score(model: VAEBM, images: Tensor, seed: int = 0, **arguments: int) -> OutlierScores:
    return outlier_scores(model, images, generator=torch.Generator().manual_seed(seed), **arguments)


def close(one: OutlierScores, other: OutlierScores) -> bool:
    return all(torch.allclose(value, getattr(other, name), rtol=1e-12) for name, value in vars(one).items())


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batch_size_does_not_matter(batch_size: int) -> None:
    model = build()
    assert close(score(model, some_images(), batch_size=batch_size), score(model, some_images()))


def test_order_does_not_matter() -> None:
    model, order = build(), torch.randperm(9)
    whole, shuffled = score(model, some_images()), score(model, some_images()[order])
    assert torch.allclose(shuffled.joint, whole.joint[order], rtol=1e-12)
    alone = score(model, some_images()[3:4])
    assert torch.allclose(alone.joint, whole.joint[3:4], rtol=1e-12)


def test_same_seed_same_scores() -> None:
    model = build()
    assert torch.equal(score(model, some_images()).joint, score(model, some_images()).joint)
    assert not torch.equal(score(model, some_images()).joint, score(model, some_images(), seed=1).joint)


def test_joint_is_elbo_minus_energy_and_the_score_its_negative() -> None:
    scores = score(build(), some_images())
    assert torch.equal(scores.joint, scores.elbo - scores.energy)
    assert torch.equal(scores.outlier_score, -scores.joint)
    for value in (scores.energy, scores.elbo, scores.joint):
        assert value.shape == (9,)
        assert value.dtype == DOUBLE
        assert not value.requires_grad


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: "-".join(vars(fields).values()))
def test_without_an_energy_the_joint_is_the_elbo(
    linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy, fields: ImageFields
) -> None:
    images = some_images(4, (1, 2, 3))
    scores = score(VAEBM(linear_vae, zero_energy, fields), images)
    assert torch.equal(scores.joint, scores.elbo)
    assert torch.equal(scores.energy, torch.zeros(4, dtype=DOUBLE))


def test_elbo_is_the_mean_of_the_terms() -> None:
    model, images = build(), some_images()
    noise = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([model.vae.elbo_terms(images, one.expand(9, -1)).elbo for one in noise]).mean(0)
    assert torch.allclose(score(model, images).elbo, expected, rtol=1e-12)


def test_many_samples_come_to_the_exact_likelihood(linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy) -> None:
    images = some_images(4, (1, 2, 3))
    scores = score(VAEBM(linear_vae, zero_energy), images, num_posterior_samples=4000)
    exact = linear_vae.log_prob(images)
    assert torch.allclose(scores.elbo, exact, atol=0.15, rtol=0)


@pytest.mark.parametrize("loss_image", ["sampled", "mean"])
def test_energy_is_averaged_over_noisy_copies_where_it_was_trained_on_them(
    linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy, loss_image: str
) -> None:
    images = some_images(4, (1, 2, 3))
    model = VAEBM(linear_vae, quadratic_energy, ImageFields(loss_image=loss_image))
    scores = score(model, images, num_posterior_samples=2000)
    clean = quadratic_energy(images)
    if loss_image == "mean":
        assert torch.allclose(scores.energy, clean, rtol=1e-9)
    else:
        # E of ½ a |x + s ε − c|² over ε: ½ a s² for each of the six pixels on top; the mean of 2,000 is within 0.1.
        expected = clean + 0.5 * 2.0 * 0.5**2 * 6
        assert torch.allclose(scores.energy, expected, atol=0.1, rtol=0)


def test_noise_scores_worse_than_what_the_vae_models(linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy) -> None:
    typical = linear_vae.decode(torch.randn(20, 2, dtype=DOUBLE)).mean
    odd = typical + 5 * torch.randn(20, 1, 2, 3, dtype=DOUBLE).sign()
    model = VAEBM(linear_vae, zero_energy)
    assert score(model, odd).outlier_score.min() > score(model, typical).outlier_score.max()


def test_no_images_have_no_scores() -> None:
    assert score(build(), some_images(0)).joint.shape == (0,)


@pytest.mark.parametrize("shape", [(2, 1, 8, 9), (2, 3, 8, 8), (1, 8, 8)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(N, 1, 8, 8\)"):
        score(build(), torch.zeros(shape))


def test_at_least_one_sample_is_needed() -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        score(build(), some_images(), num_posterior_samples=0)
