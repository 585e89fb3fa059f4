"""The table of ``vaebm benchmark``: a VAEBM beside other ways to train the same networks."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from vaebm.reports.tables import Column, Table, text_table

COLUMNS = (
    Column("title", "trained as"),
    Column("seeds", "seeds", "count"),
    Column("minutes", "minutes", "digits", meaning="training time of each, without that of the VAE it starts from"),
    Column("iterations", "iterations", "count"),
    Column("num_steps", "steps", meaning="chain steps of a sample, chosen on the selection split"),
    Column("acts", "acts", "count", meaning="how often the guard went back, in all seeds"),
    Column("diverged", "diverged", "percent",
           meaning="share of iterations after which the guard saw divergence; where it only watches, acts are –"),
    Column("step_size", "step size", meaning="of training and samples, where the guard changed it, by seed"),
    Column("milliseconds", "ms a sample", "digits", better="low", meaning="time to draw one of a batch"),
    Column("frechet", "Fréchet", "digits", better="low", meaning="Fréchet distance, median over seeds"),
    Column("range", "from, to", meaning="of the seeds"),
    Column("closed", "closed", "percent", better="high", meaning="share of the way from the VAE to the floor"),
    Column("kernel_interval", "kernel", "interval", better="low",
           meaning="unbiased squared MMD, median over seeds, with the outermost ends of their 95 % intervals"),
    Column("recall", "recall", "unit", better="high", meaning="share of real images in the range of the samples"),
)  # fmt: skip


def rivals_table(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Returns the table of the rows in ``benchmark.json``, grouped by judge; seeds of a row stand together.

    Arguments:
        rows: The rows by name and seed.
    """
    judges = list(dict.fromkeys(entry["judge"] for row in rows.values() for entry in row["quality"])) or [""]
    names = list(dict.fromkeys(row["name"] for row in rows.values()))
    shown = [
        _line([row for row in rows.values() if row["name"] == name], judge, _vae(rows, judge))
        for judge in judges
        for name in names
    ]
    count = next((f", n = {row['num_samples']:,}" for row in rows.values()), "")
    return Table(f"The same networks, trained in other ways{count}", COLUMNS, shown, "group")


def rivals_text(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the table for a terminal."""
    return text_table(rivals_table(rows))


def _vae(rows: Mapping[str, Mapping[str, Any]], judge: str) -> float | None:
    found = [_of(row, judge)["frechet"] for row in rows.values() if row["name"] == "vae" and row["quality"]]
    return median(found) if found else None


def _of(row: Mapping[str, Any], judge: str) -> Mapping[str, Any]:
    entry: Mapping[str, Any] = next(entry for entry in row["quality"] if entry["judge"] == judge)
    return entry


def _line(rows: Sequence[Mapping[str, Any]], judge: str, vae: float | None) -> dict[str, Any]:
    """Returns what the seeds of a row come to by one judge."""
    lost, title = sum(not row["quality"] for row in rows), rows[0]["title"]
    # What the guard saw and did, it did in all seeds.
    guarded = {"acts": _acts(rows), "diverged": _diverged(rows)}
    stopped, count = sum(bool(row.get("gave_up")) for row in rows), len(rows)
    if stopped:
        title = f"{title} (the guard gave up{f' in {stopped} of {count}' if count > 1 else ''})"
    if not rows[0].get("settings", {}).get("guarded", True):
        title = f"{title} (not guarded)"
    rows = [row for row in rows if row["quality"]]
    if lost:
        # None of their networks drew finite images.
        title = f"{title} ({lost} of {count} diverged)"
    if not rows:
        return {"group": f"judge {judge}", "title": title, "seeds": count, **guarded}
    seen = [_of(row, judge) for row in rows]
    distances = [entry["frechet"] for entry in seen]
    floor, frechet = seen[0]["floor"], median(distances)
    steps = sorted({row.get("chosen", {}).get("num_steps", 0) for row in rows})
    times = [row["milliseconds_per_step"] * row.get("chosen", {}).get("num_steps", 0) for row in rows]
    return {
        "group": f"judge {judge}",
        "title": title,
        "seeds": count,
        "minutes": fmean(row["seconds"] for row in rows) / 60,
        "iterations": round(fmean(row["num_iterations"] for row in rows)),
        "num_steps": ", ".join(map(str, steps)),
        **guarded,
        "step_size": _step_sizes(rows),
        "milliseconds": fmean(times) if any(steps) else None,
        "frechet": frechet,
        "range": f"{min(distances):.3g}, {max(distances):.3g}" if len(rows) > 1 else None,
        "closed": (vae - frechet) / (vae - floor) if vae is not None and vae > floor and vae != frechet else None,
        "kernel_interval": outermost([entry["kernel_interval"] for entry in seen if entry.get("kernel_interval")]),
        "recall": median(entry["recall"] for entry in seen),
    }


def outermost(intervals: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    """Returns the median of figures, with the lowest and the highest end of their intervals; None of none."""
    if not intervals:
        return None
    return {
        "value": median(one["value"] for one in intervals),
        "low": min(one["low"] for one in intervals),
        "high": max(one["high"] for one in intervals),
    }


def _acts(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Returns how often the guard went back; None where it doesn't act: in pixel space, or by the row's settings."""
    settings = [row.get("settings", {}) for row in rows]
    if not any(one.get("space") == "noise" and one.get("guarded", True) for one in settings):
        return None
    return sum(not act["gave_up"] for row in rows for act in row.get("acts", ()))


def _diverged(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the share of iterations after which what the guard looks at was beyond its limits, the mean over seeds.

    None where there are no chains that it looks at.
    """
    seen = [row["conditions"] for row in rows if row.get("settings", {}).get("space") in ("noise", "pixels")
            and sum(row.get("conditions", {}).values())]  # fmt: skip
    if not seen:
        return None
    return fmean(counts["diverged"] / sum(counts.values()) for counts in seen)


def _step_sizes(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns the step sizes that were asked for and chosen, if they differ in a seed."""
    if not _acts(rows):
        return None
    pairs = [(row["settings"]["energy"]["step_size"], row["chosen"]["step_size"]) for row in rows]
    told = [f"{asked:g} → {chosen:g}" if chosen != asked else f"{asked:g}" for asked, chosen in pairs]
    return ", ".join(told) if any(asked != chosen for asked, chosen in pairs) else None
