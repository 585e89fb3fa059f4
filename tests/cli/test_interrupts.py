"""Stopping and going on: a run that is stopped anywhere ends as one that isn't, to the bit."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commandline import FINISHED, Cli, FinishedRun, assert_user_error, tiny
from torch import Tensor

from forking import Outcome, Process, run_forked
from vaebm.checkpoint import RunFolder
from vaebm.cli.running import CHECKPOINT
from vaebm.cli.stages import train_stages
from vaebm.cli.stop import Interrupted, StopRequest
from vaebm.cli.train import begin, parse
from vaebm.evaluation import FeatureNetwork

SHORT = tiny(
    vae__num_iterations="2", energy__num_iterations="4", vae__ema_decay="0.5", selection__num_candidates="3",
    report_every="1", evaluation__num_samples="10",
)  # fmt: skip


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_run_stopped_after_every_iteration_ends_as_one_that_is_not(cli: Cli) -> None:
    assert cli("train", "digits", "--output", "whole", *SHORT).code == 0
    arguments = ["digits", "--output", "parts", *SHORT]
    stops = []
    while True:
        request = parse(arguments)
        assert request is not None
        stop = StopRequest()
        run = begin(request, stop, arguments)
        stop.name = "SIGTERM"
        try:
            train_stages(run)
        except Interrupted:
            checkpoint = RunFolder(Path("parts")).load_checkpoint(CHECKPOINT)
            assert checkpoint is not None
            stops.append((checkpoint["stage"], checkpoint["state"]["iteration"]))
            # What a process writes that is killed before its next checkpoint.
            run.folder.append_metrics({"stage": "vae", "iteration": 99})
            arguments = ["--resume", "parts"]
        else:
            break
        finally:
            run.close()
    # The end of one stage and the beginning of the next are two stops.
    assert stops == [("vae", 1), ("vae", 2), ("energy", 1), ("energy", 2), ("energy", 3), ("energy", 4)]
    assert cli("train", "--resume", "parts").code == 0
    assert weights(Path("parts")) == weights(Path("whole"))
    assert Path("parts/metrics.jsonl").read_bytes() == Path("whole/metrics.jsonl").read_bytes()
    for name in ("evaluation.json", "model/calibration.json", "samples/energy_000004.png", "samples/vae_000002.png"):
        assert (Path("parts") / name).read_bytes() == (Path("whole") / name).read_bytes()


@pytest.mark.parametrize("is_asked", [True, False], ids=["before the look that ends it", "killed in the next stage"])
def test_a_stage_that_ended_early_stays_ended(cli: Cli, is_asked: bool) -> None:
    # Far too high a rate: the ELBO falls at once, and the stage ends long before its last iteration.
    short = [
        *tiny(vae__num_iterations="400", energy__num_iterations="3", report_every="1", evaluation__num_samples="10"),
        "--vae.learning_rate", "0.1", "--selection.vae_every", "5", "--selection.vae_patience", "2",
    ]  # fmt: skip
    assert cli("train", "digits", "--output", "whole", *short).code == 0
    ended = [row for row in RunFolder(Path("whole")).read_metrics() if row["stage"] == "vae"][-1]["iteration"]
    assert ended < 400
    arguments = ["digits", "--output", "parts", *short]
    request = parse(arguments)
    assert request is not None
    stop = StopRequest()
    run = begin(request, stop, arguments)
    record = run.record

    def record_and_stop(row: Mapping[str, Any]) -> None:
        record(row)
        if is_asked and row["stage"] == "vae" and row["iteration"] == ended:
            stop.name = "SIGTERM"
        if row["stage"] == "energy":
            raise KeyboardInterrupt

    run.record = record_and_stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        train_stages(run)
    run.close()
    checkpoint = RunFolder(Path("parts")).load_checkpoint(CHECKPOINT)
    assert checkpoint is not None
    assert (checkpoint["stage"], checkpoint["state"]["iteration"]) == ("vae", ended)
    assert checkpoint["is_look_due" if is_asked else "is_ended"]
    assert cli("train", "--resume", "parts").code == 0
    assert weights(Path("parts")) == weights(Path("whole"))
    assert Path("parts/metrics.jsonl").read_bytes() == Path("whole/metrics.jsonl").read_bytes()


class RingingNetwork:
    """The features of another network; SIGTERM comes with the third set of images, the samples of a candidate."""

    training = False

    def __init__(self, network: FeatureNetwork) -> None:
        self.network, self.num_features, self.num_sets = network, network.num_features, 0

    def features(self, images: Tensor) -> Tensor:
        self.num_sets += 1
        if self.num_sets == 3:
            signal.raise_signal(signal.SIGTERM)
        return self.network.features(images)


def test_a_signal_does_not_wait_for_the_selection(cli: Cli) -> None:
    assert cli("train", "digits", "--output", "whole", *SHORT).code == 0
    arguments = ["digits", "--output", "part", *SHORT]
    request = parse(arguments)
    assert request is not None
    stop = StopRequest()
    run = begin(request, stop, arguments)
    run.judges = [replace(judge, classifier=RingingNetwork(judge.classifier)) for judge in run.judges]
    with stop.listening(), pytest.raises(Interrupted):
        train_stages(run)
    run.close()
    assert "selection split" not in Path("part/log.txt").read_text()
    assert cli("train", "--resume", "part").code == 0
    assert weights(Path("part")) == weights(Path("whole"))
    assert Path("part/metrics.jsonl").read_bytes() == Path("whole/metrics.jsonl").read_bytes()


def stop_when(arguments: list[str], said: Path, condition: str, number: signal.Signals) -> Outcome:
    """Runs a command and sends it a signal once a file holds a text."""
    process = Process("vaebm", *arguments)
    process.wait_for(said, condition)
    if process.is_running():
        process.send_signal(number)
    return process.outcome()


def test_signals_save_and_the_run_goes_on_to_the_same_weights(finished: FinishedRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    begin_with = ["train", "digits", "--output", str(folder), "--seed", "3", *tiny(**FINISHED)]
    resume = ["train", "--resume", str(folder)]
    metrics, log = folder / "metrics.jsonl", folder / "log.txt"
    steps = [
        (begin_with, metrics, '"stage": "vae"', signal.SIGINT, "vae"),
        (resume, metrics, '"stage": "energy"', signal.SIGTERM, "energy"),
        (resume, log, "drawing 100 samples", signal.SIGINT, "trained"),
    ]
    for arguments, said, condition, number, stage in steps:
        stopped = stop_when(arguments, said, condition, number)
        assert stopped.code == 130, stopped.errors
        assert "Traceback" not in stopped.errors
        last = stopped.output.splitlines()[-1]
        assert last == f"stopped by {number.name}; all is saved. Go on with: vaebm train --resume {folder}"
        checkpoint = RunFolder(folder).load_checkpoint(CHECKPOINT)
        assert checkpoint is not None
        assert checkpoint["stage"] == stage
    assert not (folder / "report.html").exists()
    result = run_forked(*resume)
    assert (result.code, result.errors) == (0, "")
    assert weights(folder) == weights(finished.folder)
    assert (folder / "evaluation.json").read_bytes() == (finished.folder / "evaluation.json").read_bytes()
    assert RunFolder(folder).read_metrics() == RunFolder(finished.folder).read_metrics()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert len(provenance["resumed"]) == 3
    assert set(provenance["seconds"]) == {"vae", "energy", "evaluation"}


def test_a_run_killed_before_its_first_checkpoint_starts_anew(cli: Cli) -> None:
    assert cli("train", "digits", "--output", "run", *SHORT).code == 0
    expected = weights(Path("run"))
    for name in ("report.html", "evaluation.json", "checkpoints/last.pt", "checkpoints/previous.pt"):
        (Path("run") / name).unlink()
    shutil.rmtree("run/model")
    metrics = Path("run/metrics.jsonl")
    before_it = [line for line in metrics.read_text().splitlines(keepends=True) if '"stage": "vae' in line]
    assert any("vae_selection" in line for line in before_it)
    metrics.write_text("".join(before_it))
    outcome = cli("train", "--resume", "run")
    assert outcome.code == 0
    assert "no checkpoint was written yet: the run starts anew" in outcome.output
    assert weights(Path("run")) == expected
    iterations = [(row["stage"], row["iteration"]) for row in RunFolder(Path("run")).read_metrics()]
    assert len(iterations) == len(set(iterations))


def test_signals_are_requests_until_the_second() -> None:
    stop = StopRequest()
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
        assert stop.name == "SIGTERM"
        with pytest.raises(Interrupted):
            stop.leave_if_asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_work_that_can_be_done_again_is_left_at_once() -> None:
    stop, done = StopRequest(), []
    with pytest.raises(Interrupted):
        _work(stop, done)
    assert (stop.name, stop.at_once, done) == ("SIGINT", False, ["before"])
    with pytest.raises(Interrupted):
        _work(stop, done)
    assert done == ["before"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def _work(stop: StopRequest, done: list[str]) -> None:
    with stop.listening(), stop.leaving_at_once():
        done.append("before")
        signal.raise_signal(signal.SIGINT)
        done.append("after")


def test_a_second_process_leaves_a_run_that_is_under_way_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = Process("vaebm", "train", "digits", "--output", folder, *tiny(energy__num_iterations="2000"))
    try:
        first.wait_for(folder / "checkpoints/last.pt")
        assert_user_error(run_forked("train", "--resume", folder), "is in use: another process trains in it")
        assert first.is_running()
    finally:
        first.send_signal(signal.SIGKILL)
    assert first.outcome().code == -signal.SIGKILL
    # The lock went with its process.
    stopped = stop_when(["train", "--resume", str(folder)], folder / "log.txt", "going on", signal.SIGTERM)
    assert stopped.code in (0, 130), stopped.errors


def test_of_a_damaged_or_lost_checkpoint_the_one_before_is_offered(cli: Cli) -> None:
    short = [*SHORT, "--checkpoint_every", "1"]
    assert cli("train", "digits", "--output", "run", *short).code == 0
    expected = weights(Path("run"))
    for name in ("report.html", "evaluation.json"):
        (Path("run") / name).unlink()
    shutil.rmtree("run/model")
    last, earlier = Path("run/checkpoints/last.pt"), Path("run/checkpoints/previous.pt")
    for spoil in (lambda: last.write_bytes(b"half"), last.unlink):
        spoil()
        outcome = cli("train", "--resume", "run")
        assert outcome.code == 2
        assert f"the one before it is whole: to go on from there, mv {earlier} {last}" in outcome.errors
    earlier.rename(last)
    assert cli("train", "--resume", "run").code == 0
    assert weights(Path("run")) == expected
