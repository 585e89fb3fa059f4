"""FID, KID and IS as the field computes them, by torchmetrics, on what extractors at hand see.

    python benchmarks/standard_scores.py run mnist --fid classifiers -n 10000
    python benchmarks/standard_scores.py run cifar10-small --fid efficientnet_lite0 -n 2000 --source cifar10.npz
    python benchmarks/standard_scores.py table docs/evidence.md

``run`` is ``vaebm evaluate MODEL --fid EXTRACTOR``: samples of the VAE and of the VAEBM, and as many training images in
their place, against the test images. What was found is kept in ``benchmarks/results/standard_scores.json`` by model and
extractor; the same measured anew takes its place. ``table`` writes all of it into a document.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from endings import ended
from forked import run_vaebm
from tables import put_table
from vaebm.checkpoint import read_json, write_json

RESULTS = Path(__file__).parent / "results" / "standard_scores.json"


def run(model: str, extractor: str, count: int, results: Path, source: str | None) -> None:
    """Measures a model by an extractor, and keeps what was found."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        words = ["evaluate", model, "--fid", extractor, "-n", str(count), *(["--source", source] if source else [])]
        print("$ vaebm", *words, flush=True)
        run_vaebm([*words, "--output", str(found)])
        evaluation = read_json(found)
    known = read_json(results) if results.exists() else {}
    entry = {"model": Path(model).name, "extractor": extractor.partition("=")[0], "sampling": evaluation["sampling"],
             "rows": evaluation["standard"]}  # fmt: skip
    write_json(results, {**known, f"{entry['model']} {entry['extractor']}": entry})


def table(results: Path, document: Path) -> None:
    """Writes the table into a document."""
    lines = [
        "| model | extractor | images | n, test images | FID [95 %] | KID × 1000 [95 %] | IS [95 %] |",
        "|---" * 7 + "|",
    ]
    for entry in read_json(results).values():
        lines += [
            f"| {entry['model']} | {row['extractor']} {row['extractor_sha256'][:8]} | {row['what']} | {row['n']:,}, "
            f"{row['num_reference']:,} | {_figure(row['fid'], '.4g')} | {_figure(row['kid'], ',.1f', 1000)} "
            f"| {_figure(row['inception_score'], '.3f')} |"
            for row in entry["rows"]
        ]
    put_table(document, "standard", lines)


def _figure(figure: Mapping[str, Any] | None, form: str, factor: float = 1.0) -> str:
    """Returns a figure with its interval, times a factor."""
    if figure is None:
        return "knows no classes"
    value, low, high = (None if figure[name] is None else f"{factor * figure[name]:{form}}"
                        for name in ("value", "low", "high"))  # fmt: skip
    return f"{value}" if low is None else f"{value} [{low}, {high}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("which", help="a model, or a document")
    parser.add_argument("--fid", metavar="EXTRACTOR", default="classifiers", help="as vaebm evaluate has it")
    parser.add_argument("-n", "--num-samples", type=int, default=10_000)
    parser.add_argument("--source", help="where the model's images are now")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.what == "table":
        table(options.results, Path(options.which))
    else:
        run(options.which, options.fid, options.num_samples, options.results, options.source)


if __name__ == "__main__":
    sys.exit(ended(main))
