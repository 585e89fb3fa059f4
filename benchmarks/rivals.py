r"""A VAEBM beside other ways to train the same networks, for the same time: quality, steps, wall time, iterations.

    python benchmarks/rivals.py run mnist --budget 5m -n 1000 --judges benchmarks/judges --seeds 0 1 2 --replace
    python benchmarks/rivals.py train runs/cifar10-quick --data cifar10.npz
    python benchmarks/rivals.py run cifar10 --model runs/cifar10-quick --source cifar10.npz --budget 10m -n 500 \
        --config benchmarks/rivals_cifar10.yaml --replace
    python benchmarks/rivals.py run cifar10-nvae --model cifar10-small --source cifar10.npz --budget 1h -n 500 \
        --config benchmarks/rivals_nvae.yaml --replace
    python benchmarks/rivals.py table docs/benchmark.md

``run`` is ``vaebm benchmark``, once for each seed, in ``runs/rivals/NAME``; rows that are there aren't made again. Kept
are its figures, ``benchmarks/results/rivals.json``, a picture with eight samples of each row,
``benchmarks/results/rivals_NAME.png``, and curves, ``rivals_NAME_curves.png``. Beside rows stands what they have in
common (``IDENTITY``). Rows of another model, time, number of samples or judge don't join them; ``--replace`` drops
those that are kept. ``table`` writes the rows, the Fréchet distance by number of steps, what the nearest costs in time
of sampling, and the distance by iterations of training; steps and times by the last judge, which takes part in no
choice where there are several. 15 steps are compared with the best number, also by what is above the floor, the
distance of as many training images, which is large where images are few.

``train`` makes a model of one's own images as ``vaebm train --data`` does, with a convolutional VAE of ten minutes; of
its energy network only the settings matter here, so it is hardly trained. The step size is the one that the guard
came to in a run of half an hour.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from endings import ended
from few_steps import NUM_STEPS, Few
from forked import run_vaebm, train_run
from tables import put_table
from vaebm.checkpoint import read_json, write_json
from vaebm.cli.benchmark import planned
from vaebm.recipes.rivals import RIVALS, settings_today
from vaebm.reports import markdown_table
from vaebm.reports.rivals import rivals_table

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "rivals.json"
SHOWN = ("vaebm", "vaebm-no-buffer", "vaebm-official", "pixels-short-run", "pixels-persistent", "pixels-from-vae")
# As near: a hundredth further counts.
NEAR = 1.01
TRAINED = (*SHOWN, "wgan-gp")
# A line of the picture is named by the text of this name in its file.
NUM_SHOWN, ROWS = 8, "rows"
QUICK = {
    "vae.num_iterations": "1900",
    "energy.num_iterations": "100",
    "energy.step_size": "0.05",
    "selection.num_candidates": "1",
    "evaluation.num_test": "2000",
    "evaluation.num_samples": "250",
    "evaluation.steps_curve": "[0,60]",
    "evaluation.num_posterior_samples": "1",
}
IDENTITY = ("budget", "vae_time", "model_sha256", "judges", "num_samples", "device", "precision")


class Other(Exception):
    """Rows don't belong to those that are kept; the message says why."""


def train(folder: Path, data: Path) -> None:
    """Trains a model of images of one's own, or goes on with it, unless it is there."""
    settings = [word for name, value in QUICK.items() for word in (f"--{name}", value)]
    train_run(folder, ["--data", str(data), *settings])


def run(options: argparse.Namespace, words: Sequence[str]) -> None:
    """Trains and measures all rows, and keeps what was found: after each seed, or at the end instead of what was kept.

    Raises:
        Other: If they don't belong to the rows that are kept; told before any of them is trained.
    """
    folder, results = options.runs / options.name, options.results
    told = [options.model, "--output", str(folder), *words]
    plan = planned([*told, "--seed", str(options.seeds[0])])
    # What was made there before comes along.
    path = folder / "benchmark.json"
    before = read_json(path)["rows"] if path.exists() else {}
    check_alike({**before, **plan["rows"]}, f"{path} holds", "name other --runs")
    joined(options.name, {**plan, "rows": {**before, **plan["rows"]}}, results, options.replace)
    for seed in options.seeds:
        run_vaebm(["benchmark", *told, "--seed", str(seed)])
        if not options.replace:
            keep(options.name, folder, results)
    if options.replace:
        keep(options.name, folder, results, is_replaced=True)


