"""Normalised layers, against their formulas; initialisation from data; networks held constant."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vaebm.nn import frozen, initialize_from_data, normalized, swish_1lipschitz

DOUBLE = torch.float64


def images(count: int = 6) -> Tensor:
    return torch.rand(count, 2, 7, 6, generator=torch.Generator().manual_seed(1), dtype=DOUBLE) * 2 - 1


def small_network() -> nn.Sequential:
    first = normalized(nn.Conv2d(2, 5, 3, 2, 1), "weight")
    second = normalized(nn.Conv2d(5, 4, 3), "weight")
    head = normalized(nn.Linear(4 * 2 * 1, 3), "weight")
    return nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), nn.Flatten(), head).double()


def outputs_of(network: nn.Module, batch: Tensor) -> list[Tensor]:
    seen: list[Tensor] = []
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]

    def keep(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
        seen.append(output.detach())

    handles = [layer.register_forward_hook(keep) for layer in layers]
    network(batch)
    for handle in handles:
        handle.remove()
    return seen


def operator_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    point = torch.zeros(1, *shape, dtype=DOUBLE)
    jacobian = torch.autograd.functional.jacobian(lambda hidden: layer(hidden).flatten(), point)
    return float(torch.linalg.matrix_norm(jacobian.flatten(1), ord=2))


def test_slope_of_the_swish_stays_below_one() -> None:
    points = torch.linspace(-20, 20, 40001, dtype=DOUBLE, requires_grad=True)
    (slope,) = torch.autograd.grad(swish_1lipschitz(points).sum(), points)
    assert 0.999 < float(slope.abs().max()) < 1


def test_weight_normalisation_is_a_length_times_a_direction() -> None:
    layer = normalized(nn.Conv2d(2, 3, 3), "weight").double()
    length, direction = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    expected = length * direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert torch.allclose(layer.weight, expected, rtol=1e-14, atol=0)


def test_spectral_normalisation_makes_a_linear_layer_one_lipschitz() -> None:
    layer = nn.Linear(6, 5).double()
    with torch.no_grad():
        layer.weight.mul_(30)
    layer = normalized(layer, "spectral")
    for _ in range(100):
        layer(torch.zeros(1, 6, dtype=DOUBLE))
    assert operator_norm(layer.eval(), (6,)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (3, 2), (5, 2), (1, 1)])
def test_spectral_normalisation_bounds_a_convolution_by_its_overlap(kernel_size: int, stride: int) -> None:
    layer = nn.Conv2d(2, 4, kernel_size, stride, kernel_size // 2).double()
    with torch.no_grad():
        # All kernels alike and positive: patches add up where they overlap, the worst case.
        layer.weight.fill_(30.0)
    layer = normalized(layer, "spectral")
    bound = math.ceil(kernel_size / stride)
    norm = operator_norm(layer.eval(), (2, 8, 8))
    assert norm <= bound + 1e-9
    assert norm > 0.6 * bound


def test_no_normalisation_leaves_a_layer_alone() -> None:
    layer = nn.Linear(2, 2)
    assert normalized(layer, "none") is layer
    assert set(dict(layer.named_parameters())) == {"weight", "bias"}


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="'batch': expected one of weight, spectral, none"):
        normalized(nn.Linear(2, 2), "batch")


@pytest.mark.parametrize("spread", [0.2, 1.5])
def test_initialisation_centres_every_layer_and_sets_its_spread(spread: float) -> None:
    network = small_network()
    initialize_from_data(network, images(), spread)
    outputs = outputs_of(network, images())
    assert len(outputs) == 3
    for output in outputs:
        axes = [axis for axis in range(output.ndim) if axis != 1]
        assert float(output.mean(axes).abs().max()) < 1e-12
        assert torch.allclose(output.std(axes), torch.tensor(spread, dtype=DOUBLE), rtol=1e-4)


def test_initialisation_keeps_directions_and_layers_without_weight_normalisation() -> None:
    network = nn.Sequential(normalized(nn.Conv2d(2, 3, 3), "weight"), nn.Conv2d(3, 2, 1)).double()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    initialize_from_data(network, images())
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"0.bias", "0.parametrizations.weight.original0"}


def test_initialisation_a_second_time_changes_nothing() -> None:
    network = small_network()
    initialize_from_data(network, images())
    once = network(images())
    initialize_from_data(network, images())
    assert torch.allclose(network(images()), once, atol=1e-4)


def test_initialisation_leaves_no_hooks_behind_even_if_it_fails() -> None:
    network = small_network()
    with pytest.raises(RuntimeError):
        initialize_from_data(network, images()[:, :1])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(images())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_one_image_has_no_spread() -> None:
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match="expected at least 2"):
        initialize_from_data(network, images(1))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_frozen_network_passes_gradients_to_its_input_only() -> None:
    network = small_network()
    batch = images().requires_grad_()
    with frozen(network):
        network(batch).sum().backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    expected = torch.autograd.grad(network(batch).sum(), batch)[0]
    assert batch.grad is not None
    assert torch.equal(batch.grad, expected)


def test_a_frozen_network_is_as_before_even_after_an_error() -> None:
    network = small_network()
    network[0].bias.requires_grad_(False)
    network[2].eval()
    flags = [parameter.requires_grad for parameter in network.parameters()]
    modes = [module.training for module in network.modules()]
    with pytest.raises(RuntimeError), frozen(network):
        network(images()[:, :1])
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert [module.training for module in network.modules()] == modes


def test_a_frozen_spectral_layer_keeps_its_vectors() -> None:
    layer = normalized(nn.Linear(4, 3), "spectral")
    before = {name: value.clone() for name, value in layer.named_buffers()}
    assert before
    with frozen(layer):
        layer(torch.ones(1, 4))
    assert all(torch.equal(value, before[name]) for name, value in layer.named_buffers())
    layer(torch.ones(1, 4))
    assert not all(torch.equal(value, before[name]) for name, value in layer.named_buffers())
