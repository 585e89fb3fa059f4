"""What a person sees: a bar and figures that fit a terminal, plain lines elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import pytest

from vaebm.cli.progress import CollapseWatch, Console

SHOW = """
import sys, time
from pathlib import Path
from vaebm.cli.progress import Console
console = Console(Path(sys.argv[1]))
figures = dict(data_energy=-2.5, sample_energy=-2.1, gap=-.4, noise_norm=1.0123, displacement=.8)
with console.stage("energy", 200, 1000) as show:
    for iteration in range(201, 1001, 4):
        time.sleep(.004)
        show(iteration, figures)
        if iteration == 601:
            console.tell("selection split, iteration 601: 3.20")
with console.busy("measuring"):
    console.tell("[bold]scoring[/bold] outliers")
    time.sleep(.3)
"""


def on_a_terminal(columns: int, log: Path) -> str:
    child, terminal = pty.fork()
    if child == 0:
        # readline, if pytest has loaded it, sets COLUMNS behind the back of os.environ: give the environment by hand.
        known = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        command = [sys.executable, "-c", "input()\n" + SHOW, str(log)]
        os.execve(sys.executable, command, {**known, "TERM": "xterm-256color"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    os.write(terminal, b"\n")
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            part = b""
        if not part:
            break
        shown += part
    _, status = os.waitpid(child, 0)
    assert status == 0, shown
    return shown.decode()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_bar_with_rate_time_left_and_figures(columns: int, tmp_path: Path) -> None:
    shown = on_a_terminal(columns, tmp_path / "log.txt")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    lines = [part for line in plain.split("\n") for part in line.split("\r")]
    assert max(map(len, lines)) <= columns
    bars = [line for line in lines if line.startswith("energy ")]
    assert len(bars) > 3
    assert re.search(r"energy .*━.* +\d+/1000 [\d.]+ it/s \d:\d\d:\d\d left", bars[len(bars) // 2])
    figures = "E(data) -2.50, E(samples) -2.10, gap -0.40, |noise|²/D 1.012, moved 0.80"
    assert any(line == (figures if columns > 60 else f"{figures[: columns - 1]}…") for line in lines)
    assert "selection split, iteration 601: 3.20" in lines
    assert "[bold]scoring[/bold] outliers" in lines
    assert any(re.fullmatch(r"\S measuring \d:\d\d:\d\d", line) for line in lines)


def test_the_log_holds_the_lines_and_not_the_bar(tmp_path: Path) -> None:
    on_a_terminal(80, tmp_path / "log.txt")
    assert (tmp_path / "log.txt").read_text().splitlines() == [
        "stage energy: 1000 iterations, going on at 200",
        "selection split, iteration 601: 3.20",
        "[bold]scoring[/bold] outliers",
    ]


def test_plain_lines_come_at_intervals_and_at_the_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    console = Console(tmp_path / "log.txt", seconds=1000)
    with console.stage("vae", 0, 3) as show:
        for iteration in (1, 2, 3):
            show(iteration, {"elbo": -100.0, "bits_per_dim": 1.25, "kl": 20.0})
    with console.busy("measuring"):
        console.tell("done")
    first, second, last = capsys.readouterr().out.splitlines()
    assert (first, last) == ("stage vae: 3 iterations", "done")
    assert re.fullmatch(r"vae 3/3  [\d.]+ it/s  0 s left  ELBO -100.0 nats, 1.250 bits/dim, KL 20.0", second)
    assert (tmp_path / "log.txt").read_text().splitlines() == [first, second, last]
    console = Console(seconds=0)
    with console.stage("vae", 0, 3) as show:
        for iteration in (1, 2, 3):
            show(iteration, {"kl": 20.0})
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_quiet_console_says_and_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    console = Console(tmp_path / "log.txt", seconds=0, is_quiet=True)
    with console.stage("vae", 0, 1) as show:
        show(1, {"kl": 20.0})
    console.tell("done")
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "log.txt").exists()


def test_collapsed_weights_are_told_once() -> None:
    told: list[str] = []
    watch = CollapseWatch(told.append)
    for iteration, worth in enumerate((50.0, 4.0, 1.0)):
        watch(iteration, {"effective_sample_size": worth})
    watch(3, {"loss": 1.0})
    assert len(told) == 1
    assert "iteration 1: the draws behind log Ẑ are worth 4.0" in told[0]
