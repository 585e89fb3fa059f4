"""How many of the 1,000 modes of StackedMNIST samples reach, and how evenly.

    python benchmarks/modes.py run runs/stacked_mnist-quick --train stacked_mnist-quick
    python benchmarks/modes.py table docs/evidence.md

``run`` trains a recipe, or goes on with its run, where one is named; then it is ``vaebm evaluate MODEL --modes 26000``,
26,000 samples, as published tables have, of the VAE and of the VAEBM from the same noise, and test images beside them,
counted by each bundled classifier, with the divergence from equal shares in nats. Of a run it keeps what that has
measured in the end, too. ``table`` writes the modes beside published figures. Results:
``benchmarks/results/modes.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from endings import ended
from forked import run_vaebm, train_run
from tables import put_table
from vaebm.checkpoint import read_json, write_json
from vaebm.recipes import read_model

RESULTS = Path(__file__).parent / "results" / "modes.json"
# As R3GAN's paper lists them.
PUBLISHED = {"WGAN-GP": (959, 0.73), "VAEBM": (1000, 0.087), "DDGAN": (1000, 0.071), "R3GAN": (1000, 0.029)}


def told_of_run(folder: Path) -> dict[str, Any]:
    """Returns the sample quality that a run has measured in the end, and its seconds; nothing of a model."""
    if not (folder / "evaluation.json").exists():
        return {}
    rows = read_json(folder / "evaluation.json")["quality"]
    quality = [{name: value for name, value in row.items() if name != "shares"} for row in rows]
    return {"quality": quality, "seconds": read_json(folder / "provenance.json")["seconds"]}


def run(model: str, count: int, results: Path, source: str | None) -> None:
    """Counts the modes of a model, and keeps what was found under its name."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "modes.json"
        words = ["evaluate", model, "--modes", str(count), *(["--source", source] if source else [])]
        print("$ vaebm", *words, flush=True)
        run_vaebm([*words, "--output", str(told)])
        found: dict[str, Any] = read_json(told)
    # Of a thousand classes none is shown; of few they stand in the report.
    rows = [{name: value for name, value in row.items() if name != "shares"} for row in found["modes"]]
    known = read_json(results) if results.exists() else {}
    sampling = read_model(model).model.sampling
    entry = {
        "command": ["vaebm", "evaluate", Path(model).name, "--modes", str(count)],
        "data": Path(found["data"]).stem,
        "sampling": sampling,
        "rows": rows,
        **told_of_run(Path(model)),
    }
    write_json(results, {**known, Path(model).name: entry})


def told(row: dict[str, Any]) -> str:
    """Returns the divergence of a row, with its interval if that was measured."""
    ends = row.get("kl_interval")
    return f"{row['kl']:.3f}" + (f" [{ends['low']:.3f}, {ends['high']:.3f}]" if ends else "")


def table(results: Path, document: Path) -> None:
    """Writes the tables into a document."""
    lines = ["| model | judge | images | number | modes | KL | by chance alone |", "|---" * 7 + "|"]
    for name, entry in json.loads(results.read_text()).items():
        lines += [
            f"| {name} | {row['judge']} | {row['what']} | {row['n']:,} | {row['num_modes']:,} of "
            f"{row['num_classes']:,} | {told(row)} | {row['kl_by_chance']:.3f} |"
            for row in entry["rows"]
        ]
    lines += [f"| theirs | theirs | {name}, published | 26,000 | {modes:,} of 1,000 | {kl:.3f} | 0.019 |"
              for name, (modes, kl) in PUBLISHED.items()]  # fmt: skip
    put_table(document, "modes", lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("which", help="a model, or a document")
    parser.add_argument("--train", metavar="RECIPE", help="that which is the model's run, if it isn't there yet")
    parser.add_argument("--count", type=int, default=26_000, help="samples")
    parser.add_argument("--source", help="where the model's images are now")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.what == "table":
        table(options.results, Path(options.which))
    else:
        if options.train:
            train_run(Path(options.which), [options.train])
        run(options.which, options.count, options.results, options.source)


if __name__ == "__main__":
    sys.exit(ended(main))
