"""A row of ``vaebm benchmark`` under way, kept in a file: the same command goes on with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vaebm.checkpoint import CheckpointError, load_state, save_state
from vaebm.cli.stop import Interrupted, StopRequest

# For how many seconds a row goes on until it is kept again.
EVERY = 60.0


@dataclass
class RowUnderWay:
    """Where a row is kept while it is trained and measured.

    Arguments:
        path: The file.
        identity: Plain values by name that tell this row from others: comparison, settings, time.
        stop: Whether a signal asked to stop.
    """

    path: Path
    identity: Mapping[str, Any]
    stop: StopRequest = field(default_factory=StopRequest)
    _kept: float = field(default_factory=time.monotonic)

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
        stored = load_state(self.path)
        known = stored.get("identity", {})
        other = [name for name, value in self.identity.items() if known.get(name) != value]
        if other:
            raise CheckpointError(f"{self.path} is of another row ({', '.join(other)}): name another --output, or "
                                  "remove it")  # fmt: skip
        return stored

    def no_fit(self, error: Exception) -> CheckpointError:
        """Returns what to say of a file that holds something else than is asked of it."""
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return CheckpointError(f"{self.path} doesn't fit its row ({reason}): remove it, and the row begins anew")

    @property
    def is_due(self) -> bool:
        """Whether the row should be kept now."""
        return bool(self.stop.name) or time.monotonic() - self._kept >= EVERY

    def keep(self, state: Mapping[str, Any]) -> None:
        """Writes what the row needs to go on, and leaves if a signal asked to.

        Raises:
            Interrupted: If one did.
            CheckpointError: If the file can't be written; the old one is intact.
        """
        save_state(self.path, {"identity": dict(self.identity), **state})
        self._kept = time.monotonic()
        if self.stop.name:
            raise Interrupted

    def remove(self) -> None:
        """Removes the file of a row that is done."""
        self.path.unlink(missing_ok=True)
