"""The importance-sampled likelihood, against its formula and the gradient that it stands for."""

from __future__ import annotations

import math

import pytest
import torch

from vaebm.objectives import importance_sampled_loss

DOUBLE = torch.float64


def test_the_loss_is_its_formula(generator: torch.Generator) -> None:
    data, prior = torch.randn(5, generator=generator), torch.randn(7, generator=generator)
    result = importance_sampled_loss(data, prior, centring=0.1)
    log_z = float((-prior.double()).exp().mean().log())
    assert float(result.log_z) == pytest.approx(log_z)
    assert float(result.loss) == pytest.approx(
        float(data.double().mean()) + log_z + 0.1 * float(prior.double().mean()) ** 2
    )
    weights = (-prior.double()).exp() / (-prior.double()).exp().sum()
    assert float(result.effective_sample_size) == pytest.approx(float(1 / weights.square().sum()))


def test_the_gradient_weighs_draws_by_the_energy() -> None:
    data, prior = torch.zeros(2, dtype=DOUBLE, requires_grad=True), torch.tensor([0.0, math.log(3.0)], dtype=DOUBLE)
    prior.requires_grad_()
    importance_sampled_loss(data, prior).loss.backward()
    assert data.grad is not None
    assert prior.grad is not None
    assert torch.allclose(data.grad, torch.tensor([0.5, 0.5], dtype=DOUBLE))
    assert torch.allclose(prior.grad, torch.tensor([-0.75, -0.25], dtype=DOUBLE))


def test_a_constant_energy_is_no_gain() -> None:
    result = importance_sampled_loss(torch.full((3,), 2.0), torch.full((4,), 2.0))
    assert float(result.loss) == pytest.approx(0, abs=1e-12)
    assert float(result.effective_sample_size) == pytest.approx(4)


def test_the_estimate_of_log_z_is_too_low_on_average(generator: torch.Generator) -> None:
    """Energies N(0, 1): log Z = ½; with few draws the mean of log Ẑ is clearly below."""
    energies = torch.randn(4000, 4, generator=generator, dtype=DOUBLE)
    means = [float(importance_sampled_loss(torch.zeros(1), row).log_z) for row in energies]
    assert sum(means) / len(means) < 0.5 - 0.05
