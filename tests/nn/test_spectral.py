"""Largest singular values, against torch.linalg."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from vaebm.nn import normalized, spectral_norms, spectral_vectors


def small_network() -> nn.Module:
    return nn.Sequential(
        normalized(nn.Conv2d(2, 5, 3), "weight"), nn.Conv2d(5, 1, 1), nn.Flatten(), nn.Linear(4, 2)
    ).double()


def exact(network: nn.Module) -> Tensor:
    weights = [module.weight.flatten(1) for module in network.modules() if isinstance(module, nn.Conv2d)]
    return torch.stack([torch.linalg.matrix_norm(weight, ord=2) for weight in weights])


def test_vectors_are_of_unit_length_one_for_each_convolution(generator: torch.Generator) -> None:
    vectors = spectral_vectors(small_network(), generator)
    assert {name: len(vector) for name, vector in vectors.items()} == {"0": 5, "1": 1}
    assert all(abs(float(vector.norm()) - 1) < 1e-12 for vector in vectors.values())
    assert all(vector.dtype == torch.float64 for vector in vectors.values())


def test_same_seed_same_vectors() -> None:
    first, again, other = (
        spectral_vectors(small_network(), torch.Generator().manual_seed(seed))["0"] for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_values_are_the_largest_singular_values(generator: torch.Generator) -> None:
    network = small_network()
    norms = spectral_norms(network, spectral_vectors(network, generator), num_iterations=300)
    assert torch.allclose(norms.values, exact(network), rtol=1e-12, atol=0)


def test_a_few_iterations_stay_below_and_come_closer(generator: torch.Generator) -> None:
    network = small_network()
    vectors = spectral_vectors(network, generator)
    values = [spectral_norms(network, vectors, num_iterations=count).values[0] for count in (1, 2, 4, 8)]
    assert all(earlier < later for earlier, later in pairwise(values))
    assert values[-1] <= exact(network)[0]


def test_gradient_is_that_of_the_exact_norm(generator: torch.Generator) -> None:
    network = small_network()
    parameters = [parameter for parameter in network.parameters() if parameter.ndim == 4]
    norms = spectral_norms(network, spectral_vectors(network, generator), num_iterations=300)
    found = torch.autograd.grad(norms.values.sum(), parameters)
    wanted = torch.autograd.grad(exact(network).sum(), parameters)
    assert len(found) == 3
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_vectors_are_held_fixed_in_the_gradient(generator: torch.Generator) -> None:
    """The gradient of uᵀ W v by W is u vᵀ: of rank one and of length one, however far u and v are from convergence."""
    layer = nn.Conv2d(3, 4, 3).double()
    norms = spectral_norms(layer, spectral_vectors(layer, generator), num_iterations=1)
    (grad,) = torch.autograd.grad(norms.values.sum(), layer.weight)
    assert float(grad.norm()) == pytest.approx(1, rel=1e-12)
    assert int(torch.linalg.matrix_rank(grad.flatten(1))) == 1


def test_going_on_from_vectors_is_as_if_never_stopped(generator: torch.Generator) -> None:
    network = small_network()
    vectors = spectral_vectors(network, generator)
    kept = {name: vector.clone() for name, vector in vectors.items()}
    once = spectral_norms(network, vectors, num_iterations=8)
    twice = spectral_norms(network, spectral_norms(network, vectors, num_iterations=4).vectors, num_iterations=4)
    assert torch.equal(once.values, twice.values)
    assert all(torch.equal(once.vectors[name], twice.vectors[name]) for name in kept)
    assert all(torch.equal(vectors[name], kept[name]) for name in kept)


def test_a_network_without_convolutions_has_no_norms(generator: torch.Generator) -> None:
    layer = nn.Linear(2, 2)
    assert spectral_norms(layer, spectral_vectors(layer, generator)).values.shape == (0,)
