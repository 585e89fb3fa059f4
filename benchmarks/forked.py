"""Programs as processes of their own, forked from one that has imported what all of them import.

An import of torch takes seconds, as long as some of the short runs. What is forked ends by itself or by a signal, with
an exit code, as a program of the command line does; but all share the seed of Python's hashes and what was imported
before, and functions of ``atexit`` aren't called. Needs a system that forks: Linux, macOS.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).parent
# torch imports its compiler with the first optimizer, the others are what nearly all programs here need.
IMPORTED = ["torch", "torch._dynamo", "torch.utils.flop_counter", "vaebm.cli.main", "vaebm.cli.train", "vaebm.reports"]


class _Here:
    """Whether this process is forked itself, and whose turn it is: an exit code can be read but once."""

    is_forked = False
    looking = Lock()


def run_vaebm(words: Sequence[str], said: Path | None = None, check: bool = True) -> int:
    """Runs ``vaebm`` to its end and returns its exit code: a new process, or a forked one where this one is forked.

    Arguments:
        words: Its arguments.
        said: The file that all it says is written to; by default it is shown.
        check: Whether another exit code than 0 is an error.

    Raises:
        subprocess.CalledProcessError: If it is.
    """
    if _Here.is_forked:
        code = Program(["vaebm", *words], said, said).wait()
    else:
        command = [sys.executable, "-m", "vaebm", *words]
        if said is None:
            code = subprocess.run(command, check=False).returncode
        else:
            with said.open("w") as file:
                code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if check and code:
        raise subprocess.CalledProcessError(code, ["vaebm", *words])
    return code


def train_run(folder: Path, words: Sequence[str]) -> None:
    """Trains a run or goes on with it, which leaves one as it is that is finished.

    Arguments:
        folder: The run folder.
        words: What stands behind ``vaebm train`` where it isn't there yet, without its folder.

    Raises:
        subprocess.CalledProcessError: If that fails; it has said why.
    """
    is_begun = (folder / "config.yaml").is_file()
    told = ["train", *(["--resume", str(folder)] if is_begun else [*words, "--output", str(folder)])]
    print("$ vaebm", *told, flush=True)
    run_vaebm(told)


def output_of(words: Sequence[str]) -> str:
    """Runs a script beside this one to its end and returns its standard output; a process as those of ``run_vaebm``.

    Arguments:
        words: The name of the script, and its arguments.

    Raises:
        subprocess.CalledProcessError: If its exit code isn't 0.
    """
    if not _Here.is_forked:
        command = [sys.executable, str(ROOT / words[0]), *words[1:]]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        if code := Program(words, output=output).wait():
            raise subprocess.CalledProcessError(code, list(words))
        return output.read_text()


class Program:
    """A program that runs, with the methods of ``subprocess.Popen``; its standard output is thrown away by default.

    Arguments:
        words: ``vaebm`` or the name of a script beside this one, and its arguments.
        errors: The file that its standard error is written to; by default it stays where it is.
        output: The file that its standard output is written to; it may be that of its errors.
    """

    def __init__(self, words: Sequence[str], errors: Path | None = None, output: Path | None = None) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self.args = list(words)
        told = (self.args, errors, output)
        self._process: BaseProcess
        if _Here.is_forked:
            # What it is forked from has imported all of it.
            self._process = multiprocessing.get_context("fork").Process(target=_become, args=told)
        else:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(IMPORTED)
            self._process = context.Process(target=_become, args=told)
        with _Here.looking:
            self._process.start()

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code, that of a signal negative, once it has ended.

        Raises:
            subprocess.TimeoutExpired: If it runs for so many seconds more.
        """
        if timeout is not None and not wait([self._process.sentinel], timeout):
            raise subprocess.TimeoutExpired(self.args, timeout)
        wait([self._process.sentinel])
        with _Here.looking:
            self._process.join()
            assert self._process.exitcode is not None
            return self._process.exitcode

    def poll(self) -> int | None:
        """Returns the exit code, or None as long as it runs."""
        return self.wait() if wait([self._process.sentinel], 0) else None

    def kill(self) -> None:
        """Sends SIGKILL."""
        self._process.kill()


def _become(words: list[str], errors: Path | None, output: Path | None) -> None:
    from vaebm.cli import costs

    # The lock is held by whoever has forked this process.
    _Here.is_forked, _Here.looking = True, Lock()
    # What work costs beside others says nothing: it is tried once, not for seconds.
    costs.SECONDS = 0
    with (output or Path(os.devnull)).open("w") as file:
        os.dup2(file.fileno(), 1)
    if errors is not None and errors == output:
        os.dup2(1, 2)
    elif errors is not None:
        with errors.open("w") as file:
            os.dup2(file.fileno(), 2)
    code = 1
    try:
        code = _run(words)
    except BaseException:  # What nobody else has caught is shown, as Python shows it.
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not by multiprocessing: behind a process that was forked by a thread it can't join it, and says 1.
        os._exit(code)


def _run(words: list[str]) -> int:
    """Runs a program in this process, and returns its exit code."""
    program, sys.argv = words[0], words
    try:
        if program == "vaebm":
            runpy.run_module("vaebm", run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(ROOT))
            runpy.run_path(str(ROOT / program), run_name="__main__")
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    return 0
