"""What ``benchmarks/results/rivals.json`` says of the claims: VAEBM beside other models, and its short chains."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from few_steps import NUM_STEPS, Few, worst
from measured import NotMeasured, Row, interval, read
from rivals import curve_of, floor_of, judges_of, pace_of, seconds_until
from vaebm.reports.rivals import outermost

PIXELS = ("pixels-short-run", "pixels-persistent", "pixels-from-vae")


def _rows(data: str) -> dict[str, dict[str, Any]]:
    """Returns the rows of the comparison on a data set.

    Raises:
        NotMeasured: If there are none with figures.
    """
    rows: dict[str, dict[str, Any]] = read("rivals", data)["rows"]
    if not judges_of(rows):
        raise NotMeasured(data)
    return rows


def _by_name(rows: dict[str, dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    """Returns rows by name and seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows.values():
        found.setdefault(row["name"], {})[row["seed"]] = row
    return found


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
    """Compares the kernel distances of VAEBM and rivals by the last judge.

    Raises:
        NotMeasured: If there is no VAEBM, or there were too few images for intervals.
    """
    rows, judges, wanted = _by_name(_rows(data)), judges_of(_rows(data)), ("vaebm", *names)
    if "vaebm" not in rows:
        raise NotMeasured(f"{data}: vaebm")
    seeds = sorted({seed for name in wanted for seed in rows.get(name, {})})
    judge, chose = judges[-1], "" if len(judges) > 1 else ", which also chose"
    missing = [f"{name}, seed {seed}" for name in wanted for seed in seeds if seed not in rows.get(name, {})]
    found = {name: [_seen(rows[name][seed], judge) for seed in sorted(rows[name])] for name in wanted if name in rows}
    parts = []
    if any(not look.get("kernel_interval") for looks in found.values() for look in looks if look is not None):
        raise NotMeasured(f"{data}: intervals")
    for name, looks in found.items():
        kept = [look["kernel_interval"] for look in looks if look is not None]
        lost = f" ({len(looks) - len(kept)} diverged)" if 0 < len(kept) < len(looks) else ""
        middle = outermost(kept)
        figure = interval(middle) if middle else "diverged"
        parts.append(f"{next(iter(rows[name].values()))['title']} {figure}{lost}")
    number = f"medians of {len(seeds)} seeds, outermost ends of their intervals" if len(seeds) > 1 else "one seed"
    told = f"kernel distance by {judge}{chose}: {', '.join(parts)}; {number}"
    if missing:
        return _Compared(f"{told}; not measured: {'; '.join(missing)}", [], [])
    pairs = [pair for name in names for pair in zip(found["vaebm"], found[name], strict=True)]
    return _Compared(
        told, [_is_below(ours, other) for ours, other in pairs], [_is_below(other, ours) for ours, other in pairs]
    )


def rivals(names: Sequence[str] = PIXELS, data: str = "mnist") -> Row:
    """VAEBM is better if its intervals lie below those of the rivals, seed by seed; all seeds must be there."""
    found = _compared(names, data)
    verdict = "holds" if found.is_nearer and all(found.is_nearer) else "fails" if found.is_nearer else "open"
    return Row(found.told, verdict)


def gan(data: str = "mnist") -> Row:
    """VAEBM beside WGAN-GP: as it comes out after so many minutes."""
    found = _compared(("wgan-gp",), data)
    seconds = [row["seconds"] for row in _by_name(_rows(data)).get("wgan-gp", {}).values()]
    minutes = f"; after {statistics.mean(seconds) / 60:.1f} minutes of training" if seconds else ""
    came_out = "better here" if all(found.is_nearer) else "worse here" if all(found.is_beaten) else "not apart here"
    return Row(f"{found.told}{minutes}", came_out if found.is_nearer else "open")


def _is_below(ours: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Whether the interval of a kernel distance lies below another one; what diverged is worse than what didn't."""
    if ours is None or other is None:
        return ours is not None
    return bool(ours["kernel_interval"]["high"] < other["kernel_interval"]["low"])


def pixel_seconds(data: str = "mnist") -> Row:
    """How long chains on pixels take until they are as near as a VAEBM after 15 steps, by the last judge.

    They do take longer where they are still further after a number of steps that takes as long as these 15, or
    longer, and where all of them diverged.
    """
    rows = _rows(data)
    judge, by_name = judges_of(rows)[-1], _by_name(rows)
    wanted = curve_of(rows, "vaebm", judge).get(NUM_STEPS)
    if wanted is None:
        raise NotMeasured(f"{data}: {NUM_STEPS} steps of vaebm")
    ours = NUM_STEPS * pace_of(rows, "vaebm")
    told, is_longer = [], []
    for name in PIXELS:
        if name not in by_name:
            raise NotMeasured(f"{data}: {name}")
        title, curve = next(iter(by_name[name].values()))["title"], curve_of(rows, name, judge)
        if not curve:
            told.append(f"{title} diverged")
            is_longer.append(True)
            continue
        pace = pace_of(rows, name)
        seconds = seconds_until(curve, wanted, pace)
        far = [pace * number for number in curve if seconds is None or pace * number < seconds]
        is_longer.append(max(far, default=0.0) >= ours)
        told.append(f"{title} not within {pace * max(curve):.0f} s ({min(curve.values()):.4g} at best)"
                    if seconds is None else f"{title} {seconds:.1f} s")  # fmt: skip
    seeds = len(by_name["vaebm"])
    number = f"; medians of {seeds} seeds" if seeds > 1 else "; one seed"
    return Row(f"seconds of sampling for 1,000 images until as near as after {NUM_STEPS} steps of VAEBM, {ours:.1f} s "
               f"(Fréchet distance {wanted:.4g} by {judge}, or 1 % more): {', '.join(told)}{number}",
               "holds" if all(is_longer) else "in part" if any(is_longer) else "fails")  # fmt: skip


def fresh_chains(data: str = "mnist") -> Row:
    """How far quality at 15 steps is from the best, where training has 15 steps from N(0, I)."""
    rows, told, found = _rows(data), [], []
    judge, seeds = judges_of(rows)[-1], _by_name(rows).get("vaebm-no-buffer", {})
    if not seeds:
        raise NotMeasured(f"{data}: vaebm-no-buffer")
    floor = floor_of(rows, judge)
    for seed, row in sorted(seeds.items()):
        curve = {look["num_steps"]: look["frechet"] for look in row["curve"] if look["judge"] == judge}
        if not {0, NUM_STEPS} <= curve.keys():
            told.append(f"seed {seed} not finite")
            found.append("fails")
            continue
        few = Few(curve[NUM_STEPS], min(curve.values()), floor, curve[0])
        told.append(f"{few.told}, {few.distance:.3g} after the VAE's {few.first:.3g}")
        found.append(few.verdict)
    return Row(f"Fréchet distance at {NUM_STEPS} steps over the best (of what is above the floor), by {judge}: "
               f"{'; '.join(told)}", worst(found))  # fmt: skip
