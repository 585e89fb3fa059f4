"""Where a run comes from: versions, commit, seed, hardware, threads."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vaebm.distributed import Engine, hardware_facts

PACKAGES = ("vaebm", "torch", "numpy", "accelerate", "scikit-learn", "torchmetrics", "pillow")


def describe_origin(seed: int, arguments: Sequence[str], engine: Engine) -> dict[str, Any]:
    """Returns what is needed to tell why two runs differ."""
    return {
        "command": ["vaebm", "train", *arguments],
        "started": _now(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "commit": _commit(),
        "seed": seed,
        **numerics(engine),
        "hardware": hardware_facts(engine.device),
        "seconds": {},
    }


def numerics(engine: Engine) -> dict[str, Any]:
    """Returns what else than versions decides the last bits of a run: threads, precision, device, processes."""
    return {
        "threads": torch.get_num_threads(),
        "precision": engine.precision,
        "device": str(engine.device),
        "processes": engine.num_processes,
    }


def describe_resumption(provenance: Mapping[str, Any], engine: Engine) -> dict[str, Any]:
    """Returns the provenance of a run with a note that it was resumed now, and with what."""
    note = {"at": _now(), "commit": _commit(), **numerics(engine), "torch": version("torch")}
    return {**provenance, "resumed": [*provenance.get("resumed", []), note]}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """Returns the commit of the source tree this runs from, with -dirty where files differ; None outside a checkout."""
    # An installed package may lie in somebody else's checkout, which says nothing about it.
    if _git("ls-files", Path(__file__).name) is None:
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
