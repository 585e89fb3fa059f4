"""Programs as processes of their own, forked from one that has imported what all of them import.

An import of torch takes seconds, as long as some of the runs here. What is forked is a process like any other: it ends
by itself or by a signal, with an exit code. Made for programs with one thread each.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

ROOT = Path(__file__).parent
IMPORTED = ["torch", "torch._dynamo", "torch.utils.flop_counter", "vaebm.cli.main", "vaebm.cli.train", "vaebm.reports"]


def start(words: Sequence[str], errors: Path | None = None) -> ForkServerProcess:
    """Starts a program.

    Arguments:
        words: ``vaebm`` or the name of a script beside this one, and its arguments.
        errors: The file that its standard error is written to; by default it stays where it is. Its standard output
            is thrown away.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=_become, args=(list(words), errors))
    process.start()
    return process


def _become(words: list[str], errors: Path | None) -> None:
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    if errors is not None:
        with errors.open("w") as file:
            os.dup2(file.fileno(), 2)
    program, sys.argv = words[0], words
    if program == "vaebm":
        runpy.run_module("vaebm", run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(ROOT))
        runpy.run_path(str(ROOT / program), run_name="__main__")
