"""How often a normal image is flagged: the promise of p-values, held to fresh images.

    python benchmarks/false_alarms.py run --data mnist --data fashion.npz --data cifar10.npz --runs runs

For each set of images: ``vaebm train --data`` learns a model within a budget, ``vaebm score`` scores the test split,
which neither trained nor chose nor calibrated the model, and the shares of p-values of at most 1, 5 and 10 % are
counted. The results go to ``benchmarks/results/false_alarms.json`` and into the table of ``docs/scores.md``.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from endings import ended
from forked import run_vaebm
from tables import put_table
from vaebm.checkpoint import write_bytes
from vaebm.data import load_splits
from vaebm.recipes import Config, from_dict, read_model

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "false_alarms.json"
DOCS = ROOT.parent / "docs" / "scores.md"
LEVELS = (0.01, 0.05, 0.10)
ALLOWED = 0.015


def vaebm(*words: str) -> list[str]:
    """Runs a command line, and returns it."""
    print("$ vaebm", *words, flush=True)
    run_vaebm(words)
    return ["vaebm", *words]


def measure(source: str, runs: Path, budget: str, most: int, options: Sequence[str]) -> dict[str, Any]:
    """Trains on one set of images and counts false alarms on its test split."""
    name = Path(source).stem
    folder = runs / name
    commands = [vaebm("train", "--data", source, "--budget", budget, "--output", str(folder), *options)]
    loaded = read_model(folder)
    assert loaded.calibration is not None
    data = from_dict(Config, loaded.details["config"]).data
    fresh = load_splits(data.source, data.split_seed, data.preprocessing).test.images[:most]
    pictures, table = runs / f"{name}_fresh.npz", runs / f"{name}_fresh.csv"
    np.savez(pictures, images=fresh.transpose(0, 2, 3, 1))
    commands.append(vaebm("score", str(folder), str(pictures), "--output", str(table)))
    with table.open(encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    p_values = np.array([float(row["p_value"]) for row in rows])
    provenance = json.loads((folder / "provenance.json").read_text())
    return {
        "set": name,
        "shape": list(fresh.shape[1:]),
        "commands": commands,
        "num_fresh": len(fresh),
        "num_calibration": len(loaded.calibration["outlier_scores"]),
        "rates": [{"level": level, "measured": float((p_values <= level).mean())} for level in LEVELS],
        "decided": {
            "rate": loaded.calibration["false_positive_rate"],
            "measured": float(np.mean([row["outlier"] == "1" for row in rows])),
        },
        **{key: provenance[key] for key in ("seconds", "commit", "versions", "threads", "precision", "hardware")},
    }


def table(results: Path, document: Path) -> None:
    """Writes the table into a document."""
    rows = json.loads(results.read_text())
    lines = [
        "| images | calibration | fresh | flagged at 1 % | at 5 % | at 10 % | within 1.5 points |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        rates = " | ".join(f"{100 * entry['measured']:.2f} %" for entry in row["rates"])
        is_kept = all(abs(entry["measured"] - entry["level"]) <= ALLOWED for entry in row["rates"])
        shape = "×".join(str(side) for side in row["shape"])
        lines.append(
            f"| {row['set']}, {shape} | {row['num_calibration']:,} | {row['num_fresh']:,} | {rates} | "
            f"{'yes' if is_kept else 'no'} |"
        )
    put_table(document, "false_alarms", lines)


def run(options: argparse.Namespace) -> None:
    """Measures every set, and writes results; a set that is not measured anew keeps its row."""
    options.runs.mkdir(parents=True, exist_ok=True)
    known = json.loads(options.results.read_text()) if options.results.exists() else []
    rows = {row["set"]: row for row in known}
    for source in options.data:
        row = measure(source, options.runs, options.budget, options.num_fresh, options.options)
        # The folders of this machine tell nobody anything.
        text = json.dumps(row).replace(str(Path(source)), Path(source).name)
        rows[row["set"]] = json.loads(text.replace(str(options.runs), "runs"))
        write_bytes(options.results, (json.dumps(list(rows.values()), indent=1) + "\n").encode())
    if options.results == RESULTS:
        table(RESULTS, DOCS)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("run", help="train, score and count")
    runs.add_argument("--data", action="append", required=True, metavar="SOURCE", help="a set of images; repeat it")
    runs.add_argument("--runs", type=Path, required=True, metavar="FOLDER", help="where runs go")
    runs.add_argument("--budget", default="6m", help="of each (default 6m)")
    runs.add_argument("--num-fresh", type=int, default=10_000, help="at most so many fresh images (default 10000)")
    runs.add_argument("--results", type=Path, default=RESULTS, help="where results go; elsewhere, no table is made")
    runs.add_argument("options", nargs="*", help="further options of vaebm train, behind --")
    tables = verbs.add_parser("table", help="only fill the table of a document")
    tables.add_argument("--document", type=Path, default=DOCS)
    tables.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.verb == "table":
        table(options.results, options.document)
    else:
        run(options)


if __name__ == "__main__":
    sys.exit(ended(main))
