"""How tests of several processes start them: each runs a script with a folder, and leaves its tensors there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vaebm.distributed import Engine, make_engine

NUM_PROCESSES = 2


def work(folder: Path, train: Callable[[Engine], dict[str, Tensor]]) -> None:
    """What each of the launched processes does."""
    engine = make_engine("fp32", "cpu")
    torch.save(train(engine), folder / f"{engine.process_index}.pt")
    engine.wait()
    engine.close()


def launch(script: str, folder: Path) -> list[dict[str, Tensor]]:
    """Runs a script in both processes, and returns what each has left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    sizes = {"WORLD_SIZE": str(NUM_PROCESSES), "LOCAL_WORLD_SIZE": str(NUM_PROCESSES)}
    running = [
        subprocess.Popen(
            [sys.executable, script, str(folder)],
            env={**os.environ, **shared, **sizes, "RANK": str(index), "LOCAL_RANK": str(index)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(NUM_PROCESSES)
    ]
    try:
        errors = [process.communicate(timeout=100)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * NUM_PROCESSES, "\n".join(errors)
    return [torch.load(folder / f"{index}.pt", weights_only=True) for index in range(NUM_PROCESSES)]
