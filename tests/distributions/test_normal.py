"""Diagonal Gaussians, against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, distributions

from vaebm.distributions import Normal, bits_per_dim, standard_normal_log_prob

DOUBLE = torch.float64


def random_normal(shape: tuple[int, ...], seed: int) -> Normal:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(shape, generator=generator, dtype=DOUBLE)
    return Normal(mean, (0.5 * torch.randn(shape, generator=generator, dtype=DOUBLE)).exp())


def reference(normal: Normal) -> distributions.Normal:
    return distributions.Normal(normal.mean, normal.scale)


def summed(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3, 5), (1, 1)])
def test_log_prob(shape: tuple[int, ...]) -> None:
    normal, value = random_normal(shape, 0), random_normal(shape, 1).mean
    expected = summed(reference(normal).log_prob(value))
    assert torch.allclose(normal.log_prob(value), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3, 5)])
def test_divergence(shape: tuple[int, ...]) -> None:
    normal, other = random_normal(shape, 0), random_normal(shape, 1)
    expected = summed(distributions.kl_divergence(reference(normal), reference(other)))
    assert torch.allclose(normal.kl(other), expected, rtol=1e-13, atol=0)
    assert (normal.kl(other) > 0).all()
    assert torch.equal(normal.kl(normal), torch.zeros(shape[0], dtype=DOUBLE))


def test_one_gaussian_may_serve_a_whole_batch() -> None:
    single, batch = random_normal((1, 3), 0), random_normal((5, 3), 1)
    expanded = Normal(single.mean.expand(5, 3), single.scale.expand(5, 3))
    assert torch.equal(single.log_prob(batch.mean), expanded.log_prob(batch.mean))
    assert torch.equal(single.kl(batch), expanded.kl(batch))
    assert torch.equal(batch.kl(single), batch.kl(expanded))


def test_transport_changes_the_density_by_its_scales() -> None:
    normal, noise = random_normal((4, 2, 3), 0), random_normal((4, 2, 3), 1).mean
    moved = normal.log_prob(normal.transport(noise)) + summed(normal.scale.log())
    assert torch.allclose(moved, standard_normal_log_prob(noise.flatten(1)), rtol=1e-12, atol=0)


def test_log_prob_of_standard_normal_noise() -> None:
    noise = random_normal((4, 9), 0).mean
    standard = distributions.MultivariateNormal(torch.zeros(9, dtype=DOUBLE), torch.eye(9, dtype=DOUBLE))
    assert torch.allclose(standard_normal_log_prob(noise), standard.log_prob(noise), rtol=1e-13, atol=0)


def test_sums_of_float32_values_are_float64() -> None:
    noise = torch.full((1, 100_000), 0.1)
    expected = -0.5 * 100_000 * (float(noise[0, 0]) ** 2 + math.log(2 * math.pi))
    assert float(standard_normal_log_prob(noise)) == pytest.approx(expected, rel=1e-12)
    normal = Normal(torch.zeros(1, 100_000), torch.ones(1, 100_000))
    assert normal.log_prob(noise).dtype == normal.kl(normal).dtype == DOUBLE
    assert float(normal.log_prob(noise)) == pytest.approx(expected, rel=1e-8)


def test_gradients_are_those_of_the_reference() -> None:
    normal, other, value = random_normal((4, 3), 0), random_normal((4, 3), 1), random_normal((4, 3), 2).mean
    leaves = [normal.mean.requires_grad_(), normal.scale.requires_grad_()]
    found = torch.autograd.grad((normal.log_prob(value) + normal.kl(other)).sum(), leaves)
    divergence = distributions.kl_divergence(reference(normal), reference(other))
    wanted = torch.autograd.grad((reference(normal).log_prob(value) + divergence).sum(), leaves)
    assert all(torch.allclose(one, two, rtol=1e-12) for one, two in zip(found, wanted, strict=True))


def test_an_empty_batch_has_no_log_probs() -> None:
    normal = Normal(torch.zeros(0, 2, 3), torch.ones(0, 2, 3))
    assert normal.log_prob(torch.zeros(0, 2, 3)).shape == (0,)


def test_uniform_pixels_cost_as_many_bits_as_they_have_levels() -> None:
    num_dims = 12
    log_likelihood = torch.tensor(-num_dims * math.log(2), dtype=DOUBLE)
    assert float(bits_per_dim(log_likelihood, num_dims)) == pytest.approx(math.log2(255), rel=1e-14)
