"""Where a run comes from: versions, commit, seed, hardware, threads."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vaebm.distributed import hardware_facts

PACKAGES = ("vaebm", "torch", "numpy", "accelerate", "scikit-learn", "torchmetrics", "pillow")


def describe_origin(seed: int, arguments: Sequence[str]) -> dict[str, Any]:
    """Returns what is needed to tell why two runs differ."""
    return {
        "command": ["vaebm", "train", *arguments],
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "commit": _commit(),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "hardware": hardware_facts(),
        "seconds": {},
    }


def _commit() -> str | None:
    """Returns the commit of the source tree this runs from, with -dirty where files differ; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
