from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vaebm.sampling import (
    ChainState,
    ChainStep,
    Jump,
    Kernel,
    Langevin,
    Mala,
    Mixture,
    grad_log_density,
    pass_over,
    run_chain,
)

DOUBLE = torch.float64


def quartic(noise: Tensor) -> Tensor:
    return -0.25 * noise.pow(4).sum(1)


def test_value_and_gradient() -> None:
    noise = torch.randn(4, 3, dtype=DOUBLE)
    result = grad_log_density(quartic, noise)
    assert torch.allclose(result.value, quartic(noise))
    assert torch.allclose(result.grad, -noise.pow(3))


def test_gradient_carries_no_graph_and_needs_no_grad_mode() -> None:
    noise = torch.ones(2, 1, requires_grad=True)
    with torch.no_grad():
        result = grad_log_density(quartic, noise)
    assert not result.value.requires_grad
    assert not result.grad.requires_grad
    assert result.grad.tolist() == [[-1.0], [-1.0]]
    assert noise.grad is None


def test_gradient_of_float32_noise_under_a_float64_density_is_float32() -> None:
    result = grad_log_density(lambda noise: quartic(noise.double()), torch.ones(2, 1))
    assert (result.value.dtype, result.grad.dtype) == (DOUBLE, torch.float32)


def test_it_yields_after_every_step_and_works_only_when_asked(generator: torch.Generator) -> None:
    calls = []

    def counted(noise: Tensor) -> Tensor:
        calls.append(len(noise))
        return quartic(noise)

    steps = run_chain(Langevin(0.1), torch.zeros(2, 3), counted, 4, generator)
    assert isinstance(steps, Iterator)
    assert calls == []
    first = next(steps)
    assert isinstance(first, ChainStep)
    assert (first.number, len(calls)) == (1, 1)
    assert [step.number for step in steps] == [2, 3, 4]
    assert calls == [2, 2, 2, 2]


def test_it_is_the_kernel_again_and_again() -> None:
    noise = torch.randn(3, 2, dtype=DOUBLE)
    before = noise.clone()
    steps = list(run_chain(Langevin(0.1), noise, quartic, 3, torch.Generator().manual_seed(1)))
    state, generator = ChainState(noise), torch.Generator().manual_seed(1)
    for step in steps:
        state, _ = Langevin(0.1)(state, quartic, generator)
        assert torch.equal(step.state.noise, state.noise)
    assert torch.equal(noise, before)
    assert not torch.equal(steps[0].state.noise, steps[1].state.noise)


def test_a_chain_in_two_parts_is_the_whole_chain() -> None:
    noise = torch.randn(3, 2, dtype=DOUBLE)
    whole = list(run_chain(Langevin(0.1), noise, quartic, 5, torch.Generator().manual_seed(1)))[-1]
    generator = torch.Generator().manual_seed(1)
    half = list(run_chain(Langevin(0.1), noise, quartic, 2, generator))[-1]
    rest = list(run_chain(Langevin(0.1), half.state.noise, quartic, 3, generator))[-1]
    assert torch.equal(rest.state.noise, whole.state.noise)


@pytest.mark.parametrize("num_steps", [0, 1])
def test_number_of_steps(num_steps: int, generator: torch.Generator) -> None:
    assert len(list(run_chain(Langevin(0.1), torch.zeros(1, 1), quartic, num_steps, generator))) == num_steps


@pytest.mark.parametrize(
    "kernel",
    [
        Langevin(0.1),
        Langevin(0.1, 0.7),
        Mala(0.1),
        Jump(),
        Mixture((Langevin(0.1), Mala(0.2), Jump()), (0.3, 0.3, 0.4)),
    ],
    ids=lambda kernel: type(kernel).__name__,
)
def test_passing_over_a_chain_draws_what_the_chain_draws(kernel: Kernel) -> None:
    noise = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    ran, passed = torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
    for _ in run_chain(kernel, noise, quartic, 6, ran):
        pass
    pass_over(kernel, noise, 6, passed)
    assert torch.equal(ran.get_state(), passed.get_state())
