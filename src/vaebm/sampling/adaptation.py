r"""Step sizes found in a warm-up, which then stops: adaptation that goes on would change the stationary density.

log η ← log η + n^(−0.6) (ā − a*)/(a* (1 − a*)), the Robbins–Monro recursion with the mean acceptance ā over all chains
and its target a*, each change held within ±2; the result is the average of log η over the second half.

References:
    A tutorial on adaptive MCMC (Andrieu, Thoms), https://doi.org/10.1007/s11222-008-9110-y
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vaebm.sampling.kernel import ChainState, LogDensity
from vaebm.sampling.mala import Mala

_DECAY = 0.6
_LARGEST = 2.0


@dataclass(frozen=True)
class Adapted:
    """What a warm-up found: the kernel, the chains' ends (B, D); step size and mean acceptance of each step (T,)."""

    kernel: Mala
    noise: Tensor
    step_sizes: Tensor
    acceptance: Tensor


def adapt_step_size(
    kernel: Mala,
    noise: Tensor,
    log_density: LogDensity,
    num_steps: int,
    generator: torch.Generator,
    target_acceptance: float = 0.574,
) -> Adapted:
    """Runs a warm-up that moves the step size towards a target acceptance.

    Arguments:
        kernel: The kernel, with the first step size.
        noise: The start points, shape (B, D).
        log_density: The unnormalised log-density of the target.
        num_steps: The length of the warm-up, at least 2.
        generator: The source of randomness.
        target_acceptance: The mean acceptance to arrive at; .574 is the best for MALA in many dimensions.

    Returns:
        The adapted kernel and how it came about. Chains sampled with it start from ``noise`` of the result.

    Raises:
        ValueError: If the warm-up is too short, or the target is not between 0 and 1.

    Example:
        >>> target = lambda noise: -0.5 * noise.square().sum(1)
        >>> adapted = adapt_step_size(Mala(0.01), torch.zeros(64, 1), target, 200, torch.Generator().manual_seed(0))
        >>> 1 < adapted.kernel.step_size < 10
        True
    """
    if num_steps < 2:
        raise ValueError(f"num_steps is {num_steps}: expected 2 or more")
    if not 0 < target_acceptance < 1:
        raise ValueError(f"target_acceptance is {target_acceptance}: expected a number between 0 and 1")
    state, log_step = ChainState(noise.detach()), math.log(kernel.step_size)
    log_steps, acceptances = [], []
    for number in range(1, num_steps + 1):
        log_steps.append(log_step)
        state, info = replace(kernel, step_size=math.exp(log_step))(state, log_density, generator)
        acceptances.append(float(info.acceptance.mean()))
        change = (acceptances[-1] - target_acceptance) / (target_acceptance * (1 - target_acceptance))
        log_step += number**-_DECAY * max(-_LARGEST, min(_LARGEST, change))
    tail = log_steps[num_steps // 2 :]
    found = replace(kernel, step_size=math.exp(sum(tail) / len(tail)))
    steps = torch.tensor(log_steps, dtype=torch.float64).exp()
    return Adapted(found, state.noise, steps, torch.tensor(acceptances, dtype=torch.float64))
