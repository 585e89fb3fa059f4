"""How stage 2 fares under stress, without and with its guard: 24 cells of settings, two seeds each.

    python benchmarks/stress.py run digits
    python benchmarks/stress.py run mnist
    python benchmarks/stress.py run gaussians
    python benchmarks/stress.py seeds digits --count 20
    python benchmarks/stress.py longer digits --count 5
    python benchmarks/stress.py table docs/guard.md

A cell is the recipe with its learning rate times 1, 10 or 30, 2 or 15 steps, with its regularisers or without any, and
its step size of training times 1 or 4. Each run is a ``vaebm train`` that it prints; those of a seed share their VAE.
``digits`` is the recipe; ``mnist`` a small energy network for the bundled VAE in 400 iterations at a learning rate of
4e-3 (the recipe has 4,000 at 7e-4), from which its cells are counted; ``gaussians`` the plane with chains instead of
the importance-sampled objective.

A run *closes* the share 1 − (d − floor)/(d of the VAE − floor) of the Fréchet distance d by the first judge, on the
plane 1 − gap/(gap of the VAE) of the log-likelihood. It holds if it closes at least half of what the default settings
close, *flat* if its energy network changes nothing (below a tenth), and *given up* if the guard says so. Told too are
the recorded iterations whose loss isn't finite, and when each of the guard's signals would have raised an alarm alone,
by the mean of two neighbouring records: an ablation. ``seeds`` runs the default settings alone, ``longer`` those and a
stage 2 that is ten times as long on the same VAE. Results go to ``benchmarks/results/stress.json`` as they come; a run
whose entry stands there, of the same command, isn't made again, even if its folder is gone.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import math
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from endings import ended
from forked import run_vaebm
from tables import put_table

RESULTS = Path(__file__).parent / "results" / "stress.json"
RATES, STEPS, REGULARISED, SIZES, LONGER = (1, 10, 30), (2, 15), (True, False), (1, 4), 10
CELLS = tuple(itertools.product(RATES, STEPS, REGULARISED, SIZES))
ONLY_QUALITY = ["--evaluation.steps_curve", "[]", "--evaluation.num_posterior_samples", "1"]
DATA: dict[str, dict[str, Any]] = {
    "digits": {"rate": 1e-3, "size": 0.1, "num_iterations": 500, "further": ONLY_QUALITY},
    "mnist": {"rate": 4e-3, "size": 0.1, "vae": "mnist", "further": [
        "--energy_network.widths", "[16,32]", "--energy.num_iterations", "400", "--energy.batch_size", "32",
        "--energy.learning_rate", "4e-3", "--sampling.num_steps", "20", "--evaluation.num_samples", "500",
        "--selection.num_samples", "300", "--evaluation.num_test", "300", "--sample_every", "400", *ONLY_QUALITY]},
    "gaussians": {"rate": 3e-3, "size": 0.02, "further": [
        "--energy.objective", "contrastive", "--energy.num_iterations", "800", "--energy.batch_size", "256",
        "--evaluation.num_samples", "1000", "--evaluation.num_draws", "10000", "--evaluation.temperatures", "[2]"]},
}  # fmt: skip
ALARMS: dict[str, Callable[[dict[str, float]], bool]] = {
    "acceptance < 0.45 and separation < -0.1": lambda row: row["would_accept"] < 0.45 and row["separation"] < -0.1,
    "acceptance < 0.45": lambda row: row["would_accept"] < 0.45,
    "separation < -0.1": lambda row: row["separation"] < -0.1,
    "separation < -1": lambda row: row["separation"] < -1,
    "separation > 0.5": lambda row: row["separation"] > 0.5,
    "noise norm > 2": lambda row: row["noise_norm"] > 2,
    "gap < -5": lambda row: row["gap"] < -5,
    "gap < -50": lambda row: row["gap"] < -50,
    "chain gradient > 2/step size": lambda row: row["chain_grad_norm"] > 2 / row["step_size"],
}
GAIN = "density gain < -0.1"
WRITING = Lock()
PLAIN = {"energy.spectral": "0", "energy.centring": "0", "energy.l2": "0"}


def arguments(data: str, seed: int, cell: tuple[int, int, bool, int] | None, guarded: bool) -> list[str]:
    """Returns the words of a run; of the default settings without a cell."""
    known = DATA[data]
    words = ["train", data, "--seed", str(seed), *known["further"], "--guard.rolls_back", str(guarded).lower()]
    if "vae" in known:
        words += ["--initial_vae", known["vae"]]
    if cell is None:
        return words
    rate, steps, regularised, size = cell
    words += ["--energy.learning_rate", f"{known['rate'] * rate:g}", "--energy.num_steps", str(steps),
              "--energy.step_size", f"{known['size'] * size:g}"]  # fmt: skip
    plain = {name: value for name, value in PLAIN.items() if data != "gaussians" or name != "energy.spectral"}
    return words if regularised else [*words, *(word for pair in plain.items() for word in (f"--{pair[0]}", pair[1]))]


def run(runs: Path, name: str, words: list[str]) -> dict[str, Any]:
    """Makes a run, if it isn't there, and returns its entry."""
    folder = runs / name
    code = folder / "code"
    if not code.exists():
        # What an interrupted benchmark left is no run that broke off.
        shutil.rmtree(folder, ignore_errors=True)
        print("$ vaebm", *words, flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        said = folder.with_suffix(".said")
        ended = run_vaebm([*words, "--output", str(folder)], said, check=False)
        folder.mkdir(parents=True, exist_ok=True)
        said.replace(folder / "said.txt")
        code.write_text(str(ended))
    if not (folder / "metrics.jsonl").exists():
        raise SystemExit(f"{name} didn't begin: {(folder / 'said.txt').read_text().strip()}")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["stage"] == "energy"]
    provenance = json.loads((folder / "provenance.json").read_text())
    entry: dict[str, Any] = {
        "command": command(runs, words),
        "exit_code": int(code.read_text()),
        # Undone ones are told of, and leave no trace in the weights.
        "num_not_finite": sum(not math.isfinite(float(row["loss"])) for row in rows if not row.get("is_undone")),
        "largest_gap": max((abs(float(row["gap"])) for row in rows if "gap" in row), default=None),
        "last": {
            name: rows[-1].get(name) if rows else None for name in ("gap", "separation", "would_accept", "noise_norm")
        },
        "seconds": provenance.get("seconds", {}).get("energy"),
        "commit": provenance["commit"],
    }
    size = words[words.index("--energy.step_size") + 1] if "--energy.step_size" in words else DATA[words[1]]["size"]
    entry["alarms"] = alarms(rows, float(size))
    entry["acts"] = [line for line in (folder / "log.txt").read_text().splitlines() if "; back to " in line]
    if (folder / "evaluation.json").exists():
        entry["closed"] = closed(json.loads((folder / "evaluation.json").read_text()))
    if entry["exit_code"] != 0:
        entry["said"] = (folder / "said.txt").read_text().strip().splitlines()[-1]
    return entry


