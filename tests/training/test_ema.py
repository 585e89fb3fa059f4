from __future__ import annotations

import pytest
import torch
from torch import nn

from vaebm.nn import normalized
from vaebm.training import update_average


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_it_is_the_weighted_sum_of_the_past() -> None:
    layer = nn.Linear(1, 1, bias=False).double()
    average, values = {"weight": torch.full((1, 1), 5.0, dtype=torch.float64)}, [1.0, -2.0, 4.0]
    for value in values:
        with torch.no_grad():
            layer.weight.fill_(value)
        average = update_average(average, layer, 0.9)
    expected = 0.9**3 * 5 + 0.1 * (0.9**2 * 1 + 0.9 * -2 + 4)
    assert float(average["weight"]) == pytest.approx(expected, rel=1e-14)


def test_neither_argument_changes() -> None:
    layer = nn.Linear(2, 2)
    average = {name: value + 1 for name, value in state_of(layer).items()}
    before, weights = {name: value.clone() for name, value in average.items()}, state_of(layer)
    after = update_average(average, layer, 0.5)
    assert all(torch.equal(average[name], before[name]) for name in before)
    assert all(torch.equal(value, weights[name]) for name, value in layer.state_dict().items())
    assert all(torch.allclose(after[name], weights[name] + 0.5) for name in after)
    assert not any(value.requires_grad for value in after.values())


def test_buffers_are_copied_so_that_unit_vectors_stay_of_unit_length() -> None:
    layer = normalized(nn.Linear(5, 4), "spectral")
    average = state_of(layer)
    for _ in range(3):
        with torch.no_grad():
            layer.parametrizations.weight.original.normal_()
        layer(torch.zeros(1, 5))
        average = update_average(average, layer, 0.5)
    names = [name for name in average if name.endswith(("_u", "_v"))]
    assert len(names) == 2
    for name in names:
        assert torch.equal(average[name], layer.state_dict()[name])
        assert float(average[name].norm()) == pytest.approx(1, abs=1e-6)


def test_counters_are_copied() -> None:
    layer = nn.BatchNorm1d(2)
    average = state_of(layer)
    layer(torch.randn(4, 2))
    after = update_average(average, layer, 0.9)
    assert int(after["num_batches_tracked"]) == 1
    assert torch.equal(after["running_mean"], layer.running_mean)
