r"""Do the chains of a model agree with each other, and what could mend the mass of its modes?

Chains start from N(0, I) and run a kernel; the first half is warm-up. Of the second half: split-R̂ and
bulk ESS of the energy and of |noise|²/D. At the ends: how many independent jumps from N(0, I) would be accepted. And
the effective sample size of the weights exp(−E) of draws of the VAE.

The last two say whether the mass of modes can be compared at all, on images as in the plane: local chains that never
cross say nothing of it, however well they agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vaebm.evaluation.likelihood import importance_weights
from vaebm.models import VAEBM
from vaebm.sampling import ChainState, Jump, Kernel, bulk_ess, effective_sample_size, run_chain, split_rhat

FEWEST_STEPS = 8


@dataclass(frozen=True)
class ChainDiagnostics:
    """What is said of chains.

    Arguments:
        num_chains: How many there are.
        num_steps: The steps of each that are looked at, warm-up not counted.
        energy_rhat: Split-R̂ of the energy.
        noise_rhat: Split-R̂ of |noise|²/D.
        energy_ess: Bulk ESS of the energy.
        noise_ess: Bulk ESS of |noise|²/D.
        acceptance: The mean acceptance of the kernel's moves; 1 without an accept step.
        jump_acceptance: The mean acceptance of one independent jump at the ends of the chains.
        importance_ess: The effective sample size of the weights of draws of the VAE.
        num_draws: How many of them there are.
        seed: The generator's seed.
    """

    num_chains: int
    num_steps: int
    energy_rhat: float
    noise_rhat: float
    energy_ess: float
    noise_ess: float
    acceptance: float
    jump_acceptance: float
    importance_ess: float
    num_draws: int
    seed: int


def diagnose_chains(
    model: VAEBM,
    kernel: Kernel,
    num_steps: int,
    generator: torch.Generator,
    num_chains: int = 100,
    num_draws: int = 5000,
) -> ChainDiagnostics:
    """Runs chains and looks at the second half of them.

    Arguments:
        model: The VAEBM, its parameters frozen.
        kernel: The Markov kernel.
        num_steps: The length of the chains, warm-up included; at least 8.
        generator: The source of randomness.
        num_chains: The number of chains.
        num_draws: The number of draws of the VAE behind the weights.

    Raises:
        ValueError: If the chains are too short or too few for the diagnostics.
    """
    if num_steps < FEWEST_STEPS or num_chains < 1:
        raise ValueError(f"{num_chains} chains of {num_steps} steps: expected chains of at least {FEWEST_STEPS} steps")
    noise = torch.randn(num_chains, model.noise_layout.size, generator=generator, device=generator.device)
    batches = torch.split(noise.to(next(model.parameters())), model.largest_batch)
    seen = [_watch(model, kernel, start, num_steps, generator) for start in batches]
    energy, norm, accepted, jump = (torch.cat([part[index] for part in seen]) for index in range(4))
    return ChainDiagnostics(
        num_chains=num_chains,
        num_steps=energy.shape[1],
        energy_rhat=split_rhat(energy),
        noise_rhat=split_rhat(norm),
        energy_ess=bulk_ess(energy),
        noise_ess=bulk_ess(norm),
        acceptance=float(accepted.mean()),
        jump_acceptance=float(jump.mean()),
        importance_ess=effective_sample_size(
            importance_weights(model, num_draws, generator, batch_size=model.largest_batch)
        ),
        num_draws=num_draws,
        seed=generator.initial_seed(),
    )


class _Watched(NamedTuple):
    """Energies and |noise|²/D of the second half (B, T), acceptances of all steps and of a jump at the end (B,)."""

    energies: Tensor
    norms: Tensor
    accepted: Tensor
    jump: Tensor


def _watch(model: VAEBM, kernel: Kernel, noise: Tensor, num_steps: int, generator: torch.Generator) -> _Watched:
    """Runs chains from a start (B, D)."""
    energies, norms, accepted = [], [], []
    for step in run_chain(kernel, noise, model.log_density, num_steps, generator):
        noise = step.state.noise
        accepted.append(step.info.acceptance)
        if step.number > num_steps // 2:
            with torch.no_grad():
                energies.append(model.energy(model.transport(noise).image))
            norms.append(noise.double().square().mean(1))
    jump = Jump()(ChainState(noise), model.log_density, generator).info.acceptance
    return _Watched(torch.stack(energies, 1), torch.stack(norms, 1), torch.stack(accepted, 1).mean(1), jump)
