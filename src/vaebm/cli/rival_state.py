"""A row of ``vaebm benchmark`` under way, kept in a file: the same command goes on with it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from vaebm.checkpoint import CheckpointError, load_state, save_state
from vaebm.cli.stop import Interrupted, StopRequest
from vaebm.recipes.rivals import settings_today

# For how many seconds a row goes on until it is kept again.
EVERY = 60.0
# When candidates are looked at, in shares of the time of training.
SHARES = (0.5, 0.75, 1.0)


class Misfit(Exception):
    """What was kept of a row holds something else than is asked of it."""


@dataclass
class Best:
    """The candidates of a row so far, and the averaged weights of the best of them."""

    num_steps: int
    step_size: float
    average: dict[str, Tensor] = field(default_factory=dict)
    distance: float = math.inf
    looks: list[dict[str, float]] = field(default_factory=list)

    def compare(
        self, average: Mapping[str, Tensor], size: float, distances: dict[int, float], told: dict[str, float]
    ) -> None:
        """Takes weights over if their samples are nearer, after any of the numbers of steps."""
        for steps, distance in distances.items():
            self.looks.append({**told, "num_steps": steps, "distance": distance})
            if distance < self.distance:
                self.average = {name: value.clone() for name, value in average.items()}
                self.num_steps, self.step_size, self.distance = steps, size, distance


@dataclass
class Tally:
    """How far a row has come.

    Arguments:
        planned: The number of iterations that schedules are planned for.
        iteration: The number of iterations so far, less those that the guard took back.
        seconds: The time of training so far.
        shares: The shares of its time at whose end it is still to be looked at.
        is_pending: Whether it is to be looked at before it goes on.
        acts: What the guard did.
        conditions: The number of iterations by the guard's verdict.
        sittings: For each process that trained it, at how many seconds it began, and on what.
    """

    planned: int
    iteration: int = 0
    seconds: float = 0.0
    shares: list[float] = field(default_factory=lambda: list(SHARES))
    is_pending: bool = False
    acts: list[dict[str, Any]] = field(default_factory=list)
    conditions: dict[str, int] = field(default_factory=lambda: {"healthy": 0, "strained": 0, "diverged": 0})
    sittings: list[dict[str, Any]] = field(default_factory=list)

    def count(self, progress: Any, seconds: float, budget: float) -> None:
        """Counts an iteration of so many seconds, in a row that has a budget of seconds."""
        self.iteration, self.seconds = progress.state.iteration, self.seconds + seconds
        act = getattr(progress, "act", None)
        self.acts += [act.row()] if act is not None else []
        self.conditions[progress.verdict.condition if hasattr(progress, "verdict") else "healthy"] += 1
        # What the guard went back to is no news, unless it gave up: then nothing comes after it.
        self.is_pending = self.has_given_up if act is not None else self.seconds >= self.shares[0] * budget

    def looked(self, budget: float) -> None:
        """Notes that the row was looked at."""
        self.is_pending = False
        self.shares = [share for share in self.shares if self.seconds < share * budget]

    @property
    def has_given_up(self) -> bool:
        """Whether the guard gave up."""
        return bool(self.acts) and bool(self.acts[-1]["gave_up"])

    @property
    def is_over(self) -> bool:
        """Whether no iteration is to come."""
        return not self.shares or self.has_given_up

    def sit_down(self, facts: Mapping[str, Any]) -> str:
        """Notes a process that trains the row, and says what is another in it than in the one before."""
        before = self.sittings[-1] if self.sittings else dict(facts)
        self.sittings.append({"since": self.seconds, **facts})
        return ", ".join(f"{name} {before.get(name)}, now {value}" for name, value in facts.items()
                         if before.get(name) != value)  # fmt: skip


class RowUnderWay:
    """Where a row is kept while it is trained and measured.

    Arguments:
        path: The file.
        identity: Plain values by name that tell this row from others: comparison, settings, time.
        stop: Whether a signal asked to stop.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], stop: StopRequest | None = None) -> None:
        self.path, self.identity, self.stop = path, dict(identity), stop or StopRequest()
        self._kept = time.monotonic()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes from making the same row.

        Raises:
            CheckpointError: If another one makes it.
        """
        lock = FileLock(self.path.with_name(f".{self.path.stem}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            reason = "another process makes it: wait until that has ended, or name another --output"
            raise CheckpointError(f"the row {self.path.stem} in {self.path.parent} is in use: {reason}") from None
        try:
            # What a process left behind that was killed while it wrote.
            for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):
                left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def load(self) -> dict[str, Any]:
        """Returns what was kept of the row, or nothing.

        Raises:
            CheckpointError: If the file is damaged, or of another row.
        """
        if not self.path.exists():
            return {}
        try:
            stored = load_state(self.path)
        except CheckpointError as error:
            raise CheckpointError(f"{error}: if {self.path.name} is removed, its row begins anew") from error
        known = dict(stored.get("identity", {}))
        if "settings" in known:
            known["settings"] = settings_today(known["settings"])
        other = [name for name in {**self.identity, **known} if known.get(name) != self.identity.get(name)]
        if other:
            raise CheckpointError(f"{self.path} is of another row ({', '.join(other)}): name another --output, or "
                                  "remove it")  # fmt: skip
        return stored

    def no_fit(self, error: Exception) -> CheckpointError:
        """Returns what to say of a file that holds something else than is asked of it."""
        reason = " ".join(str(error).split())[:200]
        return CheckpointError(f"{self.path} doesn't fit its row ({reason}): remove it, and the row begins anew")

    @property
    def is_due(self) -> bool:
        """Whether the row should be kept now."""
        return bool(self.stop.name) or time.monotonic() - self._kept >= EVERY

    def keep(self, player: Mapping[str, Any], best: Best, tally: Tally) -> None:
        """Writes what the row needs to go on, and leaves if a signal asked to.

        Raises:
            Interrupted: If one did.
            CheckpointError: If the file can't be written; the old one is intact.
        """
        state = {"identity": self.identity, "player": player, "best": vars(best), "tally": vars(tally)}
        try:
            save_state(self.path, state)
        except CheckpointError as error:
            before = "what was kept of it before is whole" if self.path.exists() else "nothing was kept of it"
            raise CheckpointError(f"{error}; the same command goes on with the row: {before}") from error
        self._kept = time.monotonic()
        if self.stop.name:
            raise Interrupted

    def remove(self) -> None:
        """Removes the file of a row that is done."""
        self.path.unlink(missing_ok=True)
