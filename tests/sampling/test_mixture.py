"""A mixture makes each step with one of its kernels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaebm.sampling import ChainState, Jump, Kernel, Langevin, Mala, Mixture


def standard_normal(noise: Tensor) -> Tensor:
    return -0.5 * noise.square().sum(1)


def test_each_kernel_makes_its_share_of_the_steps() -> None:
    kernel, generator = Mixture((Mala(0.1), Jump()), (0.75, 0.25)), torch.Generator().manual_seed(0)
    state, jumps = ChainState(torch.zeros(2, 2)), 0
    for _ in range(1000):
        state, info = kernel(state, standard_normal, generator)
        jumps += int(info.grad_norm.isnan().all())
    # Standard deviation 13.7.
    assert jumps == pytest.approx(250, abs=55)


@pytest.mark.parametrize(
    ("kernels", "probabilities"),
    [((), ()), ((Jump(),), (0.5, 0.5)), ((Jump(), Mala(0.1)), (0.5, 0.4)), ((Jump(), Mala(0.1)), (1.0, 0.0))],
)
def test_probabilities_must_fit(kernels: tuple[Kernel, ...], probabilities: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        Mixture(kernels, probabilities)


def test_momentum_is_for_one_kernel_alone() -> None:
    with pytest.raises(ValueError, match="keeps momentum"):
        Mixture((Langevin(0.1, 0.5), Jump()), (0.5, 0.5))
