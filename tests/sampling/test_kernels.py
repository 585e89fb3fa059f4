"""What every kernel must do, and how exactly each of them samples. A new kernel is one more row of KERNELS."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from vaebm.sampling import ChainState, Jump, Kernel, Langevin, Mala, Mixture, grad_log_density, run_chain

DOUBLE = torch.float64


@dataclass(frozen=True)
class Row:
    """A kernel, how many steps it needs to forget its start, and the covariance that it then has, bias included."""

    kernel: Kernel
    num_steps: int
    covariance: Tensor


COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=DOUBLE)
MEAN = torch.tensor([1.5, -0.5], dtype=DOUBLE)


def langevin(step_size: float, num_steps: int) -> Row:
    bias = torch.linalg.inv(torch.eye(2, dtype=DOUBLE) - 0.25 * step_size * torch.linalg.inv(COVARIANCE))
    return Row(Langevin(step_size), num_steps, COVARIANCE @ bias)


def momentum(step_size: float, num_steps: int) -> Row:
    return replace(langevin(step_size, num_steps), kernel=Langevin(step_size, 0.6))


KERNELS = {
    "langevin": langevin(0.05, 400),
    "langevin, long steps": langevin(0.4, 60),
    "momentum": momentum(0.05, 400),
    "mala": Row(Mala(0.4), 60, COVARIANCE),
    "mala, long steps": Row(Mala(1.5), 60, COVARIANCE),
    "jump": Row(Jump(), 150, COVARIANCE),
    "partial jump": Row(Jump(0.6), 150, COVARIANCE),
    "mixture": Row(Mixture((Mala(0.4), Jump()), (0.7, 0.3)), 80, COVARIANCE),
}


def log_density(noise: Tensor) -> Tensor:
    centred = noise - MEAN.to(noise.dtype)
    return -0.5 * (centred @ torch.linalg.inv(COVARIANCE).to(noise.dtype) * centred).sum(1)


def start(count: int = 4, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(3), dtype=dtype)


@pytest.mark.parametrize("row", KERNELS.values(), ids=KERNELS)
def test_same_seed_same_step_and_nothing_else_changes(row: Row) -> None:
    state = ChainState(start())
    before = state.noise.clone()
    results = [row.kernel(state, log_density, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(state.noise, before)
    assert torch.equal(results[0].state.noise, results[1].state.noise)
    assert not torch.equal(results[0].state.noise, results[2].state.noise)
    assert torch.equal(results[0].info.log_density, results[1].info.log_density)


@pytest.mark.parametrize("row", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_shapes_types_and_no_graph(row: Row, dtype: torch.dtype, generator: torch.Generator) -> None:
    noise = start(dtype=dtype).requires_grad_()
    state, info = row.kernel(ChainState(noise), log_density, generator)
    assert state.noise.shape == (4, 2)
    assert state.noise.dtype == dtype
    assert not state.noise.requires_grad
    for figure in (info.log_density, info.grad_norm, info.displacement, info.acceptance):
        assert figure.shape == (4,)
        assert not figure.requires_grad
    assert torch.allclose(info.log_density, log_density(start(dtype=dtype)))
    assert torch.isfinite(info.displacement).all()
    assert ((info.acceptance >= 0) & (info.acceptance <= 1)).all()
    assert torch.isfinite(info.grad_norm).all() or info.grad_norm.isnan().all()


@pytest.mark.parametrize("row", KERNELS.values(), ids=KERNELS)
def test_what_a_state_knows_is_true_and_saves_nothing_but_time(row: Row) -> None:
    state = ChainState(start())
    for seed in range(5):
        knowing = row.kernel(state, log_density, torch.Generator().manual_seed(seed))
        bare = ChainState(state.noise, momentum=state.momentum)
        ignorant = row.kernel(bare, log_density, torch.Generator().manual_seed(seed))
        assert torch.equal(knowing.state.noise, ignorant.state.noise)
        state = knowing.state
        if state.log_density is not None:
            assert torch.allclose(state.log_density, log_density(state.noise), rtol=1e-12)
        if state.grad is not None:
            assert torch.allclose(state.grad, grad_log_density(log_density, state.noise).grad, rtol=1e-12)


@pytest.mark.parametrize("row", KERNELS.values(), ids=KERNELS)
def test_chains_do_not_see_each_other(row: Row) -> None:
    together = row.kernel(ChainState(start(3)), log_density, torch.Generator().manual_seed(0)).state.noise
    moved = start(3)
    moved[1:] += 5
    apart = row.kernel(ChainState(moved), log_density, torch.Generator().manual_seed(0)).state.noise
    assert torch.equal(together[0], apart[0])


@pytest.mark.parametrize("row", KERNELS.values(), ids=KERNELS)
def test_moments_of_a_correlated_gaussian(row: Row, generator: torch.Generator) -> None:
    noise = torch.zeros(4000, 2, dtype=DOUBLE)
    for step in run_chain(row.kernel, noise, log_density, row.num_steps, generator):
        noise = step.state.noise
    # Four standard errors of 4,000 chains.
    assert torch.allclose(noise.mean(0), MEAN, atol=0.07, rtol=0)
    assert torch.allclose(torch.cov(noise.T), row.covariance, atol=0.11, rtol=0)
