"""Runs that are killed at random moments end as ones that never were, to the bit.

    python benchmarks/kills.py --kills 40
    python benchmarks/kills.py --table docs/guard.md

Kinds of runs, each short, with a checkpoint after every second or tenth iteration and a guard that is easily alarmed:
8×8 digits; the same with Metropolis, jumps and a replay buffer in a file; an NVAE; points of the plane. A command runs
again and again: each time the process gets SIGKILL and the run goes on with ``--resume``, until it ends; then another
one begins, until there were enough kills. Every second kill comes at a random time; the others wait from a random time
on for the next checkpoint, and come while it is being written. Told are how many kills fell into which phase and into
the writing of a checkpoint (its temporary file was there), and how many runs were lost or ended with other weights or
other recorded figures. Written to ``benchmarks/results/kills.json``.
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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

from endings import ended
from forked import Program
from tables import put_table
from vaebm.checkpoint import CheckpointError, RunFolder
from vaebm.distributed import hardware_facts

RESULTS = Path(__file__).parent / "results" / "kills.json"
SHORT = {
    "vae.num_iterations": "100", "energy.num_iterations": "60", "energy.num_steps": "3", "sampling.num_steps": "5",
    "selection.num_candidates": "2", "selection.num_samples": "50", "evaluation.num_samples": "50",
    "evaluation.steps_curve": "[0]", "evaluation.num_posterior_samples": "1", "report_every": "1",
    "checkpoint_every": "2", "guard.window": "5", "guard.snapshot_every": "5", "guard.largest_noise_norm": "1.04",
    "guard.num_attempts": "5",
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "digits": ("digits", SHORT),
    "Metropolis, jumps, buffer in a file": ("digits", {
        **SHORT, "energy.kernel": "mala", "energy.jump_probability": "0.2", "energy.buffer_on_disk": "true",
        "energy.buffer_dtype": "float16"}),
    "NVAE": ("cifar10-small", {
        **SHORT, "data.source": "digits", "data.image_size": "[16, 16]", "data.channels": "1",
        "vae.num_iterations": "16", "energy.num_iterations": "16", "vae.batch_size": "8", "energy.batch_size": "4",
        "energy.num_steps": "2", "energy.buffer_size": "16", "evaluation.num_test": "60",
        "vae_network.encoder_width": "8", "vae_network.decoder_width": "8", "selection.num_steps": "[2]",
        "selection.vae_every": "8", "sampling.num_steps": "2", "guard.largest_separation": "10",
        "guard.largest_overshoot": "10"}),
    "25 Gaussians": ("gaussians", {
        "vae.num_iterations": "1500", "energy.num_iterations": "300", "energy.num_prior_samples": "256",
        "energy.batch_size": "128", "evaluation.num_samples": "200", "evaluation.num_draws": "1000",
        "evaluation.temperatures": "[2]", "evaluation.num_annealed": "20", "report_every": "20",
        "evaluation.grid_size": "200", "checkpoint_every": "10"}),
}  # fmt: skip
SHARES = {"digits": 2, "Metropolis, jumps, buffer in a file": 1, "NVAE": 1, "25 Gaussians": 1}
ADDED = ("kills", "in_a_checkpoint", "runs", "lost", "differing")
COMPARED = ("model/model.safetensors", "metrics.jsonl", "evaluation.json")


def kill_after(words: list[str], seconds: float, writes: Path | None, errors: Path, forks: bool) -> int | None:
    """Runs a command and kills it after a time; returns its exit code, None if it was killed.

    Arguments:
        words: What follows ``vaebm``.
        seconds: When it is killed.
        writes: A folder: after that time the kill waits until a file is being written there.
        errors: A file for what it writes to standard error.
        forks: Whether it is forked from a process that has imported torch.
    """
    with errors.open("w") as said:
        process = (
            Program(["vaebm", *words], errors)
            if forks
            else subprocess.Popen([sys.executable, "-m", "vaebm", *words], stdout=subprocess.DEVNULL, stderr=said)
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            while writes is not None and process.poll() is None and not list(writes.glob(".*.tmp")):
                time.sleep(0.0005)
            if process.poll() is None:
                process.kill()
                process.wait()
                return None
        code = process.wait()
    if code not in (0, 3):
        print(errors.read_text(), flush=True)
    return code


def phase(folder: Path) -> str:
    """Returns how far a killed run had come by what it left."""
    if not (folder / "config.yaml").exists():
        return "before it began"
    try:
        stored = RunFolder(folder).load_checkpoint("last")
    except CheckpointError:
        return "damaged"
    return "before its first checkpoint" if stored is None else f"stage {stored['stage']}"


def measure(kind: str, num_kills: int, seed: int, folder: Path, forks: bool, further: Sequence[str]) -> dict[str, Any]:
    """Kills and compares runs of a kind, which have further options besides its own."""
    chance = random.Random(seed)
    recipe, settings = KINDS[kind]
    options = [*(word for name, value in settings.items() for word in (f"--{name}", value)), *further]
    errors = folder / "errors"
    # The imports that forked processes share take part in no run.
    kill_after(["--version"], 3600, None, errors, forks)
    began = time.monotonic()
    whole = ["train", recipe, "--output", str(folder / "whole"), *options]
    code = kill_after(whole, 36_000, None, errors, forks)
    if code not in (0, 3):
        raise SystemExit(f"{kind}: the run that nothing kills ended with exit code {code}, its reason stands above")
    longest = time.monotonic() - began
    phases: Counter[str] = Counter()
    in_checkpoint = num_runs = num_lost = num_differing = 0
    while sum(phases.values()) < num_kills:
        part, ended = folder / f"part-{num_runs}", None
        num_runs += 1
        while ended is None:
            words = (
                ["--resume", str(part)]
                if (part / "config.yaml").exists()
                else [recipe, "--output", str(part), *options]
            )
            done = sum(phases.values())
            patience = 3600 if done >= num_kills else chance.uniform(0, longest)
            writes = part / "checkpoints" if done % 2 else None
            ended = kill_after(["train", *words], patience, writes, errors, forks)
            if ended is None:
                phases[phase(part)] += 1
                in_checkpoint += bool(list((part / "checkpoints").glob(".*.tmp")))
        num_lost += ended != code
        num_differing += any((part / name).read_bytes() != (folder / "whole" / name).read_bytes() for name in COMPARED)
        print(f"{kind}: {num_runs} runs, {sum(phases.values())} kills: {dict(phases)}", flush=True)
    guard = json.loads((folder / "whole" / "evaluation.json").read_text())["guard"]
    return {"kind": kind, "kills": sum(phases.values()), "phases": dict(phases), "in_a_checkpoint": in_checkpoint,
            "runs": num_runs, "lost": num_lost, "differing": num_differing,
            "acts_of_the_guard": len(guard["acts"])}  # fmt: skip


def measure_at_once(
    kinds: Sequence[str], num_kills: int, seed: int, jobs: int, folder: Path, forks: bool, further: Sequence[str]
) -> dict[str, Any]:
    """Shares the kills out to the kinds of runs, so many of them at a time, and adds up what they found."""
    whole = sum(SHARES[kind] for kind in kinds)
    shares = [max(1, round(num_kills * SHARES[kind] / whole)) for kind in kinds]
    places = [folder / str(number) for number in range(len(kinds))]
    for place in places:
        place.mkdir()
    with ThreadPoolExecutor(jobs) as pool:
        parts = list(
            pool.map(measure, kinds, shares, range(seed, seed + len(kinds)), places, repeat(forks), repeat(further))
        )
    found: dict[str, Any] = {name: sum(part[name] for part in parts) for name in ADDED}
    words = ["python", "benchmarks/kills.py", "--kills", str(num_kills)]
    words += ["--kinds", *kinds] if len(kinds) < len(KINDS) else []
    words += ["--jobs", str(jobs)] if jobs > 1 else []
    words += ["--forked"] if forks else []
    words += ["--", *further] if further else []
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, capture_output=True,
                            text=True, check=False).stdout.strip()  # fmt: skip
    return {**found, "kinds": parts, "seed": seed, "command": words, "commit": commit, "hardware": hardware_facts()}


def table(results: Path, document: Path) -> None:
    """Writes the table into a document."""
    columns = ("runs of", "kills", "where the run stood", "while a checkpoint was written", "runs", "acts of the guard",
               "lost", "differing")  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for found in json.loads(results.read_text())["kinds"]:
        phases = ", ".join(f"{count} {name}" for name, count in sorted(found["phases"].items()))
        values = (found["kind"], found["kills"], phases, found["in_a_checkpoint"], found["runs"],
                  found["acts_of_the_guard"], found["lost"], found["differing"])  # fmt: skip
        lines.append(f"| {' | '.join(map(str, values))} |")
    put_table(document, "kills", lines)


def main() -> None:
    """Runs the command line; exit code 1 if a run was lost or differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="kinds at a time")
    parser.add_argument("--forked", action="store_true", help="fork the runs from one process: sooner, see forked.py")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", type=Path, help="only fill the table of this document")
    # Behind -- stand options of every run.
    words = sys.argv[1:]
    here = words.index("--") if "--" in words else len(words)
    chosen, further = parser.parse_args(words[:here]), words[here + 1 :]
    if chosen.table is not None:
        table(chosen.results, chosen.table)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        found = measure_at_once(
            chosen.kinds, chosen.kills, chosen.seed, chosen.jobs, Path(folder), chosen.forked, further
        )
    chosen.results.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    sys.exit(bool(found["lost"] or found["differing"]))


if __name__ == "__main__":
    sys.exit(ended(main))
