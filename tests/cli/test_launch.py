"""``vaebm train`` as several processes: one run folder, and the figures of one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Cli, environment, tiny

import vaebm
from vaebm.checkpoint import RunFolder

SHORT = tiny(
    vae__num_iterations="3", energy__num_iterations="2", report_every="1", evaluation__num_samples="10",
    selection__num_samples="0", precision="fp32",
)  # fmt: skip


def test_two_processes_train_what_one_does(cli: Cli) -> None:
    assert cli("train", "digits", "--output", "one", *SHORT).code == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vaebm"]
    words = [*launch, "train", "digits", "--output", "two", *SHORT]
    result = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False, env=environment())
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("run folder two, cpu, fp32, 1 threads, 2 processes") == 1
    assert result.stdout == Path("two/log.txt").read_text()
    one, two = (RunFolder(Path(name)).read_metrics() for name in ("one", "two"))
    assert [(row["stage"], row["iteration"]) for row in two] == [(row["stage"], row["iteration"]) for row in one]
    for left, right in zip(one, two, strict=True):
        for name in {"elbo", "kl", "noise_norm", "displacement"} & left.keys():
            assert right[name] == pytest.approx(left[name], rel=1e-3)
    assert vaebm.load("two").noise_layout.size == vaebm.load("one").noise_layout.size
    assert Path("two/report.html").is_file()
