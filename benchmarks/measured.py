"""What the other benchmarks have left in ``benchmarks/results``, and what a claim's row says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaebm.checkpoint import read_json

RESULTS = Path(__file__).parent / "results"


class NotMeasured(Exception):
    """A file of results isn't there, or not for this data set."""


@dataclass(frozen=True)
class Row:
    """What was found for a claim, and a word on it."""

    found: str
    verdict: str


def read(name: str, data: str = "") -> Any:
    """Returns the results of a file, or what it holds for a data set.

    Raises:
        NotMeasured: If there is no such file or data set.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise NotMeasured(path)
    found = read_json(path)
    if data and data not in found:
        raise NotMeasured(f"{path}: {data}")
    return found[data] if data else found


def interval(one: dict[str, float]) -> str:
    """Returns a figure with its interval in words."""
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
