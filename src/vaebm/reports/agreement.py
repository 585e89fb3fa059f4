"""Do the chains agree: what their diagnostics say, in words."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

LEAST_ACCEPTED, LEAST_WORTH = 0.02, 100.0


def chain_sentences(chains: Mapping[str, Any]) -> list[str]:
    """Say whether chains agree with each other, and what jumps and weights could mend.

    Arguments:
        chains: the fields of `vaebm.evaluation.ChainDiagnostics`; nothing, no sentences.

    Returns:
        Sentences.
    """
    if not chains:
        return []
    worst = max(chains["energy_rhat"], chains["noise_rhat"])
    verdict = "agree with each other" if worst < 1.01 else "don't agree with each other yet"
    steps, count = chains["num_steps"], chains["num_chains"]
    share, ess = chains["jump_acceptance"], chains["importance_ess"]
    means = ["jumps"] * (share >= LEAST_ACCEPTED) + ["weights"] * (ess >= LEAST_WORTH)
    return [
        f"Split-R̂ over the second half of {count} chains is {chains['energy_rhat']:.3f} on the energy and "
        f"{chains['noise_rhat']:.3f} on |noise|²/D: they {verdict}. R̂ can't see a mode that all of them miss.",
        f"These {count} chains of {steps} steps are worth {chains['energy_ess']:.0f} independent draws of the energy "
        f"and {chains['noise_ess']:.0f} of |noise|²/D (bulk ESS).",
        f"Of independent jumps from N(0, I) {100 * share:.1f} % would be accepted, and the weights of "
        f"{chains['num_draws']:,} draws of the VAE are worth {ess:,.{0 if ess >= 10 else 1}f}: "
        + (
            f"{' and '.join(means)} can compare the mass of modes."
            if means
            else "too few to tell or mend the relative mass of modes."
        ),
    ]


def chain_text(chains: Mapping[str, Any]) -> str:
    """Say the same for a terminal, in lines of at most 80 characters."""
    return "\n".join(line for sentence in chain_sentences(chains) for line in textwrap.wrap(sentence, 80))