def command(runs: Path, words: list[str]) -> list[str]:
    """Returns the command of a run as it is shown: folders of this machine say nothing to others."""
    return ["vaebm", *(Path(word).name if word.startswith(str(runs)) else word for word in words)]


def alarms(rows: list[dict[str, Any]], step_size: float) -> dict[str, int | None]:
    """Returns at which iteration each signal would have raised its first alarm, by the means of two records.

    Signals that a run doesn't have are left out: MALA's chains don't tell what Langevin's moves would have had.
    """
    found: dict[str, int | None] = {}
    gains = [(row["iteration"], float(row["density_gain"])) for row in rows if "density_gain" in row]
    if gains:
        # Only the plane has it, and measures it now and then.
        found[GAIN] = next((iteration for iteration, gain in gains if gain < -0.1), None)
    needed = ("would_accept", "separation", "noise_norm", "gap", "chain_grad_norm")
    for before, row in itertools.pairwise(rows):
        means = {name: (float(row.get(name, "nan")) + float(before.get(name, "nan"))) / 2 for name in needed}
        known = {name: value for name, value in means.items() if math.isfinite(value)} | {"step_size": step_size}
        for name, is_raised in ALARMS.items():
            with suppress(KeyError):
                is_alarm = is_raised(known)
                if found.setdefault(name, None) is None and is_alarm:
                    found[name] = row["iteration"]
    return found


