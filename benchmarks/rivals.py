"""A VAEBM beside other ways to train the same networks, for the same time: quality, steps, wall time, iterations.

    python benchmarks/rivals.py run mnist --model mnist --budget 5m --vae-time 5m --seeds 0
    python benchmarks/rivals.py table docs/evidence.md

``run`` is ``vaebm benchmark``, once for each seed, in ``runs/rivals/NAME``; rows that are there aren't made again. Kept
are its figures, ``benchmarks/results/rivals.json``, a picture with eight samples of each row,
``benchmarks/results/rivals_NAME.png``, and curves, ``rivals_NAME_curves.png``. ``table`` writes the rows, the Fréchet
distance by number of steps, what the nearest costs in time of sampling, and the distance by iterations of training.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from tables import put_table
from vaebm.checkpoint import read_json
from vaebm.plots import png_bytes
from vaebm.reports import markdown_table
from vaebm.reports.rivals import rivals_table

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "rivals.json"
SHOWN = ("vaebm", "vaebm-no-buffer", "vaebm-official", "pixels-short-run", "pixels-persistent", "pixels-from-vae")
NUM_SHOWN = 8


def run(name: str, model: str, seeds: Sequence[int], words: Sequence[str], runs: Path, results: Path) -> None:
    """Trains and measures all rows, and keeps what was found."""
    folder = runs / name
    for seed in seeds:
        told = [sys.executable, "-m", "vaebm", "benchmark", model, "--output", str(folder), "--seed", str(seed), *words]
        subprocess.run(told, check=True)
        keep(name, folder, results)


def keep(name: str, folder: Path, results: Path) -> None:
    """Puts the figures of a folder among the results, and draws its picture."""
    rows = read_json(folder / "benchmark.json")["rows"]
    known = json.loads(results.read_text()) if results.exists() else {}
    known[name] = {**known.get(name, {}), **rows}
    results.write_text(json.dumps(known, indent=1) + "\n")
    strips = []
    for key, row in rows.items():
        if row["seed"] == min(entry["seed"] for entry in rows.values()):
            grid = np.asarray(Image.open(folder / f"{key}.png"))
            # One line of the grid, of eight.
            strips.append(grid[: grid.shape[0] // NUM_SHOWN])
    results.with_name(f"rivals_{name}.png").write_bytes(png_bytes(np.concatenate(strips)))
    draw(known[name], results.with_name(f"rivals_{name}_curves.png"))


def draw(rows: Mapping[str, Any], path: Path) -> None:
    """Draws the distance by number of steps, and by seconds of sampling."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    by_number, by_seconds = figure.subplots(1, 2, sharey=True)
    judge = first_judge(rows)
    titles = {row["name"]: row["title"] for row in rows.values()}
    for name in SHOWN:
        curve = curve_of(rows, name, judge)
        if not curve:
            continue
        steps, distances = np.array(list(curve)), np.array(list(curve.values()))
        style = {"label": titles[name], "marker": ".", "linestyle": "--" if name.startswith("pixels") else "-"}
        by_number.plot(steps, distances, **style)
        by_seconds.plot(steps * pace_of(rows, name), distances, **style)
    for axes, title in ((by_number, "steps"), (by_seconds, "seconds for 1,000 samples")):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_yscale("log")
        axes.set_xlabel(title)
        axes.grid(alpha=0.3)
    by_number.set_ylabel(f"Fréchet distance ({judge})")
    by_seconds.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def first_judge(rows: Mapping[str, Any]) -> str:
    """Returns the name of the judge that chose."""
    return str(next(entry["judge"] for row in rows.values() for entry in row["quality"]))


def pace_of(rows: Mapping[str, Any], name: str) -> float:
    """Returns the milliseconds of a step of one chain, the mean over seeds."""
    return fmean(row["milliseconds_per_step"] for row in rows.values() if row["name"] == name)