def joined(name: str, found: Mapping[str, Any], results: Path, is_replaced: bool) -> dict[str, Any]:
    """Returns the results with rows in them that were found or are planned, or with these instead of them.

    Raises:
        Other: If rows of another identity are kept, or rows of this name of other settings.
    """
    identity = {part: found[part] for part in IDENTITY}
    known = read_json(results) if results.exists() else {}
    kept = {} if is_replaced else known.get(name, {})
    other = [part for part in IDENTITY if kept and kept["identity"].get(part) != identity[part]]
    if other:
        told = ", ".join(f"{part} {kept['identity'].get(part)} instead of {identity[part]}"
                         if isinstance(identity[part], float | int) else part for part in other)  # fmt: skip
        raise Other(f"{results} keeps rows of another comparison ({told}): --replace drops them")
    rows = {**kept.get("rows", {}), **found["rows"]}
    check_alike(rows, f"{results} keeps", "--replace drops them")
    places = {row: place for place, row in enumerate(RIVALS)}
    ordered = sorted(rows.items(), key=lambda kept: (places[kept[1]["name"]], kept[1]["seed"]))
    return {**known, name: {"identity": identity, "rows": dict(ordered)}}


def check_alike(rows: Mapping[str, Any], where: str, remedy: str) -> None:
    """Checks that rows of one name have the same settings.

    Raises:
        Other: If a row doesn't have those of one before it; the message says where they are and what helps.
    """
    settings: dict[str, Any] = {}
    for key, row in rows.items():
        today = settings_today(row.get("settings", {}))
        if settings.setdefault(row["name"], today) != today:
            raise Other(f"{where} rows of other settings than those of {key}: {remedy}")


