"""``vaebm`` as several processes: one run folder, one output, and the figures of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commandline import Cli, FinishedRun, tiny

import vaebm
from forking import Outcome, environment, run_group
from vaebm.checkpoint import RunFolder

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
SHORT = tiny(
    vae__num_iterations="3", energy__num_iterations="2", report_every="1", evaluation__num_samples="10",
    selection__num_samples="0", precision="fp32",
)  # fmt: skip


def said_once(outcomes: list[Outcome]) -> str:
    """What processes said that all succeeded, the first one for all of them."""
    assert [outcome.code for outcome in outcomes] == [0] * len(outcomes), [outcome.errors for outcome in outcomes]
    assert not any(outcome.output for outcome in outcomes[1:])
    return outcomes[0].output


def test_two_processes_train_what_one_does(cli: Cli) -> None:
    assert cli("train", "digits", "--output", "one", *SHORT).code == 0
    said = said_once(run_group(2, "vaebm", "train", "digits", "--output", "two", *SHORT))
    assert said.count("run folder two, cpu, fp32, 1 threads, 2 processes") == 1
    assert said == Path("two/log.txt").read_text()
    one, two = (RunFolder(Path(name)).read_metrics() for name in ("one", "two"))
    assert [(row["stage"], row["iteration"]) for row in two] == [(row["stage"], row["iteration"]) for row in one]
    for left, right in zip(one, two, strict=True):
        for name in {"elbo", "kl", "noise_norm", "displacement"} & left.keys():
            assert right[name] == pytest.approx(left[name], rel=1e-3)
    assert vaebm.load("two").noise_layout.size == vaebm.load("one").noise_layout.size
    assert Path("two/report.html").is_file()


def test_processes_share_a_sample_and_it_is_that_of_one(cli: Cli, finished: FinishedRun) -> None:
    # Batches of 250: three of them for two processes.
    words = ("sample", finished.folder, "-n", 501, "--output")
    assert cli(*words, "one.npz").code == 0
    assert said_once(run_group(2, "vaebm", *words, "two.npz")).count("501 images") == 1
    one, two = (np.load(name)["images"] for name in ("one.npz", "two.npz"))
    assert len(one) == 501
    assert np.array_equal(one, two)


def test_processes_share_scores_and_they_are_those_of_one(cli: Cli, finished: FinishedRun) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1001, 8, 8), dtype=np.uint8)
    np.savez("images.npz", images=images)
    assert cli("score", finished.folder, "images.npz", "--output", "one.csv").code == 0
    said = said_once(run_group(2, "vaebm", "score", finished.folder, "images.npz", "--output", "two.csv"))
    assert Path("one.csv").read_bytes() == Path("two.csv").read_bytes()
    assert said.count("1001 images") == 1


def test_processes_share_an_evaluation_and_it_is_that_of_one(cli: Cli, finished: FinishedRun) -> None:
    words = ("evaluate", finished.folder, "-n", 300, "--steps", "0,2", "--precision", "fp32", "--output")
    assert cli(*words, "one.json").code == 0
    said_once(run_group(3, "vaebm", *words, "more.json"))
    one, more = (json.loads(Path(name).read_text()) for name in ("one.json", "more.json"))
    assert one["quality"]
    assert one["outliers"]
    assert one == more


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes in /proc")
def test_a_process_that_dies_ends_the_job_and_the_run_goes_on(cli: Cli) -> None:
    words = [*LAUNCH, "2", "-m", "vaebm", "train", "digits", "--output", "run", *SHORT]
    words += ["--vae.num_iterations", "100000", "--checkpoint_every", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as job:
        wait_for(Path("run/checkpoints/last.pt"))
        os.kill(process_of_rank(job.pid, 1), signal.SIGKILL)
        _, errors = job.communicate(timeout=120)
    assert job.returncode != 0
    assert "Signal 9 (SIGKILL)" in errors
    assert "rank      : 1" in errors
    config = Path("run/config.yaml")
    config.write_text(config.read_text().replace("num_iterations: 100000", "num_iterations: 3"))
    found = cli("train", "--resume", "run")
    assert found.code == 0, found.errors
    assert "the run began with 2 processes, now 1" in found.output


def test_processes_without_a_folder_of_one_name_are_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    found = cli("train", "digits")
    assert found.code == 2
    assert "expected --output RUN" in found.errors


def wait_for(path: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} didn't come"
        time.sleep(0.1)


def process_of_rank(launcher: int, rank: int) -> int:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    (found,) = [
        int(child) for child in children if f"\0RANK={rank}\0" in "\0" + Path(f"/proc/{child}/environ").read_text()
    ]
    return found
