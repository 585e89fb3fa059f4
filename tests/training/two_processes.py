"""How tests of several processes start them: each runs a script with a folder, and leaves its tensors there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from forking import run_group
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
    outcomes = run_group(NUM_PROCESSES, script, folder)
    assert all(outcome.code == 0 for outcome in outcomes), "\n".join(outcome.errors for outcome in outcomes)
    return [torch.load(folder / f"{index}.pt", weights_only=True) for index in range(NUM_PROCESSES)]
