"""Unadjusted Langevin is a linear recursion on a Gaussian target: everything about it is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaebm.sampling import ChainState, Langevin, Mala, run_chain

DOUBLE = torch.float64


def standard_normal(noise: Tensor) -> Tensor:
    return -0.5 * noise.square().sum(1)


def flat(noise: Tensor) -> Tensor:
    return 0 * noise.sum(1)


def step_from(noise: Tensor, step_size: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return Langevin(step_size)(ChainState(noise), standard_normal, generator).state.noise


def stationary_variance(step_size: float) -> float:
    """From the recursion x' = a x + b ξ that the kernel itself shows: v = b² / (1 − a²)."""
    zero, one = torch.zeros(1, 1, dtype=DOUBLE), torch.ones(1, 1, dtype=DOUBLE)
    slope = float(step_from(one, step_size) - step_from(zero, step_size))
    fresh = torch.randn(1, 1, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    spread = float(step_from(zero, step_size) / fresh)
    return spread**2 / (1 - slope**2)


def test_one_step_is_the_formula() -> None:
    noise = torch.randn(5, 3, dtype=DOUBLE)
    fresh = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    expected = noise - 0.5 * 0.3 * noise + 0.3**0.5 * fresh
    assert torch.allclose(step_from(noise, 0.3), expected, rtol=1e-14)


def test_diagnostics_are_those_of_the_step() -> None:
    noise = torch.randn(5, 3, dtype=DOUBLE)
    state, info = Langevin(0.3)(ChainState(noise), standard_normal, torch.Generator().manual_seed(0))
    assert torch.allclose(info.log_density, standard_normal(noise))
    assert torch.allclose(info.grad_norm, noise.norm(dim=1))
    assert torch.allclose(info.displacement, (state.noise - noise).norm(dim=1))


@pytest.mark.parametrize("step_size", [0.01, 0.05, 0.5, 2.0])
def test_stationary_variance(step_size: float) -> None:
    assert stationary_variance(step_size) == pytest.approx(1 / (1 - step_size / 4), rel=1e-11)


def test_bias_is_of_first_order() -> None:
    sizes = torch.tensor([0.08, 0.04, 0.02, 0.01], dtype=DOUBLE)
    biases = torch.tensor([stationary_variance(float(size)) - 1 for size in sizes], dtype=DOUBLE)
    orders = (biases[:-1] / biases[1:]).log2()
    assert torch.allclose(orders, torch.ones(3, dtype=DOUBLE), atol=0.02)
    assert float(biases[-1] / sizes[-1]) == pytest.approx(0.25, rel=0.01)


def test_long_chains_have_the_stationary_moments(generator: torch.Generator) -> None:
    noise = torch.full((100, 500), 3.0, dtype=DOUBLE)
    for step in run_chain(Langevin(0.5), noise, standard_normal, 80, generator):
        noise = step.state.noise
    # 50,000 values: standard errors 0.005 of the mean and 0.007 of the variance; the bias is 0.143.
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.var()) == pytest.approx(1 / (1 - 0.5 / 4), abs=0.03)


def test_without_a_force_a_chain_diffuses(generator: torch.Generator) -> None:
    noise = torch.zeros(100, 500, dtype=DOUBLE)
    for step in run_chain(Langevin(0.1), noise, flat, 7, generator):
        noise = step.state.noise
    assert float(noise.var()) == pytest.approx(0.7, rel=0.03)


@pytest.mark.parametrize("step_size", [0.0, -0.1, float("nan")])
def test_a_step_size_must_be_positive(step_size: float) -> None:
    with pytest.raises(ValueError, match="expected a positive number"):
        Langevin(step_size)


