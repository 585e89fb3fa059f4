"""What is said of chains, by their figures."""

from __future__ import annotations

import pytest

from vaebm.reports.agreement import chain_sentences, chain_text

FIGURES = {
    "num_chains": 100, "num_steps": 30, "energy_rhat": 1.002, "noise_rhat": 1.004, "energy_ess": 500.4,
    "noise_ess": 320.0, "acceptance": 1.0, "jump_acceptance": 0.004, "importance_ess": 1.7,
    "num_draws": 5000, "seed": 1,
}  # fmt: skip


def test_nothing_measured_nothing_said() -> None:
    assert chain_sentences({}) == []
    assert chain_text({}) == ""


@pytest.mark.parametrize(("name", "value"), [("energy_rhat", 1.2), ("noise_rhat", 1.02)])
def test_the_worse_of_both_scalars_decides(name: str, value: float) -> None:
    assert "they agree with each other" in chain_sentences(FIGURES)[0]
    assert "they don't agree with each other yet" in chain_sentences({**FIGURES, name: value})[0]


@pytest.mark.parametrize(("name", "value"), [("jump_acceptance", 0.2), ("importance_ess", 300.0)])
def test_either_remedy_is_enough(name: str, value: float) -> None:
    assert "too few to tell or mend" in chain_sentences(FIGURES)[2]
    assert "can compare the mass of modes" in chain_sentences({**FIGURES, name: value})[2]


def test_lines_fit_a_terminal() -> None:
    lines = chain_text(FIGURES).splitlines()
    assert max(map(len, lines)) <= 80
    assert "worth 500 independent draws of the energy" in " ".join(lines)
