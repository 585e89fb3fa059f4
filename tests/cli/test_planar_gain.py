"""An energy network of the plane that gains nothing is told of, and is given up where the guard had to act."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from commandline import Cli
from short_planar import ALARMED, short_planar
from spoiling import spoil

from vaebm.cli.planar_gain import flat_text
from vaebm.training import Act, EnergySettings

# A network that is the same everywhere to begin with, and steps so small that they teach nothing.
SLOW = {"energy.learning_rate": "1e-7", "energy.num_iterations": "20", "energy_network.input_scale": "0.01"}


def test_a_flat_energy_is_told_of(cli: Cli) -> None:
    outcome = cli("train", "ring", "--output", "run", *short_planar(SLOW))
    assert outcome.code == 0
    (line,) = [line for line in outcome.output.splitlines() if "held-out points are" in line]
    assert line.startswith("the energy network changes nothing: held-out points are")
    assert line.endswith("try a higher --energy.learning_rate, more --energy.num_iterations, more "
                         "--energy.num_prior_samples")  # fmt: skip
    assert not json.loads(Path("run/evaluation.json").read_text())["guard"]["gave_up"]


def test_one_that_has_gained_is_not(cli: Cli) -> None:
    outcome = cli("train", "ring", "--output", "run", *short_planar())
    assert outcome.code == 0
    assert "held-out points" not in outcome.output


def test_a_flat_energy_is_given_up_where_the_guard_had_to_act(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "vaebm.cli.planar_stages", 12)
    outcome = cli("train", "ring", "--output", "run", *short_planar(SLOW))
    assert outcome.code == 3
    last = outcome.output.strip().splitlines()[-1]
    assert last.startswith("the energy network changes nothing: held-out points are")
    assert "It diverged 1 time, the last time at iteration 12 (loss is nan)" in last
    assert "try a lower --energy.learning_rate" in last
    guard = json.loads(Path("run/evaluation.json").read_text())["guard"]
    assert (guard["gave_up"], len(guard["acts"])) == (True, 1)
    assert "It diverged 1 time" in Path("run/report.html").read_text()
    # Whoever lost the exit code asks again.
    assert cli("train", "--resume", "run").code == 3


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (0.0012, "changes nothing: held-out points are only 0.0012 nats more likely"),
        (-0.0012, "changes nothing: held-out points are 0.0012 nats less likely"),
        (-690.4, "makes things worse: held-out points are 690 nats less likely"),
        (math.nan, "makes things worse: held-out points are nan nats less likely"),
    ],
)
def test_the_words_fit_the_gain(gain: float, words: str) -> None:
    text = flat_text(gain, EnergySettings(), [Act(90, 50, ("why",), 1e-4, 0.01, num_steps=20)])
    assert words in text
    assert "(learning rate 0.0001, step size 0.01, 20 steps)" in text
    assert text.endswith("try --energy.jump_probability 0.5, more --energy.num_steps, a lower --energy.learning_rate, "
                         "or --energy.objective importance_sampled")  # fmt: skip


def test_the_alarmed_run_of_these_tests_gains_something(cli: Cli) -> None:
    outcome = cli("train", "ring", "--output", "run", *short_planar(ALARMED, energy__learning_rate="3e-3"))
    assert outcome.code == 0
    assert outcome.output.count("; back to iteration") >= 2
