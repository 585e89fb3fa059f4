r"""Annealed importance sampling: log Z of a tilted Gaussian, along a path of temperatures.

Base N(0, I), tilt f (of a VAEBM: f(noise) = −E(image(noise))), path γ_β ∝ N(0, I) · exp(β f), 0 = β_0 < … < β_T = 1,
and Z = ∫ N(0, I) exp(f). A forward chain starts from N(0, I) and collects

    log w = Σ_t (β_t − β_{t−1}) f(x_{t−1}),    x_t ~ kernel that leaves γ_{β_t} invariant, from x_{t−1}.

E[w] = Z, so E[log w] ≤ log Z: the mean of log w is a lower bound in expectation. A reverse chain starts from γ_1 and
collects log r = Σ_t (β_t − β_{t−1}) f(x_{t−1}) on its way down; if its start points are *exact* draws of γ_1, then
E[1/r] = 1/Z and E[log r] ≥ log Z. From approximate draws the latter is no bound of anything.

With the single step 0 → 1 the forward weights are those of simple importance sampling from the base.

References:
    Annealed Importance Sampling (Neal), https://arxiv.org/abs/physics/9803008
    Sandwiching the marginal likelihood using bidirectional Monte Carlo (Grosse, Ghahramani, Adams),
    https://arxiv.org/abs/1511.02543
    Toward Automatic Model Comparison: An Adaptive Sequential Monte Carlo Approach (conditional ESS; Zhou, Johansen,
    Aston), https://arxiv.org/abs/1303.3123
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from vaebm.sampling.adaptation import adapt_step_size
from vaebm.sampling.kernel import ChainState, Kernel, LogDensity
from vaebm.sampling.mala import Mala


@dataclass(frozen=True)
class Ladder:
    """The path: ascending temperatures from 0 to 1 (T + 1 of them), and a kernel for each but the first (T).

    Raises:
        ValueError: If there are fewer than two temperatures, they don't ascend from 0 to 1, or kernels are missing.
    """

    temperatures: tuple[float, ...]
    kernels: tuple[Kernel, ...]

    def __post_init__(self) -> None:
        temperatures = self.temperatures
        if len(temperatures) < 2:
            raise ValueError(f"a ladder of {len(temperatures)} temperatures: expected two or more, from 0 to 1")
        ascending = all(low < high for low, high in pairwise(temperatures))
        if temperatures[0] != 0 or temperatures[-1] != 1 or not ascending:
            raise ValueError("the temperatures of a ladder must ascend from 0 to 1")
        if len(self.kernels) != len(temperatures) - 1:
            raise ValueError(f"{len(self.kernels)} kernels for {len(temperatures) - 1} steps of a ladder")


@dataclass(frozen=True)
class Annealed:
    """Ends of annealed chains: log-weights (B,), float64; noise (B, D); mean acceptance at each temperature (T,)."""

    log_weights: Tensor
    noise: Tensor
    acceptance: Tensor


def uniform_ladder(num_temperatures: int, kernel: Kernel) -> Ladder:
    """Returns a ladder of evenly spaced temperatures, 0 and 1 included, with the same kernel at each.

    Example:
        >>> uniform_ladder(3, Mala(0.1)).temperatures
        (0.0, 0.5, 1.0)
    """
    last = num_temperatures - 1
    temperatures = tuple(index / last for index in range(num_temperatures)) if last > 0 else (0.0,)
    return Ladder(temperatures, (kernel,) * max(last, 0))


def resized_ladder(ladder: Ladder, num_temperatures: int) -> Ladder:
    """Returns a ladder of another length along the same path, each temperature with the kernel of the next higher one.

    Arguments:
        ladder: The ladder, such as of ``adaptive_ladder``.
        num_temperatures: The new number of temperatures, at least 2.

    Raises:
        ValueError: If it is less.

    Example:
        >>> resized_ladder(uniform_ladder(3, Mala(0.1)), 5).temperatures
        (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    if num_temperatures < 2:
        raise ValueError(f"a ladder of {num_temperatures} temperatures: expected two or more, from 0 to 1")
    last = len(ladder.temperatures) - 1
    places = [last * index / (num_temperatures - 1) for index in range(1, num_temperatures)]
    temperatures, kernels = [0.0], []
    for place in places:
        high = math.ceil(place)
        above, below = ladder.temperatures[high], ladder.temperatures[high - 1]
        temperatures.append(above - (high - place) * (above - below))
        kernels.append(ladder.kernels[high - 1])
    return Ladder(tuple(temperatures), tuple(kernels))


def tilted(tilt: LogDensity, temperature: float) -> LogDensity:
    """Returns log N(0, I) + β · tilt, up to a constant, as a log-density."""

    def log_density(noise: Tensor, /) -> Tensor:
        base = -0.5 * noise.double().square().sum(1)
        return base + temperature * tilt(noise).double() if temperature else base

    return log_density


def anneal(tilt: LogDensity, noise: Tensor, ladder: Ladder, generator: torch.Generator, num_steps: int = 1) -> Annealed:
    """Runs forward chains up the ladder.

    Arguments:
        tilt: f, noise (B, D) → (B,); of a VAEBM −E(image(noise)).
        noise: Exact draws of N(0, I), shape (B, D).
        ladder: Temperatures and kernels.
        generator: The source of randomness.
        num_steps: The number of kernel steps at each temperature.

    Returns:
        Log-weights with E[w] = Z, and the chains' ends.

    Example:
        >>> noise = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
        >>> constant = lambda noise: torch.full((len(noise),), 3.0)
        >>> anneal(constant, noise, uniform_ladder(5, Mala(0.1)), torch.Generator()).log_weights[0]
        tensor(3., dtype=torch.float64)
    """
    log_weights = noise.new_zeros(len(noise), dtype=torch.float64)
    acceptance = []
    for (low, high), kernel in zip(pairwise(ladder.temperatures), ladder.kernels, strict=True):
        log_weights = log_weights + (high - low) * _values(tilt, noise)
        moved = _move(kernel, noise, tilted(tilt, high), generator, num_steps)
        noise = moved.noise
        acceptance.append(moved.acceptance)
    return Annealed(log_weights, noise, torch.tensor(acceptance, dtype=torch.float64))


def anneal_down(
    tilt: LogDensity, noise: Tensor, ladder: Ladder, generator: torch.Generator, num_steps: int = 1
) -> Annealed:
    """Runs reverse chains down the ladder, the forward ones backwards; the kernels must be reversible.

    Arguments:
        tilt: f, as for ``anneal``.
        noise: Draws of N(0, I) · exp(f); only exact ones make the mean of the log-weights an upper bound.
        ladder: Temperatures and kernels.
        generator: The source of randomness.
        num_steps: The number of kernel steps at each temperature.

    Returns:
        Log-weights log r, with E[1/r] = 1/Z from exact draws, and the chains' ends near N(0, I).
    """
    log_weights = noise.new_zeros(len(noise), dtype=torch.float64)
    acceptance = []
    temperatures = ladder.temperatures
    for index in range(len(temperatures) - 1, 0, -1):
        moved = _move(ladder.kernels[index - 1], noise, tilted(tilt, temperatures[index]), generator, num_steps)
        noise = moved.noise
        acceptance.append(moved.acceptance)
        log_weights = log_weights + (temperatures[index] - temperatures[index - 1]) * _values(tilt, noise)
    return Annealed(log_weights, noise, torch.tensor(acceptance, dtype=torch.float64))


def adaptive_ladder(
    tilt: LogDensity,
    noise: Tensor,
    generator: torch.Generator,
    *,
    conditional_ess: float = 0.95,
    step_size: float = 0.1,
    num_steps: int = 5,
    max_temperatures: int = 1000,
) -> Ladder:
    """Finds a ladder by a pilot run, whose chains are thrown away: the weights of a later run stay unbiased.

    The next temperature is the one at which the weights of the step have a given conditional effective sample size;
    the step size of each temperature is adapted from the one before.

    Arguments:
        tilt: f, as for ``anneal``.
        noise: Draws of N(0, I) for the pilot, shape (B, D).
        generator: The source of randomness.
        conditional_ess: The share of the pilot's chains that each step of the ladder keeps; nearer to 1, more steps.
        step_size: The step size to begin with.
        num_steps: The number of pilot steps at each temperature, at least 2.
        max_temperatures: Where the ladder ends in any case; the last step is then as large as it must be.

    Returns:
        The ladder, with MALA at each temperature.

    Raises:
        ValueError: If ``conditional_ess`` is not between 0 and 1.
    """
    if not 0 < conditional_ess < 1:
        raise ValueError(f"conditional_ess is {conditional_ess}: expected a number between 0 and 1")
    temperatures, kernels = [0.0], [Mala(step_size)]
    while temperatures[-1] < 1:
        step = _next_step(_values(tilt, noise), conditional_ess)
        full = len(temperatures) + 1 >= max_temperatures
        temperatures.append(1.0 if full else min(1.0, temperatures[-1] + step))
        target = tilted(tilt, temperatures[-1])
        adapted = adapt_step_size(kernels[-1], noise, target, num_steps, generator)
        kernels.append(adapted.kernel)
        noise = adapted.noise
    return Ladder(tuple(temperatures), tuple(kernels[1:]))


def _next_step(values: Tensor, wanted: float) -> float:
    """Returns the largest step in (0, 1] at which (Σ w)² / (n Σ w²), w = exp(step · values), is at least as wanted."""

    def ess(step: float) -> float:
        log_weights = step * values
        total = 2 * torch.logsumexp(log_weights, 0) - torch.logsumexp(2 * log_weights, 0)
        return float(total.exp()) / len(values)

    if ess(1.0) >= wanted:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if ess(middle) >= wanted else (low, middle)
    return max(low, 1e-6)


@dataclass(frozen=True)
class _Moved:
    noise: Tensor
    acceptance: float


def _move(kernel: Kernel, noise: Tensor, log_density: LogDensity, generator: torch.Generator, num_steps: int) -> _Moved:
    state, acceptance = ChainState(noise.detach()), math.nan
    for _ in range(num_steps):
        state, info = kernel(state, log_density, generator)
        acceptance = float(info.acceptance.mean())
    return _Moved(state.noise, acceptance)


def _values(tilt: LogDensity, noise: Tensor) -> Tensor:
    with torch.no_grad():
        return tilt(noise).double()
