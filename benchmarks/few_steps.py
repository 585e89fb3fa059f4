"""The one rule by which short chains are judged, whoever measured them (docs/evidence.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence

NUM_STEPS, MOST, MOVED = 15, 1.25, 0.75
VERDICTS = ("fails", "in part", "holds")


def over_the_best(distance: float, best: float, floor: float) -> float:
    """Returns how many times as far from the floor samples after few steps are as the best.

    Arguments:
        distance: That after few steps; infinite if it wasn't finite.
        best: The smallest of all that were measured, with that one.
        floor: The distance of as many images of the data, which is large where images are few.

    Returns:
        1 if they are the best; infinite if they aren't finite, or if others are at the floor, by chance below it.
    """
    if not math.isfinite(distance):
        return math.inf
    if distance <= best:
        return 1.0
    return (distance - floor) / (best - floor) if best > floor else math.inf


def verdict_of(distance: float, best: float, floor: float, first: float) -> str:
    """Says whether few steps suffice; in part, if they have come less than a quarter of the way.

    A chain that hardly moves is nearly the same everywhere: then its few steps are near its best.

    Arguments:
        distance: That after few steps.
        best: The smallest of all that were measured.
        floor: The distance of as many images of the data.
        first: That at the first look, of the VAE's samples or after one step.
    """
    if over_the_best(distance, best, floor) > MOST:
        return "fails"
    return "holds" if distance - floor <= MOVED * (first - floor) else "in part"


def worst(verdicts: Sequence[str]) -> str:
    """Returns what all seeds come to."""
    return next(verdict for verdict in VERDICTS if verdict in verdicts)