def lines_of(rows: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the lines of each table of a data set."""
    judge = first_judge(rows)
    return {
        "": markdown_table(rivals_table(rows)).splitlines(),
        "-steps": by_steps(rows, judge),
        "-time": by_time(rows, judge),
        "-iterations": by_iterations(rows),
    }


def curve_of(rows: Mapping[str, Any], name: str, judge: str) -> dict[int, float]:
    """Returns the mean distance of a row by number of steps."""
    found: dict[int, list[float]] = {}
    for row in rows.values():
        for look in row["curve"] if row["name"] == name else ():
            if look["judge"] == judge:
                found.setdefault(look["num_steps"], []).append(look["frechet"])
    return {steps: fmean(values) for steps, values in sorted(found.items())}


def by_steps(rows: Mapping[str, Any], judge: str) -> list[str]:
    """Returns a table of the distance by number of steps; the last column compares 15 steps with the best number."""
    curves = {name: curve for name in SHOWN if (curve := curve_of(rows, name, judge))}
    steps = sorted({number for curve in curves.values() for number in curve})
    titles = {row["name"]: row["title"] for row in rows.values()}
    lines = [
        f"| {judge}, after steps | {' | '.join(map(str, steps))} | 15 over the best |",
        "|---" * (len(steps) + 2) + "|",
    ]
    for name, curve in curves.items():
        cells = [f"{curve[number]:.3g}" if number in curve else "" for number in steps]
        lines.append(f"| {titles[name]} | {' | '.join(cells)} | {curve[15] / min(curve.values()):.2f} |")
    return lines


def by_time(rows: Mapping[str, Any], judge: str) -> list[str]:
    """Returns a table of how near each row comes, and after how many seconds of sampling."""
    lines = ["| row | ms a step and sample | nearest | after steps | seconds for 1,000 samples |", "|---" * 5 + "|"]
    titles = {row["name"]: row["title"] for row in rows.values()}
    for name in SHOWN:
        curve = curve_of(rows, name, judge)
        if not curve:
            continue
        pace = pace_of(rows, name)
        best = min(curve, key=curve.__getitem__)
        lines.append(f"| {titles[name]} | {pace:.2f} | {curve[best]:.3g} | {best} | {pace * best:.1f} |")
    return lines


def by_iterations(rows: Mapping[str, Any]) -> list[str]:
    """Returns a table of the candidates: the smallest distance from the selection split by share of training."""
    lines = ["| row | " + " | ".join(f"candidate {number}" for number in (1, 2, 3)) + " |", "|---" * 4 + "|"]
    for row in rows.values():
        looks: dict[int, dict[str, float]] = {}
        for look in row.get("candidates", []):
            known = looks.get(look["iteration"])
            if known is None or look["distance"] < known["distance"]:
                looks[look["iteration"]] = look
        if looks:
            cells = [f"{look['distance']:.3g} ({iteration:,} iterations, {look['seconds'] / 60:.1f} min)"
                     for iteration, look in sorted(looks.items())]  # fmt: skip
            lines.append(f"| {row['title']}, seed {row['seed']} | {' | '.join(([*cells, '', ''])[:3])} |")
    return lines


def table(results: Path, document: Path) -> None:
    """Writes the tables into a document, those of MNIST first."""
    known = json.loads(results.read_text())
    found: dict[str, list[str]] = {}
    for name, rows in known.items():
        for part, lines in lines_of(rows).items():
            found.setdefault(f"rivals{part}", []).extend(
                [*([""] if f"rivals{part}" in found else []), f"{name}:", "", *lines]
            )
    for part, lines in found.items():
        put_table(document, part, lines)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    part = commands.add_parser("run")
    part.add_argument("name", help="under which the results stand, such as mnist")
    part.add_argument("--model", default="mnist")
    part.add_argument("--seeds", type=int, nargs="+", default=[0])
    part.add_argument("--runs", type=Path, default=Path("runs/rivals"))
    part.add_argument("--results", type=Path, default=RESULTS)
    part = commands.add_parser("table")
    part.add_argument("document", type=Path)
    part.add_argument("--results", type=Path, default=RESULTS)
    # What isn't known here is for vaebm benchmark.
    chosen, words = parser.parse_known_args()
    if chosen.what == "table":
        if words:
            parser.error(f"unexpected {' '.join(words)}")
        table(chosen.results, chosen.document)
    else:
        run(chosen.name, chosen.model, chosen.seeds, words, chosen.runs, chosen.results)


if __name__ == "__main__":
    main()
