"""How the tests of the command line run a command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forking import Outcome, environment

TINY = {
    "vae.num_iterations": "60",
    "energy.num_iterations": "20",
    "energy.num_steps": "5",
    "selection.num_candidates": "2",
    "selection.num_samples": "50",
    "sampling.num_steps": "10",
    "evaluation.num_samples": "100",
    "evaluation.steps_curve": "[0,10]",
    "evaluation.num_posterior_samples": "2",
    "report_every": "5",
    "sample_every": "100",
    "checkpoint_every": "50",
}

# What the run has besides that all tests may look at.
FINISHED = {"vae__num_iterations": "200"}


@dataclass(frozen=True)
class FinishedRun:
    """A run of ``vaebm train digits`` from beginning to end, and what it showed."""

    folder: Path
    output: str


Cli = Callable[..., Outcome]


def tiny(**overrides: str) -> list[str]:
    """The options of a run of seconds; names with __ for a point."""
    values = TINY | {name.replace("__", "."): value for name, value in overrides.items()}
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vaebm", *map(str, arguments)]


def in_process_of_its_own(*arguments: object, **variables: str) -> Outcome:
    result = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=900, check=False, env=environment(**variables)
    )
    return Outcome(result.returncode, result.stdout, result.stderr)


def assert_user_error(outcome: Outcome, *words: str) -> None:
    """One line on standard error that names what is wrong, exit code 2."""
    assert outcome.code == 2
    assert outcome.errors.startswith("vaebm: ")
    assert outcome.errors.count("\n") == 1
    for word in words:
        assert word in outcome.errors
