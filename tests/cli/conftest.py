"""What the tests of the command line share: one thread, a run trained once, and a way to run a command."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from commandline import FINISHED, Cli, FinishedRun, tiny

from forking import Outcome, run_forked
from vaebm.cli.main import run
from vaebm.recipes.estimates import estimate

remembered = cache(estimate)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _short_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """What work costs is measured once and on a few images, for images of one's own."""
    for name in ("NUM_IMAGES", "NUM_JUDGED", "NUM_EXACT"):
        monkeypatch.setattr(f"vaebm.cli.costs.{name}", 4)
    monkeypatch.setattr("vaebm.cli.costs.SECONDS", 0)


@pytest.fixture(autouse=True)
def _one_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a configuration costs is estimated once for all tests of a process; that of an NVAE takes seconds."""
    for module in ("beginning", "dry_run"):
        monkeypatch.setattr(f"vaebm.cli.{module}.estimate", remembered)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("cli") / "run"
    outcome = run_forked("train", "digits", "--output", folder, "--seed", "3", *tiny(**FINISHED))
    assert (outcome.code, outcome.errors) == (0, "")
    return FinishedRun(folder, outcome.output)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs a command in this process, in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(word) for word in arguments])
        shown = capsys.readouterr()
        return Outcome(code, shown.out, shown.err)

    return call