def closed(evaluation: dict[str, Any]) -> float | None:
    """Returns how much of the VAE's distance a model closes."""
    if "rows" in evaluation:
        gaps = {row["what"]: float(row["gap"]) for row in evaluation["rows"] if "gap" in row}
        return 1 - gaps["VAEBM"] / gaps["VAE"]
    distances = {row["what"]: row.get("frechet") for row in reversed(evaluation["quality"])}
    floor, start, end = (distances[what] for what in ("floor", "VAE", "VAEBM"))
    return None if None in (floor, start, end) else 1 - (end - floor) / (start - floor)


class Entries:
    """The runs of one table: those that the results hold, and those that are made now.

    Arguments:
        results: The file of results.
        table: Under which name they stand there.
        runs: The folder of the runs.
        further: Words of every run.
    """

    def __init__(self, results: Path, table: str, runs: Path, further: Sequence[str] = ()) -> None:
        self.results, self.table, self.runs, self.further = results, table, runs, list(further)
        self.found: dict[str, Any] = _read(results).get(table, {})
        runs.mkdir(parents=True, exist_ok=True)

    def has(self, key: str, words: list[str]) -> bool:
        """Returns whether the results hold a run of this command."""
        made: bool = self.found.get(key, {}).get("command") == command(self.runs, words)
        return made

    def make(self, key: str, words: list[str], told: dict[str, Any]) -> None:
        """Makes a run, and stores its entry, which says besides what is told."""
        entry = {**told, **run(self.runs, key, words)}
        # Another process may write another table, or other runs of this one, at the same time.
        with WRITING, _alone(self.results):
            known = _read(self.results)
            self.found = {**known.get(self.table, {}), key: entry}
            replacement = self.results.with_suffix(".tmp")
            replacement.write_text(json.dumps({**known, self.table: self.found}, indent=1) + "\n")
            replacement.replace(self.results)


