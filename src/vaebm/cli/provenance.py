"""Where a run comes from: versions, commit, seed, hardware, threads."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch

from vaebm.distributed import Engine, hardware_facts

PACKAGES = ("vaebm", "torch", "numpy", "accelerate", "scikit-learn", "torchmetrics", "pillow")


def describe_origin(seed: int, arguments: Sequence[str], engine: Engine, reasons: Sequence[str] = ()) -> dict[str, Any]:
    """Returns what is needed to tell why two runs differ, and why the settings are what they are, where they say so."""
    return {
        "command": ["vaebm", "train", *arguments],
        "started": _now(),
        **versions(),
        "seed": seed,
        **numerics(engine),
        "hardware": hardware_facts(engine.device),
        "seconds": {},
        **({"reasons": list(reasons)} if reasons else {}),
    }


def versions() -> dict[str, Any]:
    """Returns the versions of Python and packages, and the commit."""
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {"versions": found, "commit": _commit()}


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
    """Returns the commit of the source tree this runs from, or was installed from; None if there is none.

    It ends with -dirty where files of the tree differ from the commit, or the installed ones from the tree.
    """
    here = Path(__file__).parent
    # An installed package may lie in somebody else's checkout, which says nothing about it.
    if _git(here, "ls-files", Path(__file__).name) is not None:
        return _describe(here)
    told = _direct_url()
    if "vcs_info" in told:
        return str(told["vcs_info"].get("commit_id") or "") or None
    tree = Path(url2pathname(urlsplit(told.get("url", "")).path))
    is_tree = "dir_info" in told and _git(tree, "ls-files", "src/vaebm/__init__.py") is not None
    commit = _describe(tree) if is_tree else None
    if commit is None or commit.endswith("-dirty") or _is_same(here.parent, tree / "src" / "vaebm"):
        return commit
    return f"{commit}-dirty"


def _direct_url() -> dict[str, Any]:
    """Returns where pip installed the package from, by its own record."""
    try:
        told = json.loads(distribution("vaebm").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _is_same(installed: Path, tree: Path) -> bool:
    """Whether two trees hold the same Python files."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.py")}

    try:
        return read(installed) == read(tree)
    except OSError:
        return False


def _describe(tree: Path) -> str | None:
    return _git(tree, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
