"""Programs as processes of their own, forked from one that has imported what all of them import.

An import of torch takes longer than most of these programs. What is forked ends by itself or by a signal, with an exit
code, as a program does; but the encoding of its output is that of the process before it: where that matters,
``commandline.in_process_of_its_own`` starts a new one. What still runs in the end is ended with the tests.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import torch

IMPORTED = ["torch", "torch._dynamo", "torch.distributed", "accelerate", "sklearn", "vaebm.cli.main", "vaebm.cli.train",
            "vaebm.reports"]  # fmt: skip
SECONDS = 900


@dataclass(frozen=True)
class Outcome:
    """What came of a program: exit code, standard output and standard error."""

    code: int
    output: str
    errors: str


def environment(**variables: str) -> dict[str, str]:
    """The environment of programs, of one thread that doesn't spin."""
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    return os.environ | quiet | variables


class Process:
    """A program that runs on one thread, in this working directory or another one.

    Arguments:
        words: ``vaebm`` or the path of a script, and its arguments.
        folder: Its working directory.
        file_size: How many bytes a file may have that it writes.
        variables: What its environment has besides.
    """

    def __init__(
        self,
        *words: object,
        folder: Path | None = None,
        file_size: int = resource.RLIM_INFINITY,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        self._said = tempfile.TemporaryDirectory()
        place = str(folder or Path.cwd())
        told = ([str(word) for word in words], place, file_size, environment(**(variables or {})), self._said.name)
        self._process = context.Process(target=_become, args=told, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """The number that signals are sent to."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def output(self) -> Path:
        """Where its standard output goes."""
        return Path(self._said.name, "output")

    def is_running(self) -> bool:
        """Whether it hasn't ended."""
        return not wait([self._process.sentinel], 0)

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def outcome(self, seconds: float = SECONDS) -> Outcome:
        """Waits for its end, at most so long; the exit code of a signal is negative."""
        if not wait([self._process.sentinel], seconds):
            self.send_signal(signal.SIGKILL)
        self._process.join()
        assert self._process.exitcode is not None
        output, errors = (path.read_text(errors="replace") for path in (self.output, self.output.with_name("errors")))
        return Outcome(self._process.exitcode, output, errors)

    def wait_for(self, path: Path, text: str = "", count: int = 1) -> None:
        """Waits until a file holds a text so many times, or the process has ended."""
        deadline = time.monotonic() + SECONDS
        while self.is_running() and time.monotonic() < deadline:
            if path.exists() and path.read_bytes().count(text.encode()) >= count:
                return
            time.sleep(0.002)


def run_forked(*arguments: object) -> Outcome:
    """Runs ``vaebm`` to its end."""
    return Process("vaebm", *arguments).outcome()


def run_group(num_processes: int, *words: object) -> list[Outcome]:
    """Runs a program in processes that know of each other, as a launcher would start them; in the order of ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes), "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(port)}  # fmt: skip
    started = [Process(*words, variables={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)})
               for rank in range(num_processes)]  # fmt: skip
    # Who has lost another one would wait for it for ever.
    while any(process.is_running() for process in started):
        ended = [process for process in started if not process.is_running()]
        if any(process.outcome().code for process in ended):
            return [process.outcome(10) for process in started]
        time.sleep(0.01)
    return [process.outcome() for process in started]


def _become(words: list[str], folder: str, file_size: int, variables: dict[str, str], said: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for name, number in (("output", 1), ("errors", 2)):
        with Path(said, name).open("w") as file:
            os.dup2(file.fileno(), number)
    torch.set_num_threads(int(variables["OMP_NUM_THREADS"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    sys.argv = words
    if words[0] == "vaebm":
        runpy.run_module("vaebm", run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
