"""The evidence on MNIST: seeds, both kinds of chain image, the converged VAE, a third judge, outliers.

    python benchmarks/mnist.py run --runs runs/mnist --outliers "fashion mnist=fashion.npz"   # 10 minutes a run
    python benchmarks/mnist.py table                                                          # fills README.md

``run`` trains what is missing, each by the command that it prints, and measures each run by ``vaebm evaluate``; it may
be stopped and started again. Results go to ``benchmarks/results/mnist.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "mnist.json"
README = ROOT.parent / "README.md"
MEAN = ["--images.chain_image", "mean", "--images.loss_image", "mean"]
CONVERGED = ["--config", "benchmarks/converged.yaml"]
RUNS: dict[str, list[str]] = {
    "sampled-0": ["--seed", "0"],
    "sampled-1": ["--seed", "1"],
    "sampled-2": ["--seed", "2"],
    "mean-0": ["--seed", "0", *MEAN],
    "mean-1": ["--seed", "1", *MEAN],
    "mean-2": ["--seed", "2", *MEAN],
    "converged-0": ["--seed", "0", *CONVERGED],
}
KINDS = {
    "sampled": "energy on the sampled image",
    "mean": "energy on the mean image",
    "converged": "VAE trained until its ELBO stops improving",
    "bundled": "the bundled model, trained longer",
}
START, END = "<!-- table:mnist -->", "<!-- /table:mnist -->"


def command(*arguments: str) -> None:
    """Runs one ``vaebm`` command."""
    print("$ vaebm", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "vaebm", *arguments], check=True)


def measure(folder: Path, outliers: list[str]) -> dict[str, Any]:
    """Measures one run: the bundled judges and outliers, then the judge that was kept apart."""
    own, apart = folder / "evaluation_all.json", folder / "evaluation_apart.json"
    if not own.exists():
        command(
            "evaluate",
            str(folder),
            *[word for entry in outliers for word in ("--outliers", entry)],
            "--output",
            str(own),
        )
    if not apart.exists():
        command("evaluate", str(folder), "--judges", str(ROOT / "judges"), "--output", str(apart))
    evaluation: dict[str, Any] = json.loads(own.read_text())
    evaluation["quality"] += json.loads(apart.read_text())["quality"]
    evaluation["steps_curve"] += json.loads(apart.read_text())["steps_curve"]
    provenance = json.loads((folder / "provenance.json").read_text())
    names = ("commit", "seed", "threads", "seconds", "versions", "hardware")
    return {"evaluation": evaluation, "provenance": {name: provenance.get(name) for name in names}}


def run(runs: Path, outliers: list[str], only: list[str]) -> None:
    """Trains and measures what is missing."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in only or list(RUNS):
        folder = runs / name
        if not (folder / "report.html").exists():
            if (folder / "config.yaml").exists():
                command("train", "--resume", str(folder))
            else:
                command("train", "mnist", "--output", str(folder), *RUNS[name])
        command_line = ["vaebm", "train", "mnist", *RUNS[name]]
        results[name] = {"command": command_line, **measure(folder, outliers)}
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def _spread(values: list[float], digits: int = 2) -> str:
    mean = statistics.mean(values)
    return f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"


QUALITY = (
    "model", "judge", "floor", "VAE", "VAEBM", "closed, %", "kernel × 1000: VAE", "VAEBM", "precision", "recall",
    "density", "coverage", "class shares",
)  # fmt: skip


def _quality(results: dict[str, Any]) -> list[str]:
    lines = [f"| {' | '.join(QUALITY)} |", "|---" * len(QUALITY) + "|"]
    for kind, title in KINDS.items():
        chosen = [entry["evaluation"]["quality"] for name, entry in results.items() if name.startswith(kind)]
        for judge in dict.fromkeys(row["judge"] for row in (chosen[0] if chosen else [])):
            rows = [row for quality in chosen for row in quality if row["judge"] == judge]
            count = f"{len(chosen)} seed{'s' * (len(chosen) > 1)}"
            lines.append(f"| {title} ({count}) | {judge} | {' | '.join(_cells(rows))} |")
    return lines


