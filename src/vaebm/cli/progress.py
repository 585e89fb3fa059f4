"""What a person sees while a model trains: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHOWN = {
    "vae": (("elbo", "ELBO {:.1f} nats"), ("bits_per_dim", "{:.3f} bits/dim"), ("kl", "KL {:.1f}")),
    "energy": (
        ("data_energy", "E(data) {:.2f}"),
        ("sample_energy", "E(samples) {:.2f}"),
        ("gap", "gap {:+.2f}"),
        ("noise_norm", "|noise|²/D {:.3f}"),
        ("displacement", "moved {:.2f}"),
    ),
}


@dataclass
class Console:
    """Tells what goes on, and writes the same to a log file.

    Arguments:
        log: The log file, appended to; None for none.
        seconds: The time between two plain lines where there is no terminal.
    """

    log: Path | None = None
    seconds: float = 10.0
    _bar: Any = field(default=None, repr=False)
    _task: Any = field(default=None, repr=False)
    _last: float = field(default=0.0, repr=False)
    _first: tuple[float, int] = field(default=(0.0, 0), repr=False)

    def tell(self, text: str) -> None:
        """Shows one line."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        else:
            print(text, flush=True)
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(text + "\n")

    def start(self, stage: str, iteration: int, num_iterations: int) -> None:
        """Begins a stage."""
        self._first, self._last = (time.monotonic(), iteration), time.monotonic()
        self.tell(f"stage {stage}: {num_iterations} iterations" + (f", going on at {iteration}" if iteration else ""))
        if sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn(f"[bold]{stage}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))
            self._task = self._bar.add_task(stage, total=num_iterations, completed=iteration, rate="", figures="")
            self._bar.start()

    def step(self, stage: str, iteration: int, num_iterations: int, figures: Mapping[str, float]) -> None:
        """Shows where a stage is."""
        now = time.monotonic()
        begin, first = self._first
        rate = (iteration - first) / max(now - begin, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=iteration, rate=f"{rate:.1f} it/s", figures=describe(stage, figures))
        elif now - self._last >= self.seconds or iteration == num_iterations:
            left = (num_iterations - iteration) / rate
            self.tell(f"{stage} {iteration}/{num_iterations}  {rate:.1f} it/s  {left:.0f} s left  {describe(stage, figures)}")
            self._last = now

    def stop(self) -> None:
        """Ends a stage."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def describe(stage: str, figures: Mapping[str, float]) -> str:
    """Returns the live figures of a stage in words.

    Example:
        >>> describe("vae", {"elbo": -100.0, "bits_per_dim": 1.2, "kl": 20.0})
        'ELBO -100.0 nats, 1.200 bits/dim, KL 20.0'
    """
    return ", ".join(text.format(figures[name]) for name, text in SHOWN[stage] if name in figures)
