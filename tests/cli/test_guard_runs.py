"""Runs under guard: what a person sees of one that diverges, gives up, or is killed on the way."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from commandline import Cli, tiny
from short_planar import short_planar
from spoiling import spoil

import vaebm
from vaebm.checkpoint import RunFolder
from vaebm.cli.main import run
from vaebm.cli.stages import train_stages
from vaebm.cli.stop import StopRequest
from vaebm.cli.train import begin, parse

SHORT = tiny(
    vae__num_iterations="2", energy__num_iterations="6", report_every="1", evaluation__num_samples="10",
    selection__num_candidates="2",
)  # fmt: skip
# No chain stays below this norm.
HOPELESS = ["--guard.window", "2", "--guard.largest_noise_norm", "0.1", "--guard.num_attempts", "2"]
OFTEN_SAVED = [*SHORT, *HOPELESS, "--checkpoint_every", "1"]


def test_a_run_that_gives_up_ends_with_a_diagnosis_a_model_and_a_report(cli: Cli) -> None:
    found = cli("train", "digits", "--output", "run", *SHORT, *HOPELESS)
    assert found.code == 3
    assert found.output.count("; back to iteration 0, learning rate ") == 2
    last = found.output.strip().splitlines()[-1]
    assert last.startswith(
        "the energy network diverged 3 times, the last time at iteration 2: |noise|²/D of the chains"
    )
    assert "Try more --energy.num_steps" in last
    guard = json.loads(Path("run/evaluation.json").read_text())["guard"]
    assert (guard["gave_up"], len(guard["acts"]), guard["rate_factor"]) == (True, 3, pytest.approx(0.3))
    assert vaebm.load("run").energy is not None
    report = Path("run/report.html").read_text()
    assert "What the guard did:" in report
    assert report.count(": the energy network diverged (") == 3
    # Whoever lost the exit code asks again.
    assert cli("train", "--resume", "run").code == 3


def test_without_rolling_back_a_run_is_told_of_and_goes_to_its_end(cli: Cli) -> None:
    found = cli("train", "digits", "--output", "run", *SHORT, "--guard.rolls_back", "false", *HOPELESS[:4])
    assert found.code == 0
    assert "iteration 2: the energy network is diverged (" in found.output
    assert "back to iteration" not in found.output
    guard = json.loads(Path("run/evaluation.json").read_text())["guard"]
    assert (guard["condition"], guard["gave_up"], guard["acts"]) == ("diverged", False, [])


def test_a_loss_that_is_no_number_is_undone_but_not_hidden(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "vaebm.cli.stages", 3)
    found = cli("train", "digits", "--output", "run", *SHORT)
    assert found.code == 0, found.errors
    rows = [row for row in RunFolder(Path("run")).read_metrics() if row["stage"] == "energy"]
    (undone,) = [row for row in rows if row.get("is_undone")]
    assert undone["iteration"] == 3
    assert not math.isfinite(float(undone["loss"]))
    assert [row["iteration"] for row in rows if not row.get("is_undone")] == [1, 2, 1, 2, 3, 4, 5, 6]
    assert "loss is nan" in Path("run/report.html").read_text()


def test_on_the_plane_too_and_its_report_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "vaebm.cli.planar_stages", 12)
    options = short_planar(energy__num_iterations="30", energy__ema_decay="0.5", checkpoint_every="250")
    found = cli("train", "ring", "--output", "run", *options)
    assert found.code == 0, found.errors
    (undone,) = [row for row in RunFolder(Path("run")).read_metrics() if row.get("is_undone")]
    assert (undone["stage"], undone["iteration"]) == ("energy", 12)
    page = Path("run/report.html").read_text()
    assert "What the guard did" in page
    assert "loss is nan" in page


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which the guard acted three times and gave up."""
    folder = tmp_path_factory.mktemp("hopeless") / "run"
    with redirect_stdout(io.StringIO()):
        assert run(["train", "digits", "--output", str(folder), *OFTEN_SAVED]) == 3
    return folder


@pytest.mark.parametrize("deadly", [1, 2, 3])
def test_a_run_killed_while_the_guard_acts_ends_as_one_that_is_not(cli: Cli, hopeless: Path, deadly: int) -> None:
    arguments = ["digits", "--output", "part", *OFTEN_SAVED]
    request = parse(arguments)
    assert request is not None
    part = begin(request, StopRequest(), arguments)
    record = part.record

    def record_and_die(row: Mapping[str, Any]) -> None:
        record(row)
        if row["stage"] == "guard" and sum(one["stage"] == "guard" for one in part.folder.read_metrics()) == deadly:
            raise KeyboardInterrupt

    part.record = record_and_die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        train_stages(part)
    part.close()
    assert cli("train", "--resume", "part").code == 3
    for name in ("model/model.safetensors", "metrics.jsonl"):
        assert (Path("part") / name).read_bytes() == (hopeless / name).read_bytes()
    rows = RunFolder(Path("part")).read_metrics()
    assert [row["returned_to"] for row in rows if row["stage"] == "guard"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--guard.window", "0", "guard.window is 0: expected a number above 0"),
        ("--guard.rate_factor", "1.5", "guard.rate_factor is 1.5: expected a number from 0 to below 1"),
        ("--guard.least_acceptance", "2", "guard.least_acceptance is 2.0: expected a share from 0 to 1"),
    ],
)
def test_bad_settings_are_refused(cli: Cli, option: str, value: str, message: str) -> None:
    found = cli("train", "digits", option, value)
    assert found.code == 2
    assert message in found.errors
    assert not Path("runs").exists()
