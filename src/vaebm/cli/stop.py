"""Stopping a run by SIGINT (Ctrl-C) or SIGTERM: between two iterations, after a checkpoint."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

# The exit code of a run whose guard gave up.
GAVE_UP = 3
# That of a run which a signal stopped.
STOPPED = 130
NOTICE = b"\nstopping: saving first; once more to leave at once\n"


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop, and all that can't be done again is saved."""


@dataclass
class StopRequest:
    """Whether a signal has asked the run to stop.

    Arguments:
        name: The signal's name, empty before one has come.
        at_once: Whether a signal may end what goes on, because it can be done again.
    """

    name: str = ""
    at_once: bool = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turns the first SIGINT or SIGTERM into a request; a second one interrupts at once.

        Raises:
            KeyboardInterrupt: In the block, at the second signal.
        """
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def leaving_at_once(self) -> Iterator[None]:
        """Lets a signal end the block wherever it is: for work that writes files whole or not at all.

        Raises:
            Interrupted: At the signal, or at once if it came before.
        """
        self.at_once = True
        try:
            self.leave_if_asked()
            yield
            self.leave_if_asked()
        finally:
            self.at_once = False

    def leave_if_asked(self) -> None:
        """Raises ``Interrupted`` if a signal has come."""
        if self.name:
            raise Interrupted

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.name:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
        if self.at_once:
            raise Interrupted
        # print is not safe here: the signal may have come in the middle of one.
        os.write(2, NOTICE)
