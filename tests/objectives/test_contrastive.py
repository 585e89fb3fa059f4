"""The contrastive loss: its gradient is that of the likelihood where samples are exact."""

from __future__ import annotations

import pytest
import torch
from torch import distributions

from vaebm.objectives import contrastive_loss, separation

DOUBLE = torch.float64


def test_gradient_on_a_discrete_model_is_that_of_the_likelihood() -> None:
    """Five states with p ∝ exp(−E); 20 samples that have exactly the model's shares stand for its expectation."""
    model_counts = torch.tensor([1, 2, 3, 4, 10])
    data = torch.repeat_interleave(torch.arange(5), torch.tensor([5, 5, 5, 3, 2]))
    samples = torch.repeat_interleave(torch.arange(5), model_counts)
    energies = (0.7 - (model_counts.double() / 20).log()).requires_grad_()
    (found,) = torch.autograd.grad(contrastive_loss(energies[data], energies[samples]).loss, energies)
    negative_log_likelihood = -torch.log_softmax(-energies, 0)[data].mean()
    (wanted,) = torch.autograd.grad(negative_log_likelihood, energies)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-15)
    assert float(wanted.abs().max()) > 0.1


def test_gradient_on_a_quadratic_model_is_that_of_the_likelihood() -> None:
    """E = ½ a (x − m)²; the points m ± 1/√a have the model's first two moments, all that the gradient needs."""
    precision = torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
    mean = torch.tensor(0.3, dtype=DOUBLE, requires_grad=True)
    data = torch.tensor([1.0, -0.5, 0.25, 2.0], dtype=DOUBLE)
    samples = torch.tensor([0.3 + 2**-0.5, 0.3 - 2**-0.5], dtype=DOUBLE)
    energies = [0.5 * precision * (points - mean).square() for points in (data, samples)]
    found = torch.autograd.grad(contrastive_loss(*energies).loss, [precision, mean])
    negative_log_likelihood = -distributions.Normal(mean, precision.rsqrt()).log_prob(data).mean()
    wanted = torch.autograd.grad(negative_log_likelihood, [precision, mean])
    assert [float(one) for one in found] == pytest.approx([float(one) for one in wanted], rel=1e-12)


def test_loss_and_figures_are_the_formula() -> None:
    data, samples = torch.tensor([1.0, 2.0, 6.0], requires_grad=True), torch.tensor([-1.0, 2.0])
    result = contrastive_loss(data, samples, centring=0.5, l2=0.25)
    expected = 3 - 0.5 + 0.5 * ((3 + 0.5) / 2) ** 2 + 0.25 * (41 / 3 + 5 / 2)
    assert float(result.loss.detach()) == pytest.approx(expected, rel=1e-14)
    assert (float(result.data_energy), float(result.sample_energy), float(result.gap)) == (3, 0.5, 2.5)
    assert result.loss.dtype == result.gap.dtype == DOUBLE
    assert result.loss.requires_grad
    assert not any(figure.requires_grad for figure in (result.data_energy, result.sample_energy, result.gap))


@pytest.mark.parametrize("level", [-3.0, 0.0, 4.0])
def test_centring_pulls_the_level_to_zero_and_leaves_the_gap_alone(level: float) -> None:
    shift = torch.tensor(level, dtype=DOUBLE, requires_grad=True)
    data, samples = torch.tensor([1.0, -1.0], dtype=DOUBLE), torch.tensor([2.0, -2.0], dtype=DOUBLE)
    plain = contrastive_loss(data + shift, samples + shift)
    assert float(torch.autograd.grad(plain.loss, shift)[0]) == 0
    centred = contrastive_loss(data + shift, samples + shift, centring=0.3)
    assert float(torch.autograd.grad(centred.loss, shift)[0]) == pytest.approx(2 * 0.3 * level, abs=1e-15)


def test_levels_far_from_zero_do_not_lose_the_gap() -> None:
    data, samples = torch.full((64,), 1e6), torch.full((64,), 1e6 + 0.25)
    assert float(contrastive_loss(data, samples).gap) == -0.25


def test_the_mean_over_parts_is_the_loss_and_the_gradient_of_the_whole() -> None:
    slope = torch.tensor(1.5, dtype=DOUBLE, requires_grad=True)
    data, samples = torch.tensor([1.0, -1.0, 4.0, 2.0], dtype=DOUBLE), torch.tensor([2.0, -2.0, 0.5, 7.0], dtype=DOUBLE)
    whole = contrastive_loss(slope * data, slope * samples, centring=1.0, l2=0.1).loss
    level = (1.5 * data.mean() + 1.5 * samples.mean()) / 2
    parts = [
        contrastive_loss(slope * data[part], slope * samples[part], 1.0, 0.1, lambda own: level).loss
        for part in (slice(0, 2), slice(2, 4))
    ]
    mean = (parts[0] + parts[1]) / 2
    assert float(mean.detach()) == pytest.approx(float(whole.detach()), rel=1e-14)
    (found,), (wanted,) = torch.autograd.grad(mean, slope), torch.autograd.grad(whole, slope)
    assert float(found) == pytest.approx(float(wanted), rel=1e-14)


def test_separation_counts_in_standard_deviations() -> None:
    assert separation(-4.0, 5.0, 3.0) == -2
    assert separation(0.0, 0.0, 0.0) == 0
    assert separation(-1.0, 0.0, 0.0) < -1000