@contextmanager
def _alone(results: Path) -> Iterator[None]:
    """Waits until no other process writes into the folder of a file of results, and keeps others waiting."""
    folder = os.open(results.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _read(results: Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    return known


def stress(entries: Entries, data: str, seeds: Sequence[int], cells: Sequence[Any], jobs: int) -> None:
    """Runs all cells of a data set, besides the default settings."""
    work: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for seed, (rate, steps, regularised, size), guarded in itertools.product(seeds, cells, (True, False)):
        name = f"rate{rate}-steps{steps}-{'regularised' if regularised else 'plain'}-size{size}"
        cell = rate, steps, regularised, size
        words = [*arguments(data, seed, cell, guarded), *initial_vae(entries, data, seed), *entries.further]
        told = {"cell": name, "seed": seed, "guarded": guarded}
        work[f"{name}-{'guarded' if guarded else 'alone'}-{seed}"] = words, told
    after_defaults(entries, data, seeds, jobs, work)


def longer(entries: Entries, data: str, seeds: Sequence[int], jobs: int) -> None:
    """Runs the default settings, and a stage 2 that is ten times as long on the same VAE."""
    told = [word for name, word in itertools.pairwise([*DATA[data]["further"], *entries.further])
            if name == "--energy.num_iterations"]  # fmt: skip
    many = ["--energy.num_iterations", str(LONGER * int(told[-1] if told else DATA[data]["num_iterations"]))]
    work = {
        f"longer-guarded-{seed}": (
            [*arguments(data, seed, None, True), *initial_vae(entries, data, seed), *entries.further, *many],
            {"cell": "longer", "seed": seed, "guarded": True},
        )
        for seed in seeds
    }
    after_defaults(entries, data, seeds, jobs, work)


def initial_vae(entries: Entries, data: str, seed: int) -> list[str]:
    """Returns the words by which the runs of a seed share the VAE of the default settings."""
    return ["--initial_vae", str(entries.runs / f"default-guarded-{seed}")] if data == "digits" else []


def after_defaults(
    entries: Entries, data: str, seeds: Sequence[int], jobs: int, work: dict[str, tuple[list[str], dict[str, Any]]]
) -> None:
    """Makes the runs of the default settings, then those that the results don't hold yet."""
    work = {key: (words, told) for key, (words, told) in work.items() if not entries.has(key, words)}
    begun = {told["seed"] for _, told in work.values()} if data == "digits" else set()

    def default(seed: int) -> None:
        key, words = f"default-guarded-{seed}", [*arguments(data, seed, None, True), *entries.further]
        if seed in begun or not entries.has(key, words):
            entries.make(key, words, {"cell": "default", "seed": seed, "guarded": True})

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(default, seeds))
        list(pool.map(lambda item: entries.make(item[0], *item[1]), work.items()))


def longer_table(known: dict[str, Any]) -> list[str]:
    """Returns a table of what training ten times longer comes to."""
    lines = [
        "| data | seeds | closed by the recipe | by ten times as many iterations | difference, of each seed | acts |",
        "|---" * 6 + "|",
    ]
    for name, entries in known.items():
        if not name.endswith(" longer"):
            continue
        pairs = [(entries[key.replace("longer-", "default-")], entry) for key, entry in entries.items()
                 if entry["cell"] == "longer"]  # fmt: skip
        means = [statistics.mean(pair[place]["closed"] for pair in pairs) for place in (0, 1)]
        differences = ", ".join(f"{after['closed'] - before['closed']:+.3f}" for before, after in pairs)
        acts = sum(len(after["acts"]) for _, after in pairs)
        lines.append(f"| {name.removesuffix(' longer')} | {len(pairs)} | {means[0]:.3f} | {means[1]:.3f} "
                     f"| {differences} | {acts} |")  # fmt: skip
    return lines


def condition(entry: dict[str, Any], default: float) -> str:
    """Returns in a word how a run ended."""
    share = entry.get("closed")
    if entry["exit_code"] == 3:
        return "given up"
    if entry["exit_code"] != 0 or share is None or not math.isfinite(share):
        return "broken off"
    return "holds" if share >= default / 2 else "flat" if abs(share) < 0.1 else "worse"


def default_share(entries: dict[str, Any]) -> float:
    """Returns what the default settings close, the mean of their runs."""
    return float(statistics.mean(entry["closed"] for entry in entries.values() if entry["cell"] == "default"))


def table(results: Path, document: Path) -> None:
    """Writes the tables into a document."""
    known = json.loads(results.read_text())
    lines = ["| data | guard | runs | hold | worse | flat | given up | broken off | not finite | least share closed |",
             "|---" * 10 + "|"]  # fmt: skip
    for data, entries in known.items():
        if data not in DATA:
            continue
        default = default_share(entries)
        for guarded in (False, True):
            group = [entry for entry in entries.values() if entry["guarded"] is guarded and entry["cell"] != "default"]
            ends = [condition(entry, default) for entry in group]
            counts = [str(ends.count(name)) for name in ("holds", "worse", "flat", "given up", "broken off")]
            kept = [entry["closed"] for entry, end in zip(group, ends, strict=True)
                    if end != "given up" and entry.get("closed") is not None]  # fmt: skip
            lost = sum(entry["num_not_finite"] > 0 for entry in group)
            lines.append(f"| {data} (default closes {default:.2f}) | {'on' if guarded else 'off'} | {len(group)} "
                         f"| {' | '.join(counts)} | {lost} | {min(kept, default=math.nan):.2f} |")  # fmt: skip
    put_table(document, "stress", lines)
    put_table(document, "ablation", ablation(known))
    put_table(document, "seeds", seeds_table(known))
    put_table(document, "longer", longer_table(known))


def seeds_table(known: dict[str, Any]) -> list[str]:
    """Returns a table of the default settings over many seeds."""
    lines = ["| data | seeds | healthy, without an act | share closed |", "|---" * 4 + "|"]
    for name, entries in known.items():
        if name.endswith(" seeds"):
            healthy = sum(entry["exit_code"] == 0 and not entry["acts"] for entry in entries.values())
            closing = [entry["closed"] for entry in entries.values()]
            told = f"{min(closing):.2f} to {max(closing):.2f}"
            lines.append(f"| {name.removesuffix(' seeds')} | {len(entries)} | {healthy} | {told} |")
    return lines


def ablation(known: dict[str, Any]) -> list[str]:
    """Returns a table of what each signal would have told of the runs without the guard."""
    lines = ["| data | signal | alarms in runs that don't hold | iteration, median | alarms in runs that hold |",
             "|---" * 5 + "|"]  # fmt: skip
    for data, entries in known.items():
        if data not in DATA:
            continue
        default = default_share(entries)
        alone = [entry for entry in entries.values() if not entry["guarded"]]
        groups = {name: [entry["alarms"] for entry in alone if (condition(entry, default) == "holds") is holds]
                  for name, holds in (("bad", False), ("good", True))}  # fmt: skip
        for signal in (*ALARMS, GAIN):
            if not any(signal in one for group in groups.values() for one in group):
                continue
            raised = {name: [one[signal] for one in group if one.get(signal) is not None]
                      for name, group in groups.items()}  # fmt: skip
            when = f"{statistics.median(raised['bad']):.0f}" if raised["bad"] else ""
            counts = [f"{len(raised[name])} of {len(groups[name])}" for name in ("bad", "good")]
            lines.append(f"| {data} | {signal} | {counts[0]} | {when} | {counts[1]} |")
    return lines


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    for what in ("run", "seeds", "longer"):
        part = commands.add_parser(what)
        part.add_argument("data", choices=sorted(DATA))
        part.add_argument("--runs", type=Path, default=Path("runs/stress"))
        part.add_argument("--results", type=Path, default=RESULTS)
        part.add_argument("--jobs", type=int, default=1, help="runs at a time")
        part.add_argument("--count", type=int, default=2, help="seeds")
        part.add_argument("--cells", type=int, default=len(CELLS), help="so many of the cells")
    part = commands.add_parser("table")
    part.add_argument("document", type=Path)
    part.add_argument("--results", type=Path, default=RESULTS)
    # Behind -- stand options of every run.
    words = sys.argv[1:]
    here = words.index("--") if "--" in words else len(words)
    chosen, further = parser.parse_args(words[:here]), words[here + 1 :]
    if chosen.what == "table":
        table(chosen.results, chosen.document)
        return
    tables = {"run": chosen.data, "seeds": f"{chosen.data} seeds", "longer": f"{chosen.data} longer"}
    entries = Entries(chosen.results, tables[chosen.what], chosen.runs / chosen.data, further)
    if chosen.what == "longer":
        longer(entries, chosen.data, range(chosen.count), chosen.jobs)
        return
    cells = CELLS[:: max(1, len(CELLS) // chosen.cells)] if chosen.what == "run" else ()
    stress(entries, chosen.data, range(chosen.count), cells, chosen.jobs)


if __name__ == "__main__":
    sys.exit(ended(main))
