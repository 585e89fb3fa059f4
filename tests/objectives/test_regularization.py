"""The spectral penalty, against the exact largest singular values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vaebm.models import EnergyNetwork
from vaebm.nn import spectral_vectors
from vaebm.objectives import SpectralPenalty, spectral_penalty


def converged(energy: nn.Module, generator: torch.Generator) -> SpectralPenalty:
    vectors = spectral_vectors(energy, generator)
    for _ in range(60):
        vectors = spectral_penalty(energy, vectors).vectors
    return spectral_penalty(energy, vectors)


def exact(energy: nn.Module) -> list[float]:
    weights = [module.weight.detach().flatten(1) for module in energy.modules() if isinstance(module, nn.Conv2d)]
    return [float(torch.linalg.matrix_norm(weight, ord=2)) for weight in weights]


@pytest.mark.parametrize(("blocks", "count"), [("plain", 2), ("residual", 7)])
def test_it_converges_to_the_sum_of_exact_norms(blocks: str, count: int, generator: torch.Generator) -> None:
    energy = EnergyNetwork((1, 8, 8), blocks=blocks, widths=(4, 6)).double()
    norms = exact(energy)
    assert len(norms) == count
    assert float(converged(energy, generator).value.detach()) == pytest.approx(sum(norms), rel=1e-6)


def test_descending_it_shrinks_every_convolution_and_touches_nothing_else(generator: torch.Generator) -> None:
    energy = EnergyNetwork((1, 8, 8), widths=(4, 6)).double()
    before = exact(energy)
    converged(energy, generator).value.backward()
    touched = {name.split(".")[0] for name, parameter in energy.named_parameters() if parameter.grad is not None}
    assert touched == {"body"}
    torch.optim.SGD(energy.parameters(), lr=0.01).step()
    assert all(after < norm for after, norm in zip(exact(energy), before, strict=True))
