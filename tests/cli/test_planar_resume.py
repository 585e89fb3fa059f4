"""Runs of the plane that are stopped or killed anywhere end as one that never was, to the bit."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from commandline import Cli, assert_user_error
from short_planar import ALARMED, short_planar, stop_after_an_iteration

from forking import Process, run_forked
from vaebm.checkpoint import RunFolder
from vaebm.cli.planar import parse
from vaebm.cli.planar_run import begin
from vaebm.cli.running import CHECKPOINT
from vaebm.cli.stop import StopRequest

COMPARED = ("model/model.safetensors", "metrics.jsonl", "evaluation.json")


def assert_same(one: Path, other: Path) -> None:
    for name in COMPARED:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("more", [{}, ALARMED | {"guard.num_attempts": "2"}], ids=["importance", "alarmed"])
def test_a_run_stopped_after_every_iteration_ends_as_one_that_is_not(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    # The best weights are those of an iteration before the last.
    monkeypatch.setattr("vaebm.cli.planar_gain.GAIN_EVERY", 2)
    monkeypatch.setattr("vaebm.cli.planar_gain.NUM_HELD_OUT", 500)
    words = short_planar(more, vae__num_iterations="2", vae__ema_decay="0.5", energy__num_iterations="8")
    assert cli("train", "ring", "--output", "whole", *words).code in (0, 3)
    num_acts = sum(row["stage"] == "guard" for row in RunFolder(Path("whole")).read_metrics())
    assert bool(num_acts) == bool(more)
    stops, arguments = 0, ["ring", "--output", "parts", *words]
    while folder := stop_after_an_iteration(arguments):
        # What a process writes that is killed before its next checkpoint.
        folder.append_metrics({"stage": "vae", "iteration": 99})
        arguments = ["--resume", "parts"]
        stops += 1
    assert stops >= 10
    assert cli("train", "--resume", "parts").code in (0, 3)
    assert_same(Path("parts"), Path("whole"))


def kill_at(words: list[str], metrics: Path, num_rows: int, seconds: float) -> int:
    """Runs a command and kills it so long after it has recorded so many rows; its exit code."""
    process = Process("vaebm", *words)
    process.wait_for(metrics, "\n", num_rows)
    time.sleep(seconds)
    if process.is_running():
        process.send_signal(signal.SIGKILL)
    return process.outcome().code


def test_a_run_killed_at_random_moments_ends_as_one_that_is_not(cli: Cli) -> None:
    words = short_planar(ALARMED, energy__learning_rate="3e-3")
    code = cli("train", "ring", "--output", "whole", *words).code
    whole, part, chance = RunFolder(Path("whole")), RunFolder(Path("part")), random.Random(0)
    rows = whole.read_metrics()
    assert sum(row["stage"] == "guard" for row in rows) >= 2
    arguments = ["train", "ring", "--output", "part", *words]
    # Each comes later than the one before, and the last well before the end, or a kill could come too late.
    for num_rows in sorted(chance.sample(range(2, len(rows) - 15), 4)):
        assert kill_at(arguments, part.metrics, num_rows, chance.uniform(0, 0.02)) == -signal.SIGKILL
        arguments = ["train", "--resume", "part"]
    assert run_forked(*arguments).code == code
    assert_same(part.path, whole.path)


def test_a_signal_saves_and_says_how_to_go_on_and_nobody_else_gets_in(cli: Cli) -> None:
    process = Process("vaebm", "train", "ring", "--output", "run", *short_planar(energy__num_iterations="1000000"))
    folder = RunFolder(Path("run"))
    process.wait_for(folder.metrics, '"stage": "energy"')
    assert_user_error(cli("train", "--resume", "run"), "is in use: another process trains in it")
    process.send_signal(signal.SIGTERM)
    outcome = process.outcome()
    assert outcome.code == 130, outcome.errors
    assert outcome.output.splitlines()[-1] == "stopped by SIGTERM; all is saved. Go on with: vaebm train --resume run"
    stored = folder.load_checkpoint(CHECKPOINT)
    assert stored is not None
    assert (stored["stage"], stored["state"]["iteration"]) == ("energy", folder.read_metrics()[-1]["iteration"])


def test_a_run_killed_before_its_first_checkpoint_starts_over(cli: Cli) -> None:
    words = short_planar(checkpoint_every="50", energy__num_iterations="4")
    assert cli("train", "ring", "--output", "whole", *words).code == 0
    request = parse(arguments := ["ring", "--output", "part", *words])
    assert request is not None
    begin(request, StopRequest(), arguments).close()
    request.folder.append_metrics({"stage": "vae", "iteration": 1})
    outcome = cli("train", "--resume", "part")
    assert outcome.code == 0
    assert "no checkpoint was written yet: the run starts anew" in outcome.output
    assert_same(Path("part"), Path("whole"))


def test_what_is_resumed_is_finished_whole_and_its_own(cli: Cli) -> None:
    assert cli("train", "ring", "--output", "run", *short_planar(energy__num_iterations="4")).code == 0
    finished = cli("train", "--resume", "run")
    assert (finished.code, finished.output) == (0, "the run run is finished; report: run/report.html\n")
    assert_user_error(cli("train", "--resume", "run", "--seed", "3"), "--resume takes no other option")
    assert_user_error(cli("train", "ring", "--resume", "run"), "--resume takes no other option")
    assert_user_error(cli("train", "ring", "--output", "run"), "go on with `vaebm train --resume run`")
    expected = (Path("run") / COMPARED[0]).read_bytes()
    for name in ("report.html", "evaluation.json"):
        (Path("run") / name).unlink()
    shutil.rmtree("run/model")
    last, earlier, config = (Path("run") / name for name in ("checkpoints/last.pt", "checkpoints/previous.pt",
                                                              "config.yaml"))  # fmt: skip
    stated = config.read_text()
    config.write_text(stated.replace("report_every: 1\n", ""))
    assert_user_error(cli("train", "--resume", "run"), "isn't the complete configuration of a run")
    config.write_text(stated.replace("- 128\n", "- 64\n"))
    assert_user_error(cli("train", "--resume", "run"), "config.yaml")
    config.write_text(stated)
    content = last.read_bytes()
    last.write_bytes(content[:-100])
    assert_user_error(cli("train", "--resume", "run"), f"the one before it is whole: to go on from there, mv {earlier}")
    last.write_bytes(content)
    assert cli("train", "--resume", "run").code == 0
    assert (Path("run") / COMPARED[0]).read_bytes() == expected


def test_a_dry_run_makes_nothing(cli: Cli) -> None:
    outcome = cli("train", "ring", "--dry-run", "--seed", "3")
    assert (outcome.code, outcome.errors) == (0, "")
    assert "seed: 3\n" in outcome.output
    assert list(Path.cwd().iterdir()) == []