def _cells(rows: list[dict[str, Any]]) -> list[str]:
    def show(what: str, key: str, factor: float = 1, digits: int = 2) -> str:
        return _spread([factor * row[key] for row in rows if row["what"] == what], digits)

    shares = [share for row in rows if row["what"] == "VAEBM" for share in row["shares"]]
    return [
        *(show(what, "frechet") for what in ("floor", "VAE", "VAEBM")),
        show("VAEBM", "closed", 100, 1),
        *(show(what, "kernel", 1000) for what in ("VAE", "VAEBM")),
        *(show("VAEBM", key) for key in ("precision", "recall", "density", "coverage")),
        f"{min(shares):.3f}–{max(shares):.3f}",
    ]


def _outliers(results: dict[str, Any]) -> list[str]:
    chosen = [entry["evaluation"]["outliers"] for name, entry in results.items() if name.startswith("sampled")]
    lines = ["| outliers (AUROC, MNIST test images as normal) | energy | ELBO | joint |", "|---|---|---|---|"]
    for name in dict.fromkeys(row["set"] for row in chosen[0]):
        cells = []
        for score in ("energy", "elbo", "joint"):
            rows = [
                row["auroc"] for outliers in chosen for row in outliers if (row["set"], row["score"]) == (name, score)
            ]
            low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
            cells.append(f"{_spread([row['value'] for row in rows], 3)} [{low:.3f}, {high:.3f}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _steps(results: dict[str, Any]) -> list[str]:
    curves = [entry["evaluation"]["steps_curve"] for name, entry in results.items() if name.startswith("sampled")]
    rows = [row for curve in curves for row in curve]
    steps = list(dict.fromkeys(row["num_steps"] for row in rows))
    lines = [
        f"| Fréchet distance after … Langevin steps | {' | '.join(map(str, steps))} |",
        "|---" * (len(steps) + 1) + "|",
    ]
    for judge in dict.fromkeys(row["judge"] for row in rows):
        own = [row for row in rows if row["judge"] == judge]
        cells = [_spread([row["frechet"] for row in own if row["num_steps"] == step]) for step in steps]
        lines.append(f"| {judge} | {' | '.join(cells)} |")
    return lines


def _p_values(results: dict[str, Any]) -> list[str]:
    chosen = [entry["evaluation"]["p_values"] for name, entry in results.items() if name.startswith("sampled")]
    lines = ["| level α | test images with p ≤ α, % |", "|---|---|"]
    for level in (row["level"] for row in chosen[0]):
        measured = [100 * row["measured"] for rows in chosen for row in rows if row["level"] == level]
        lines.append(f"| {level} | {_spread(measured)} |")
    return lines


def _time(provenance: dict[str, Any]) -> str:
    threads = provenance["threads"]
    return f"{sum(provenance['seconds'].values()) / 60:.1f} minutes ({threads} thread{'s' * (threads > 1)})"


def table() -> None:
    """Writes the tables between the markers of README.md."""
    results = json.loads(RESULTS.read_text())
    results["bundled"] = json.loads((ROOT / "results" / "bundled_mnist.json").read_text())
    first = next(entry for name, entry in results.items() if name.startswith("sampled"))
    count, steps = first["evaluation"]["n"], first["evaluation"]["num_steps"]
    times = "; ".join(f"{name} {_time(entry['provenance'])}" for name, entry in results.items())
    text = [
        f"{count:,} samples of {steps} Langevin steps against the 10,000 test images. Fréchet distances on features of "
        "digit classifiers, mean ± standard deviation over seeds. `closed` is the share of the way from the VAE to the "
        "floor (as many training images). Curve, outliers and p-values are those of the recipe's seeds. Wall times, "
        f"some beside other work on the same two cores: {times}.",
        "", *_quality(results), "", *_steps(results), "", *_outliers(results), "", *_p_values(results), "",
        "Made by `python benchmarks/mnist.py run` and `python benchmarks/mnist.py table` from "
        "[benchmarks/results/mnist.json](benchmarks/results/mnist.json).",
    ]  # fmt: skip
    readme = README.read_text()
    before, rest = readme.split(START)
    _, after = rest.split(END)
    README.write_text(f"{before}{START}\n" + "\n".join(text) + f"\n{END}{after}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--runs", type=Path, default=Path("runs/mnist"), help="where run folders lie")
    parser.add_argument("--outliers", action="append", default=[], metavar="NAME=PATH", help="further outlier sets")
    parser.add_argument("--only", action="append", default=[], choices=list(RUNS), help="only these runs")
    options = parser.parse_args()
    if options.what == "run":
        run(options.runs, options.outliers, options.only)
    else:
        table()


if __name__ == "__main__":
    main()
