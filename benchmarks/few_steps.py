"""The one rule by which short chains are judged, whoever measured them (docs/evidence.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NUM_STEPS, MOST, MOVED = 15, 1.25, 0.75
VERDICTS = ("fails", "in part", "holds")


@dataclass(frozen=True)
class Few:
    """What samples come to after few steps, beside the best that were measured.

    Arguments:
        distance: That after few steps; infinite if it wasn't finite.
        best: The smallest of all that were measured, with that one.
        floor: The distance of as many images of the data.
        first: That at the first look, of the VAE's samples or after one step.
    """

    distance: float
    best: float
    floor: float
    first: float

    @property
    def share(self) -> float:
        """How many times as far away they are as the best; infinite if that isn't above 0."""
        return _over(self.distance, self.best)

    @property
    def above_floor(self) -> float:
        """The same of what is above the floor: 1 at the floor, infinite if others are there.

        It says little where the best are so near that the floor's own scatter, by the draw of images, is as large.
        """
        return 1.0 if self.distance <= self.floor else _over(self.distance - self.floor, self.best - self.floor)

    @property
    def told(self) -> str:
        """Both, that of what is above the floor in brackets."""
        return f"{_written(self.share)} ({_written(self.above_floor)})"

    @property
    def verdict(self) -> str:
        """Whether few steps suffice; in part, if they have come less than a quarter of the way to the floor.

        A chain that hardly moves is nearly the same everywhere: then its few steps are near its best.
        """
        if self.share > MOST:
            return "fails"
        return "holds" if self.distance - self.floor <= MOVED * (self.first - self.floor) else "in part"


def _over(distance: float, best: float) -> float:
    if not math.isfinite(distance):
        return math.inf
    if distance <= best:
        return 1.0
    return distance / best if best > 0 else math.inf


def _written(share: float) -> str:
    return f"{share:.2f}" if math.isfinite(share) else "∞"


def worst(verdicts: Sequence[str]) -> str:
    """Returns what all seeds come to."""
    return next(verdict for verdict in VERDICTS if verdict in verdicts)
