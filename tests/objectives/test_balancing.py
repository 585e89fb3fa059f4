"""NVAE's warm-up, balanced divergences and penalties, against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vaebm.objectives.balancing import (
    balancing_weights,
    batch_norm_penalty,
    hierarchical_kl_weight_at,
    penalty_weight_at,
)


def test_weights_are_those_of_the_formula() -> None:
    kl = torch.rand(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 9
    num_groups = (1, 2, 4)
    alpha = [1 / 1] + [4 / 2] * 2 + [16 / 4] * 4
    alpha = torch.tensor(alpha, dtype=torch.float64) / min(alpha)
    mean = kl.mean(0) + 0.01
    expected = mean / alpha * mean.sum()
    assert torch.allclose(balancing_weights(kl, num_groups), expected / expected.mean())


def test_weights_have_mean_one_and_no_gradient() -> None:
    kl = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    weights = balancing_weights(kl, (2, 2))
    assert not weights.requires_grad
    assert float(weights.mean()) == pytest.approx(1)


def test_one_scale_of_equal_divergences_is_balanced() -> None:
    assert torch.allclose(balancing_weights(torch.full((3, 6), 2.0), (6,)), torch.ones(6))


def test_other_numbers_of_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="3 groups: expected 4"):
        balancing_weights(torch.zeros(2, 3), (2, 2))


def test_the_warm_up() -> None:
    assert hierarchical_kl_weight_at(0, 10_000) == 1e-4
    assert hierarchical_kl_weight_at(1501, 10_000) == pytest.approx(0.5)
    assert hierarchical_kl_weight_at(3001, 10_000) == pytest.approx(1)
    assert hierarchical_kl_weight_at(9999, 10_000) == 1
    assert hierarchical_kl_weight_at(0, 10, warmup=0) == 1


def test_penalties() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([0.5, -3.0, 1.0]))
    penalty = batch_norm_penalty(network)
    assert float(penalty.detach()) == 4
    penalty.backward()
    assert network[0].weight.grad.tolist() == [0, -1, 0]
    assert float(batch_norm_penalty(nn.Linear(2, 2))) == 0
    assert penalty_weight_at(0.3, 0.1) == 0.1
    assert penalty_weight_at(1.0, 0.01, 10.0) == pytest.approx(0.01)
