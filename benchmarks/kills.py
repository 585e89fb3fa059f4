"""A run that is killed at random moments ends as one that never was, to the bit.

    python benchmarks/kills.py --kills 40
    python benchmarks/kills.py --table docs/guard.md

Trains 8×8 digits for a short time, with a checkpoint after every second iteration and a guard that is easily alarmed,
so that some kills fall into the writing of a checkpoint or a return of the guard. The same command then runs again and
again: each time the process gets SIGKILL after a random time and the run goes on with ``--resume``, until it ends; then
another one begins, until there were enough kills. Told are how many kills fell into which phase, into a
write (a temporary file was left), and how many runs were lost or ended with other weights or other recorded figures.
Written to ``benchmarks/results/kills.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tables import put_table
from vaebm.checkpoint import CheckpointError, RunFolder
from vaebm.distributed import hardware_facts

RESULTS = Path(__file__).parent / "results" / "kills.json"
SETTINGS = {
    "vae.num_iterations": "40", "energy.num_iterations": "60", "energy.num_steps": "3", "sampling.num_steps": "5",
    "selection.num_candidates": "2", "selection.num_samples": "50", "evaluation.num_samples": "50",
    "evaluation.steps_curve": "[0]", "evaluation.num_posterior_samples": "1", "report_every": "1",
    "checkpoint_every": "2", "guard.window": "5", "guard.snapshot_every": "5", "guard.largest_noise_norm": "1.04",
    "guard.num_attempts": "5",
}  # fmt: skip
ADDED = ("kills", "in_a_write", "runs", "lost", "differing")
COMPARED = ("model/model.safetensors", "metrics.jsonl", "evaluation.json")


def command(*words: str) -> list[str]:
    """Returns a command line of vaebm."""
    return [sys.executable, "-m", "vaebm", "train", *words]


def kill_after(words: list[str], seconds: float) -> int | None:
    """Runs a command and kills it after a time; returns its exit code, None if it was killed."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    if process.returncode not in (0, 3):
        print(errors, flush=True)
    return process.returncode


def phase(folder: Path) -> str:
    """Returns how far a killed run had come by what it left."""
    if not (folder / "config.yaml").exists():
        return "before it began"
    try:
        stored = RunFolder(folder).load_checkpoint("last")
    except CheckpointError:
        return "damaged"
    return "before its first checkpoint" if stored is None else f"stage {stored['stage']}"


def measure(num_kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kills and compares."""
    chance = random.Random(seed)
    options = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    began = time.monotonic()
    code = subprocess.run(command("digits", "--output", str(folder / "whole"), *options), stdout=subprocess.DEVNULL,
                          check=False).returncode  # fmt: skip
    longest = time.monotonic() - began
    phases: Counter[str] = Counter()
    in_write = num_runs = num_lost = num_differing = 0
    while sum(phases.values()) < num_kills:
        part, ended = folder / f"part-{num_runs}", None
        num_runs += 1
        while ended is None:
            words = (
                ["--resume", str(part)]
                if (part / "config.yaml").exists()
                else ["digits", "--output", str(part), *options]
            )
            enough = sum(phases.values()) >= num_kills
            ended = kill_after(command(*words), 3600 if enough else chance.uniform(0, longest))
            if ended is None:
                phases[phase(part)] += 1
                in_write += bool(list(part.glob("**/.*.tmp")))
        num_lost += ended != code
        num_differing += any((part / name).read_bytes() != (folder / "whole" / name).read_bytes() for name in COMPARED)
        print(f"{num_runs} runs, {sum(phases.values())} kills: {dict(phases)}", flush=True)
    guard = json.loads((folder / "whole" / "evaluation.json").read_text())["guard"]
    return {"kills": sum(phases.values()), "phases": dict(phases), "in_a_write": in_write, "runs": num_runs,
            "lost": num_lost, "differing": num_differing, "acts_of_the_guard": len(guard["acts"])}  # fmt: skip


def measure_at_once(num_kills: int, seed: int, jobs: int, folder: Path) -> dict[str, Any]:
    """Shares the kills out to several runs at a time, each with a seed of its own, and adds up what they found."""
    shares = [len(range(job, num_kills, jobs)) for job in range(jobs)]
    places = [folder / str(job) for job in range(jobs)]
    for place in places:
        place.mkdir()
    with ThreadPoolExecutor(jobs) as pool:
        parts = list(pool.map(measure, shares, range(seed, seed + jobs), places))
    found: dict[str, Any] = {name: sum(part[name] for part in parts) for name in ADDED}
    found["phases"] = dict(sum((Counter(part["phases"]) for part in parts), Counter()))
    found["acts_of_the_guard"] = parts[0]["acts_of_the_guard"]
    words = ["python", "benchmarks/kills.py", "--kills", str(num_kills), *(["--jobs", str(jobs)] if jobs > 1 else [])]
    return {**found, "seed": seed, "command": words, "hardware": hardware_facts()}


def table(results: Path, document: Path) -> None:
    """Writes the table into a document."""
    found = json.loads(results.read_text())
    phases = ", ".join(f"{count} {name}" for name, count in sorted(found["phases"].items()))
    columns = (
        "kills",
        "where the run stood",
        "in a write",
        "runs",
        "acts of the guard in each",
        "lost",
        "differing",
    )
    values = (found["kills"], phases, found["in_a_write"], found["runs"], found["acts_of_the_guard"], found["lost"],
              found["differing"])  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", f"| {' | '.join(map(str, values))} |"]
    put_table(document, "kills", lines)


def main() -> None:
    """Runs the command line; exit code 1 if a run was lost or differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", type=Path, help="only fill the table of this document")
    chosen = parser.parse_args()
    if chosen.table is not None:
        table(chosen.results, chosen.table)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        found = measure_at_once(chosen.kills, chosen.seed, chosen.jobs, Path(folder))
    chosen.results.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    sys.exit(bool(found["lost"] or found["differing"]))


if __name__ == "__main__":
    main()
