"""What ``benchmarks/results/rivals.json`` says of the claims: VAEBM beside other models, and its short chains."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from measured import Row, interval, read
from rivals import NUM_STEPS, floor_of

MOST, MOVED = 1.25, 0.75
PIXELS = ("pixels-short-run", "pixels-persistent", "pixels-from-vae")


def _rivals(data: str) -> dict[str, dict[int, dict[str, Any]]]:
    """Returns the rows of the comparison on a data set by name and seed."""
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for row in read("rivals", data)["rows"].values():
        rows.setdefault(row["name"], {})[row["seed"]] = row
    return rows


def _judges(rows: dict[str, dict[int, dict[str, Any]]]) -> list[str]:
    """Returns the judges in their order: the last one took part in no choice, where there are several."""
    looks = next(row["quality"] for seeds in rows.values() for row in seeds.values() if row["quality"])
    return [str(look["judge"]) for look in looks]


def _seen(row: dict[str, Any], judge: str) -> dict[str, Any] | None:
    """Returns what a judge saw of a row, None if it diverged."""
    found: list[dict[str, Any]] = [look for look in row["quality"] if look["judge"] == judge]
    return found[0] if found else None


@dataclass(frozen=True)
class _Compared:
    """VAEBM and rivals, seed by seed: what is told, and whether VAEBM is nearer, or the rival.

    Nothing is nearer if a seed is missing.
    """

    told: str
    is_nearer: list[bool]
    is_beaten: list[bool]


def _compared(names: Sequence[str], data: str) -> _Compared:
    """Compares the kernel distances of VAEBM and rivals by the last judge."""
    rows, wanted = _rivals(data), ("vaebm", *names)
    judges, seeds = _judges(rows), sorted({seed for name in wanted for seed in rows.get(name, {})})
    judge, chose = judges[-1], "" if len(judges) > 1 else ", which also chose"
    missing = [f"{name}, seed {seed}" for name in wanted for seed in seeds if seed not in rows.get(name, {})]
    found = {name: [_seen(rows[name][seed], judge) for seed in sorted(rows[name])] for name in wanted if name in rows}
    parts = []
    for name, looks in found.items():
        kept = [look["kernel_interval"] for look in looks if look is not None]
        lost = f" ({len(looks) - len(kept)} diverged)" if 0 < len(kept) < len(looks) else ""
        parts.append(f"{next(iter(rows[name].values()))['title']} {_middle(kept)}{lost}")
    number = f"medians of {len(seeds)} seeds, outermost ends of their intervals" if len(seeds) > 1 else "one seed"
    told = f"kernel distance by {judge}{chose}: {', '.join(parts)}; {number}"
    if missing:
        return _Compared(f"{told}; not measured: {'; '.join(missing)}", [], [])
    pairs = [pair for name in names for pair in zip(found["vaebm"], found[name], strict=True)]
    return _Compared(
        told, [_is_below(ours, other) for ours, other in pairs], [_is_below(other, ours) for ours, other in pairs]
    )


def _middle(intervals: Sequence[dict[str, float]]) -> str:
    """Returns the median of kernel distances, and the outermost ends of their intervals."""
    if not intervals:
        return "diverged"
    middle = statistics.median(one["value"] for one in intervals)
    low, high = min(one["low"] for one in intervals), max(one["high"] for one in intervals)
    return interval({"value": middle, "low": low, "high": high})


def rivals(names: Sequence[str] = PIXELS, data: str = "mnist") -> Row:
    """VAEBM is better if its intervals lie below those of the rivals, seed by seed; all seeds must be there."""
    found = _compared(names, data)
    verdict = "holds" if found.is_nearer and all(found.is_nearer) else "fails" if found.is_nearer else "open"
    return Row(found.told, verdict)


def gan(data: str = "mnist") -> Row:
    """VAEBM beside WGAN-GP: as it comes out after so many minutes."""
    found = _compared(("wgan-gp",), data)
    seconds = [row["seconds"] for row in _rivals(data).get("wgan-gp", {}).values()]
    minutes = f"; after {statistics.mean(seconds) / 60:.1f} minutes of training" if seconds else ""
    came_out = "better here" if all(found.is_nearer) else "worse here" if all(found.is_beaten) else "not apart here"
    return Row(f"{found.told}{minutes}", came_out if found.is_nearer else "open")


def _is_below(ours: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Whether the interval of a kernel distance lies below another one; what diverged is worse than what didn't."""
    if ours is None or other is None:
        return ours is not None
    return bool(ours["kernel_interval"]["high"] < other["kernel_interval"]["low"])


def fresh_chains(data: str = "mnist") -> Row:
    """How far quality at 15 steps is from the best, where training has 15 steps from N(0, I).

    Of few images the distance of images of the data is large: it is subtracted.
    """
    rows = _rivals(data)
    judge, told, found = _judges(rows)[-1], [], []
    for seed, row in sorted(rows["vaebm-no-buffer"].items()):
        floor = floor_of(read("rivals", data)["rows"], judge)
        curve = {look["num_steps"]: look["frechet"] - floor for look in row["curve"] if look["judge"] == judge}
        if not {0, NUM_STEPS} <= curve.keys():
            told.append(f"seed {seed} not finite")
            found.append("fails")
            continue
        # By chance the best may be as near as the floor.
        best, distance = min(curve.values()), curve[NUM_STEPS]
        share = distance / best if best > 0 else math.inf
        told.append(f"{share:.2f} ({distance:.3g} above the floor, the VAE {curve[0]:.3g})")
        # A chain that hardly moves is nearly the same everywhere.
        found.append("fails" if share > MOST else "holds" if distance < MOVED * curve[0] else "in part")
    return Row(
        f"Fréchet distance above the floor at {NUM_STEPS} steps over the best, by {judge}: {', '.join(told)}",
        next(verdict for verdict in ("fails", "in part", "holds") if verdict in found),
    )