def keep(name: str, folder: Path, results: Path, is_replaced: bool = False) -> None:
    """Puts the figures of a folder among the results, and draws their pictures."""
    found, picture = read_json(folder / "benchmark.json"), results.with_name(f"rivals_{name}.png")
    known = joined(name, found, results, is_replaced)
    rows, strips = known[name]["rows"], strips_of(picture)
    for key, row in found["rows"].items():
        grid = np.asarray(Image.open(folder / f"{key}.png").convert("RGB"))
        # The first of up to eight lines.
        strips[key] = grid[: grid.shape[0] // math.ceil(min(NUM_SHOWN**2, row["num_samples"]) / NUM_SHOWN)]
    shown: dict[str, str] = {}
    for key, row in rows.items():
        if key in strips:
            shown.setdefault(row["name"], key)
    about = PngInfo()
    about.add_text(ROWS, " ".join(shown.values()))
    lines = Image.fromarray(np.concatenate([strips[key] for key in shown.values()]))
    lines.save(picture, pnginfo=about, optimize=True)
    write_json(results, known)
    draw(rows, results.with_name(f"rivals_{name}_curves.png"))


def strips_of(picture: Path) -> dict[str, Any]:
    """Returns the samples in the picture of results, by row, as the picture tells them; none if it isn't there."""
    if not picture.exists():
        return {}
    with Image.open(picture) as image:
        keys, pixels = str(image.info.get(ROWS, "")).split(), np.asarray(image.convert("RGB"))
    return dict(zip(keys, np.array_split(pixels, len(keys)), strict=True)) if keys else {}


def draw(rows: Mapping[str, Any], path: Path) -> None:
    """Draws the distance by number of steps and by seconds of sampling, and candidates by iterations of training."""
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    by_number, by_seconds, by_training = figure.subplots(1, 3)
    by_seconds.sharey(by_number)
    judge = last_judge(rows)
    titles = {row["name"]: row["title"] for row in rows.values()}
    for place, name in enumerate(TRAINED):
        style = {"marker": ".", "linestyle": "--" if name.startswith("pixels") else "-", "color": f"C{place}"}
        if curve := curve_of(rows, name, judge):
            steps, distances = np.array(list(curve)), np.array(list(curve.values()))
            by_number.plot(steps, distances, **style)
            by_seconds.plot(steps * pace_of(rows, name), distances, **style)
        for number, looks in enumerate(looks_of(row) for row in rows.values() if row["name"] == name):
            label = "_" if number else titles[name]
            by_training.plot([look["iteration"] for look in looks], [look["distance"] for look in looks], label=label,
                             **style)  # fmt: skip
    for axes, title in ((by_number, "steps"), (by_seconds, "seconds for 1,000 samples")):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
        axes.set_xlabel(title)
        axes.set_ylabel(f"Fréchet distance ({judge})")
    by_training.set_xlabel("iterations of training, each seed")
    by_training.set_ylabel("distance from the selection split")
    for axes in (by_number, by_seconds, by_training):
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
    figure.legend(*by_training.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)


def judges_of(rows: Mapping[str, Any]) -> list[str]:
    """Returns the judges in their order; none if all rows diverged."""
    return next(([str(look["judge"]) for look in row["quality"]] for row in rows.values() if row["quality"]), [])


def last_judge(rows: Mapping[str, Any]) -> str:
    """Returns the name of the last judge, which didn't choose unless it is the only one; none if all rows diverged."""
    return next(reversed(judges_of(rows)), "")


def floor_of(rows: Mapping[str, Any], judge: str) -> float:
    """Returns a judge's distance of as many training images from the test images, the median over rows; NaN of none."""
    floors = [look["floor"] for row in rows.values() for look in row["quality"] if look["judge"] == judge]
    return float(median(floors)) if floors else math.nan


def looks_of(row: Mapping[str, Any]) -> list[dict[str, float]]:
    """Returns the nearest look at each candidate of a row, in their order.

    After the guard went back, iterations come again; seconds don't.
    """
    looks: dict[float, dict[str, float]] = {}
    for look in row.get("candidates", []):
        known = looks.get(look["seconds"])
        if known is None or look["distance"] < known["distance"]:
            looks[look["seconds"]] = look
    return [look for _, look in sorted(looks.items())]


def pace_of(rows: Mapping[str, Any], name: str) -> float:
    """Returns the milliseconds of a step of one chain, the mean over seeds."""
    return fmean(row["milliseconds_per_step"] for row in rows.values() if row["name"] == name)


def lines_of(rows: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the lines of each table of a data set."""
    judge = last_judge(rows)
    return {
        "": markdown_table(rivals_table(rows)).splitlines(),
        "-steps": by_steps(rows, judge),
        "-time": by_time(rows, judge),
        "-iterations": by_iterations(rows),
    }


def curve_of(rows: Mapping[str, Any], name: str, judge: str) -> dict[int, float]:
    """Returns the median distance of a row by number of steps, where all seeds that have a curve have one."""
    found: dict[int, list[float]] = {}
    curves = [row["curve"] for row in rows.values() if row["name"] == name and row["curve"]]
    for look in (look for curve in curves for look in curve if look["judge"] == judge):
        found.setdefault(look["num_steps"], []).append(look["frechet"])
    return {steps: median(values) for steps, values in sorted(found.items()) if len(values) == len(curves)}


def by_steps(rows: Mapping[str, Any], judge: str) -> list[str]:
    """Returns a table of the distance by number of steps; the last column compares 15 steps with the best number."""
    curves = {name: curve for name in SHOWN if (curve := curve_of(rows, name, judge))}
    steps = sorted({number for curve in curves.values() for number in curve})
    titles, floor = {row["name"]: row["title"] for row in rows.values()}, floor_of(rows, judge)
    lines = [
        f"| {judge}, after steps | {' | '.join(map(str, steps))} | {NUM_STEPS} over the best (above the floor of "
        f"{floor:.3g}) |",
        "|---" * (len(steps) + 2) + "|",
    ]
    for name, curve in curves.items():
        cells = [f"{curve[number]:.3g}" if number in curve else "" for number in steps]
        share = "not finite"
        if NUM_STEPS in curve:
            share = Few(curve[NUM_STEPS], min(curve.values()), floor, math.inf).told
        lines.append(f"| {titles[name]} | {' | '.join(cells)} | {share} |")
    return lines


def by_time(rows: Mapping[str, Any], judge: str) -> list[str]:
    """Returns a table of how near each row comes, and after how many seconds of sampling.

    The last column: when it is as near as the VAEBM after 15 steps, of the numbers of steps that were measured; what
    is further by a hundredth counts as near.
    """
    wanted = curve_of(rows, "vaebm", judge).get(NUM_STEPS)
    target = "" if wanted is None else f" ({wanted:.3g}, or 1 % more)"
    lines = [
        f"| row, by {judge} | ms a step and sample | nearest | after steps | seconds for 1,000 samples | "
        f"seconds until as near as VAEBM after {NUM_STEPS} steps{target} |",
        "|---" * 6 + "|",
    ]
    titles = {row["name"]: row["title"] for row in rows.values()}
    for name in SHOWN:
        curve = curve_of(rows, name, judge)
        if not curve:
            continue
        pace = pace_of(rows, name)
        best = min(curve, key=curve.__getitem__)
        lines.append(
            f"| {titles[name]} | {pace:.2f} | {curve[best]:.3g} | {best} | {pace * best:.1f} | "
            f"{reached(curve, wanted, pace)} |"
        )
    return lines


def reached(curve: Mapping[int, float], wanted: float | None, pace: float) -> str:
    """Returns after how many seconds for 1,000 samples a curve has come as near as that, if it has."""
    if wanted is None:
        return ""
    seconds = seconds_until(curve, wanted, pace)
    return f"not reached in {pace * max(curve):.1f} s" if seconds is None else f"{seconds:.1f}"


def seconds_until(curve: Mapping[int, float], wanted: float, pace: float) -> float | None:
    """Returns the seconds for 1,000 samples until a curve is as near, or a hundredth further; None if it isn't.

    Seconds of the first number of steps that was measured and is near: one between may have been before.
    """
    return next((pace * number for number, distance in curve.items() if distance <= NEAR * wanted), None)


def by_iterations(rows: Mapping[str, Any]) -> list[str]:
    """Returns a table of the candidates: the smallest distance from the selection split by share of training."""
    lines = ["| row | " + " | ".join(f"candidate {number}" for number in (1, 2, 3)) + " |", "|---" * 4 + "|"]
    places = list(dict.fromkeys(row["name"] for row in rows.values()))
    for row in sorted(rows.values(), key=lambda row: (places.index(row["name"]), row["seed"])):
        if looks := looks_of(row):
            cells = [f"{look['distance']:.3g} ({look['iteration']:,} iterations, {look['seconds'] / 60:.1f} min)"
                     for look in looks]  # fmt: skip
            lines.append(f"| {row['title']}, seed {row['seed']} | {' | '.join(([*cells, '', ''])[:3])} |")
    return lines


def table(results: Path, document: Path) -> None:
    """Writes the tables into a document, in the order of the results."""
    known = read_json(results)
    found: dict[str, list[str]] = {}
    for name, kept in known.items():
        for part, lines in lines_of(kept["rows"]).items():
            before = found.setdefault(f"rivals{part}", [])
            before += [*([""] if before else []), f"{name}:", "", *lines]
    for part, lines in found.items():
        put_table(document, part, lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    part = commands.add_parser("run")
    part.add_argument("name", help="under which the results stand, such as mnist")
    part.add_argument("--model", default="mnist")
    part.add_argument("--seeds", type=int, nargs="+", default=[0])
    part.add_argument("--replace", action="store_true", help="drop the rows that are kept under this name")
    part.add_argument("--runs", type=Path, default=Path("runs/rivals"))
    part.add_argument("--results", type=Path, default=RESULTS)
    part = commands.add_parser("train")
    part.add_argument("folder", type=Path, help="where the run goes")
    part.add_argument("--data", type=Path, required=True)
    part = commands.add_parser("table")
    part.add_argument("document", type=Path)
    part.add_argument("--results", type=Path, default=RESULTS)
    # What isn't known here is for vaebm benchmark.
    chosen, words = parser.parse_known_args(arguments)
    if chosen.what != "run" and words:
        parser.error(f"unexpected {' '.join(words)}")
    if chosen.what == "table":
        table(chosen.results, chosen.document)
        return 0
    try:
        if chosen.what == "train":
            train(chosen.folder, chosen.data)
        else:
            run(chosen, words)
    except Other as error:
        print(f"rivals: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        # It has said what is wrong.
        return int(error.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(ended(main))
