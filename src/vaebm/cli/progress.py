"""What a person sees while a model trains: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console as Terminal
    from rich.progress import Progress
    from rich.text import Text

SHOWN = {
    "vae": (("elbo", "ELBO {:.1f} nats"), ("bits_per_dim", "{:.3f} bits/dim"), ("kl", "KL {:.1f}")),
    "energy": (
        ("data_energy", "E(data) {:.2f}"),
        ("sample_energy", "E(samples) {:.2f}"),
        ("gap", "gap {:+.2f}"),
        ("noise_norm", "|noise|²/D {:.3f}"),
        ("displacement", "moved {:.2f}"),
        ("log_z", "log Ẑ {:.2f}"),
        ("effective_sample_size", "ESS {:.0f}"),
    ),
}


@dataclass
class Console:
    """Tells what goes on, and writes the same to a log file.

    Arguments:
        log: The log file, appended to; None for none.
        seconds: The time between two plain lines where there is no terminal.
        is_quiet: Whether to show and write nothing, as all processes but the main one.
    """

    log: Path | None = None
    seconds: float = 10.0
    is_quiet: bool = False
    _terminal: Terminal | None = field(default=None, repr=False)

    def tell(self, text: str) -> None:
        """Shows one line or more."""
        if self.is_quiet:
            return
        if self._terminal is not None:
            self._terminal.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, flush=True)
        if self.log is not None:
            with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")

    @contextmanager
    def stage(self, name: str, iteration: int, num_iterations: int) -> Iterator[Show]:
        """Shows the progress of a stage.

        Arguments:
            name: The stage.
            iteration: How many iterations are done before.
            num_iterations: How many there will be.

        Yields:
            What to call after each iteration.
        """
        self.tell(f"stage {name}: {num_iterations} iterations" + (f", going on at {iteration}" if iteration else ""))
        show = Show(self, name, num_iterations, _Rate(iteration, time.monotonic()))
        if self.is_quiet or not sys.stdout.isatty():
            yield show
            return
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        bar, words = _bar(name), Text(no_wrap=True, overflow="ellipsis", style="dim")
        show.bar, show.words = bar, words
        bar.add_task(name, total=num_iterations, completed=iteration, rate="")
        with Live(Group(bar, words), refresh_per_second=5) as live:
            self._terminal = live.console
            try:
                yield show
            finally:
                self._terminal = None

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Shows on a terminal that work without iterations goes on, and for how long."""
        if self.is_quiet or not sys.stdout.isatty():
            yield
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), transient=True) as bar:
            bar.add_task(text, total=None)
            self._terminal = bar.console
            try:
                yield
            finally:
                self._terminal = None


FEWEST_WORTH = 5.0


@dataclass
class CollapseWatch:
    """Tells once if the weights of the importance-sampled objective have collapsed on a handful of draws.

    Arguments:
        tell: Is told.
        told: Whether it was.
    """

    tell: Callable[[str], None]
    told: bool = False

    def __call__(self, iteration: int, figures: Mapping[str, float]) -> None:
        """Looks at the figures of an iteration."""
        worth = figures.get("effective_sample_size", math.inf)
        if self.told or not worth < FEWEST_WORTH:
            return
        self.told = True
        self.tell(
            f"iteration {iteration}: the draws behind log Ẑ are worth {worth:.1f}. The likelihood rests on a handful "
            "and flatters: use more --energy.num_prior_samples, or --energy.objective contrastive on images"
        )


@dataclass
class _Rate:
    first: int
    begin: float

    def at(self, iteration: int) -> float:
        return (iteration - self.first) / max(time.monotonic() - self.begin, 1e-9)


@dataclass
class Show:
    """Shows where a stage is; made by ``Console.stage``."""

    console: Console
    name: str
    num_iterations: int
    rate: _Rate
    bar: Progress | None = None
    words: Text | None = None
    _last: float = field(default_factory=time.monotonic)

    def __call__(self, iteration: int, figures: Mapping[str, float]) -> None:
        """Shows an iteration and its figures."""
        rate, words = self.rate.at(iteration), describe(self.name, figures)
        if self.bar is not None and self.words is not None:
            self.bar.update(self.bar.task_ids[0], completed=iteration, rate=f"{rate:.1f} it/s")
            self.words.plain = words
        elif time.monotonic() - self._last >= self.console.seconds or iteration == self.num_iterations:
            left = (self.num_iterations - iteration) / rate
            progress = f"{self.name} {iteration}/{self.num_iterations}  {rate:.1f} it/s  {left:.0f} s left"
            self.console.tell(f"{progress}  {words}")
            self._last = time.monotonic()


def _bar(name: str) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(28), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    return Progress(TextColumn(f"[bold]{name}"), *columns, TextColumn("left"))


def describe(stage: str, figures: Mapping[str, float]) -> str:
    """Returns the live figures of a stage in words.

    Example:
        >>> describe("vae", {"elbo": -100.0, "bits_per_dim": 1.2, "kl": 20.0})
        'ELBO -100.0 nats, 1.200 bits/dim, KL 20.0'
    """
    return ", ".join(text.format(figures[name]) for name, text in SHOWN[stage] if name in figures)