def test_the_acceptance_of_a_move_is_known_one_step_later() -> None:
    def skewed(noise: Tensor) -> Tensor:
        return -(0.25 * noise**4 + 0.5 * (noise - 1) ** 2).sum(1)

    noise = torch.randn(400, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    steps = list(run_chain(Langevin(0.5), noise, skewed, 2, torch.Generator().manual_seed(0)))
    assert steps[0].info.earlier_acceptance is None
    _, info = Mala(0.5)(ChainState(noise), skewed, torch.Generator().manual_seed(0))
    assert steps[1].info.earlier_acceptance is not None
    assert torch.allclose(steps[1].info.earlier_acceptance, info.acceptance, rtol=1e-12)
    assert 0.3 < float(info.acceptance.mean()) < 0.95


@pytest.mark.parametrize(("step_size", "dimensions"), [(0.1, 80), (0.4, 80), (0.1, 800)])
def test_on_a_standard_normal_that_acceptance_is_the_formula(step_size: float, dimensions: int) -> None:
    noise = torch.randn(4000, dimensions, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    steps = list(run_chain(Langevin(step_size), noise, standard_normal, 2, torch.Generator().manual_seed(0)))
    assert steps[1].info.earlier_acceptance is not None
    spread = (dimensions * step_size**3 / 16) ** 0.5
    expected = 2 * torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(-spread / 2))
    assert float(steps[1].info.earlier_acceptance.mean()) == pytest.approx(float(expected), abs=0.03)


def momentum_chain(
    persistence: float, num_steps: int, step_size: float = 0.5, num_chains: int = 2000
) -> list[ChainState]:
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(num_chains, 4, generator=generator, dtype=DOUBLE)
    chain = run_chain(Langevin(step_size, persistence), start, standard_normal, num_steps, generator)
    return [step.state for step in chain]


def test_kept_momentum_is_a_leapfrog_step_with_a_part_of_it_renewed() -> None:
    noise = torch.randn(5, 3, dtype=DOUBLE)
    kernel, generator = Langevin(0.3, 0.6), torch.Generator().manual_seed(0)
    (first, _), same = kernel(ChainState(noise), standard_normal, generator), torch.Generator().manual_seed(0)
    second, _ = kernel(first, standard_normal, generator)
    length, momentum, place = 0.3**0.5, torch.randn(5, 3, generator=same, dtype=DOUBLE), noise
    for found in (first, second):
        kicked = momentum - 0.5 * length * place
        place = place + length * kicked
        assert torch.allclose(found.noise, place, rtol=1e-13)
        momentum = kicked - 0.5 * length * place
        momentum = 0.6 * momentum + 0.8 * torch.randn(5, 3, generator=same, dtype=DOUBLE)


@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.9])
def test_momentum_leaves_the_stationary_variance_alone(persistence: float) -> None:
    states = momentum_chain(persistence, 200)
    variance = torch.stack([state.noise.square().mean() for state in states[50:]]).mean()
    assert float(variance) == pytest.approx(1 / (1 - 0.5 / 4), rel=0.01)


def test_momentum_carries_chains_further() -> None:
    def correlation(persistence: float) -> float:
        start, end = (momentum_chain(persistence, 12, step_size=0.02)[place].noise for place in (0, -1))
        return float((start * end).mean() / start.square().mean())

    assert correlation(0.8) < correlation(0.0) - 0.2


def test_the_acceptance_of_a_step_with_momentum_is_that_of_its_energy() -> None:
    kernel, generator = Langevin(0.4, 0.7), torch.Generator().manual_seed(1)
    state = ChainState(torch.randn(50, 6, generator=generator, dtype=DOUBLE))
    first, info = kernel(state, standard_normal, generator)
    assert info.earlier_acceptance is None
    _, info = kernel(first, standard_normal, generator)
    assert info.earlier_acceptance is not None
    assert first.before is not None
    assert first.before.momentum is not None
    assert first.momentum is not None
    ended = first.momentum - 0.5 * 0.4**0.5 * first.noise
    rise = standard_normal(first.noise) - standard_normal(first.before.noise)
    rise += 0.5 * (first.before.momentum.square().sum(1) - ended.square().sum(1))
    assert torch.allclose(info.earlier_acceptance, rise.clamp(max=0).exp(), rtol=1e-12)
    assert 0.5 < float(info.earlier_acceptance.mean()) < 1


def test_fresh_momentum_is_langevin_and_its_acceptance_too() -> None:
    states = [ChainState(torch.randn(20, 6, generator=torch.Generator().manual_seed(2), dtype=DOUBLE))] * 2
    generators = [torch.Generator().manual_seed(4) for _ in range(2)]
    kernels = (Langevin(0.4), Langevin(0.4, 1e-12))
    for _ in range(3):
        moved = [kernel(state, standard_normal, generator)
                 for kernel, state, generator in zip(kernels, states, generators, strict=True)]  # fmt: skip
        states = [state for state, _ in moved]
        assert torch.allclose(states[0].noise, states[1].noise, rtol=1e-9)
    earlier = [info.earlier_acceptance for _, info in moved]
    assert earlier[0] is not None
    assert earlier[1] is not None
    assert torch.allclose(earlier[0], earlier[1], rtol=1e-9)


@pytest.mark.parametrize("persistence", [-0.1, 1.0, float("nan")])
def test_a_persistence_must_be_a_share(persistence: float) -> None:
    with pytest.raises(ValueError, match="persistence is"):
        Langevin(0.1, persistence)
