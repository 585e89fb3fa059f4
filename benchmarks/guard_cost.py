"""What the guard and checkpoints cost: an iteration of stage 2 with and without the guard, and a checkpoint's writing.

    python benchmarks/guard_cost.py run
    python benchmarks/guard_cost.py table docs/guard.md

Stage 2 of a recipe runs as ``fit`` and as ``guarded_fit`` do, in turns of as many iterations as lie between two
snapshots, by a guard that sees and keeps everything and finds nothing. Told are medians over turns, and of the quotient
of neighbours. Written to ``benchmarks/results/guard_cost.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from endings import ended
from tables import put_table
from vaebm.checkpoint import RunFolder, write_json
from vaebm.data import Batches, load_splits, to_float
from vaebm.distributed import hardware_facts, keep_freed_memory, make_engine
from vaebm.models import VAEBM
from vaebm.recipes import RECIPES, build_model
from vaebm.training import GuardSettings, energy_step, fit, guarded_fit, start_energy

RESULTS = Path(__file__).parent / "results" / "guard_cost.json"
FIRST = 128
# It sees everything and finds nothing.
WATCHFUL = GuardSettings(largest_separation=1e9, least_acceptance=0.0, largest_overshoot=1e9, largest_noise_norm=1e9)


def measure(name: str, repeats: int, turn: int) -> dict[str, Any]:
    """Times iterations of stage 2 with and without the guard, and the writing of a checkpoint."""
    config = RECIPES[name]()
    splits = load_splits(config.data.source)
    images, settings = torch.from_numpy(splits.training.images), replace(config.energy, num_iterations=10**6)
    watchful = replace(WATCHFUL, snapshot_every=turn)
    running: dict[str, Iterator[Any]] = {}
    for form in ("without", "with"):
        torch.manual_seed(0)
        model = build_model(config, splits.training.shape)
        batches = Batches(images, settings.batch_size, torch.Generator().manual_seed(1))
        state = start_energy(model, settings, to_float(images[:FIRST]), torch.Generator().manual_seed(2))
        make_step = partial(_energy_step, model)
        if form == "with":
            running[form] = guarded_fit(model, settings, make_step, state, batches, watchful)
        else:
            running[form] = fit(make_step(settings), state, batches, settings.num_iterations)
    times = defaultdict[str, list[float]](list)
    for _ in range(repeats + 1):
        for form, iterations in running.items():
            began = time.perf_counter()
            for _ in range(turn):
                last = next(iterations)
            times[form].append((time.perf_counter() - began) / turn)
    # The first turn warms up.
    seconds = {form: statistics.median(values[1:]) for form, values in times.items()}
    ratio = statistics.median(one / other for one, other in zip(times["with"][1:], times["without"][1:], strict=True))
    stored = {"model": model.state_dict(), "state": last.state.state_dict(), "guard": last.memory.state_dict()}
    with tempfile.TemporaryDirectory() as folder:
        place, written = RunFolder(Path(folder)), []
        for _ in range(repeats):
            began = time.perf_counter()
            place.save_checkpoint("last", stored)
            written.append(time.perf_counter() - began)
    checkpoint = statistics.median(written)
    row = {"turn": turn, "repeats": repeats, "seconds": seconds, "ratio": ratio, "checkpoint_seconds": checkpoint,
           "checkpoint_every": config.checkpoint_every,
           "checkpoint_share": checkpoint / (config.checkpoint_every * seconds["without"])}  # fmt: skip
    print(name, row, flush=True)
    return row


def _energy_step(model: VAEBM, settings: Any) -> Callable[[Any, Tensor], Any]:
    return energy_step(model, settings, make_engine("auto", "cpu"))


def table(results: Path, document: Path) -> None:
    """Writes the table of the guard's cost into a document."""
    lines = ["| recipe | iteration without the guard, ms | with it over without | a checkpoint, ms | every so many "
             "iterations | its share |", "|---" * 6 + "|"]  # fmt: skip
    for name, row in json.loads(results.read_text())["recipes"].items():
        lines.append(f"| `{name}` | {1000 * row['seconds']['without']:.1f} | {row['ratio']:.3f} "
                     f"| {1000 * row['checkpoint_seconds']:.0f} | {row['checkpoint_every']} "
                     f"| {row['checkpoint_share']:.2%} |")  # fmt: skip
    put_table(document, "guard-cost", lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("document", type=Path, nargs="?", help="whose table is filled")
    parser.add_argument("--recipes", nargs="+", choices=("digits", "mnist"), default=["digits", "mnist"])
    parser.add_argument("--repeats", type=int, default=9, help="turns of each")
    parser.add_argument("--turn", type=int, default=WATCHFUL.snapshot_every, help="iterations of a turn")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.what == "table":
        table(options.results, options.document)
        return
    # As in training.
    keep_freed_memory()
    found = {name: measure(name, options.repeats, options.turn) for name in options.recipes}
    hardware = {**hardware_facts(torch.device("cpu")), "threads": torch.get_num_threads()}
    write_json(options.results, {"recipes": found, "hardware": hardware})


if __name__ == "__main__":
    sys.exit(ended(main))
