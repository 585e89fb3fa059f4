"""What a second process brings, and what the recipes ask of memory and time.

    python benchmarks/scaling.py run                    # some minutes on an idle machine of two cores
    python benchmarks/scaling.py table docs/scaling.md

``run`` trains the size of ``cifar10-small`` for a few iterations with one process and with two, each of one thread, the
same global batch, float32, in turns; and draws samples. The efficiency is the time of one process over twice that of
two. A third turn are two programs side by side, each with half of the batch, that know nothing of each other: no two
processes of this machine can be faster than these, and the share of the ideal is their time over that of two that
work together. For each of the paper's recipes ``table`` adds what ``vaebm train RECIPE --dry-run`` estimates, and hours
at an assumed speed. Written to ``benchmarks/results/scaling.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from endings import ended
from forked import output_of
from tables import put_table
from vaebm.applications import snapshots, start_noise
from vaebm.distributed import Engine, hardware_facts, keep_freed_memory, make_engine
from vaebm.recipes import RECIPES, Config, NVAEConfig, build_model
from vaebm.recipes.estimates import estimate
from vaebm.sampling import Langevin
from vaebm.training import energy_step, start_energy, start_vae, vae_step

RESULTS = Path(__file__).parent / "results" / "scaling.json"
SHAPE = (3, 32, 32)
PAPERS = {
    "cifar10": (3, 32, 32),
    "celeba64": (3, 64, 64),
    "lsun_church64": (3, 64, 64),
    "celebahq256": (3, 256, 256),
    "stacked_mnist": (3, 32, 32),
}
SMALL = {"cifar10-small": (3, 32, 32), "stacked_mnist-small": (3, 32, 32)}
SUSTAINED, SUSTAINED_CPU = 50e12, 0.2e12
GIB = 2**30


def configuration(is_tiny: bool, num_parts: int) -> Config:
    """Returns that of ``cifar10-small``, or of less, with so much of its batches and ten steps."""
    recipe = RECIPES["cifar10-small"]()
    if is_tiny:
        assert isinstance(recipe, NVAEConfig)
        network = replace(recipe.vae_network, groups=(1, 1), encoder_width=4, decoder_width=4)
        recipe = replace(recipe, vae_network=network, vae=replace(recipe.vae, batch_size=8),
                         energy=replace(recipe.energy, batch_size=8))  # fmt: skip
    recipe = replace(recipe, vae=replace(recipe.vae, batch_size=recipe.vae.batch_size // num_parts))
    second_stage = replace(recipe.energy, batch_size=recipe.energy.batch_size // num_parts)
    return replace(recipe, energy=replace(second_stage, num_steps=10, buffer_size=200))


def works(engine: Engine, num_samples: int, is_tiny: bool, num_parts: int = 1) -> dict[str, Callable[[], Any]]:
    """Returns one iteration of each stage, and the drawing of samples; of a part of the batch alone."""
    config = configuration(is_tiny, num_parts)
    torch.manual_seed(0)
    model = build_model(config, SHAPE)
    images = torch.rand(128, *SHAPE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    lone = build_model(config, SHAPE).vae
    apart = replace(config.vae, shared_batch_norm=False)
    first, its_own = vae_step(model.vae, config.vae, engine), vae_step(lone, apart, engine)
    state = start_vae(model.vae, config.vae, torch.Generator().manual_seed(2))
    lone_state = start_vae(lone, apart, torch.Generator().manual_seed(2))
    other = build_model(config, SHAPE)
    begun = start_energy(other, config.energy, images, torch.Generator().manual_seed(3))
    second = energy_step(other, config.energy, engine)
    held: dict[str, Any] = {"vae": state, "lone": lone_state, "energy": begun}

    def vae() -> None:
        held["vae"] = first(held["vae"], images[: config.vae.batch_size]).state

    def vae_apart() -> None:
        held["lone"] = its_own(held["lone"], images[: config.vae.batch_size]).state

    def energy() -> None:
        held["energy"] = second(held["energy"], images[: config.energy.batch_size]).state

    def sample() -> None:
        drawn = torch.Generator().manual_seed(4)
        noise = start_noise(other, num_samples // num_parts, drawn)
        size = num_samples // 4
        snapshots(other, noise, (5,), kernel=Langevin(0.01), generator=drawn, batch_size=size, engine=engine)

    return {
        "stage 1, an iteration": vae,
        "stage 1, batch norms of each process": vae_apart,
        "stage 2, an iteration of ten steps": energy,
        "samples": sample,
    }


def measure(repeats: int, num_samples: int, is_tiny: bool, num_parts: int) -> None:
    """Prints the median seconds of each work; one of the launched processes does."""
    keep_freed_memory()
    engine = make_engine("fp32", "cpu")
    times: defaultdict[str, list[float]] = defaultdict(list)
    for name, work in works(engine, num_samples, is_tiny, num_parts).items():
        work()
        for _ in range(repeats):
            engine.wait()
            began = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - began)
    waits = time_of_sums(engine, 20 if is_tiny else 500)
    if engine.is_main:
        print(json.dumps({"waits": waits, **{name: statistics.median(values) for name, values in times.items()}}))
    engine.close()


def time_of_sums(engine: Engine, repeats: int) -> float:
    """Returns the seconds that a sum of 200 numbers over the processes takes, each after some milliseconds of work."""
    numbers, matrix = torch.zeros(200, dtype=torch.float64), torch.ones(500, 500)

    def seconds(is_shared: bool) -> float:
        engine.wait()
        began = time.perf_counter()
        for _ in range(repeats):
            matrix @ matrix
            if is_shared:
                engine.sum(numbers)
        return (time.perf_counter() - began) / repeats

    return seconds(True) - seconds(False)


def launched(options: Sequence[str]) -> str:
    """Returns what two processes print that a launcher has started."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__, "work"]
    return subprocess.run([*words, *options], check=True, stdout=subprocess.PIPE, text=True).stdout


def alone(options: Sequence[str]) -> str:
    """Returns what a process prints that knows of no other."""
    return output_of(["scaling.py", "work", *options])


def turn(programs: Sequence[Callable[[Sequence[str]], str]], options: Sequence[str]) -> list[dict[str, float]]:
    """Starts programs side by side, and returns what each has measured."""
    with ThreadPoolExecutor(len(programs)) as pool:
        shown = list(pool.map(lambda program: program(options), programs))
    return [json.loads(text.splitlines()[-1]) for text in shown]


def run(rounds: int, repeats: int, num_samples: int, is_tiny: bool) -> dict[str, Any]:
    """Measures one process, two, and two that know nothing of each other, in turns."""
    # Of all that is started here, with one thread each.
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    options = ["--repeats", str(repeats), "--num-samples", str(num_samples), *["--tiny"] * is_tiny]
    turns: dict[str, tuple[list[Callable[[Sequence[str]], str]], list[str]]] = {
        "one": ([alone], options),
        "two": ([launched], options),
        "apart": ([alone] * 2, [*options, "--parts", "2"]),
    }
    found: dict[str, defaultdict[str, list[float]]] = {way: defaultdict(list) for way in turns}
    for _ in range(rounds):
        for way, (programs, words) in turns.items():
            for measured in turn(programs, words):
                for name, seconds in measured.items():
                    found[way][name].append(seconds)
                print(way, measured, flush=True)
    rows = {}
    for name in found["one"]:
        row = {way: statistics.median(times[name]) for way, times in found.items()}
        rows[name] = row | {"efficiency": row["one"] / (2 * row["two"]), "of_the_ideal": row["apart"] / row["two"]}
    waits = rows.pop("waits")["two"]
    for name, row in rows.items():
        print(name, {key: round(value, 3) for key, value in row.items()}, flush=True)
    return {
        "rows": rows,
        "seconds_of_a_sum": waits,
        "rounds": rounds,
        "repeats": repeats,
        "torch": torch.__version__,
        "hardware": hardware_facts(torch.device("cpu")),
    }


def costs(recipes: Sequence[str]) -> list[str]:
    """Returns the table of what recipes ask for."""
    lines = [
        "| recipe | GiB of stage 1, of stage 2 | PFLOP of stage 1, of stage 2 | hours at the assumed speed |",
        "|---" * 4 + "|",
    ]
    for names, speed in ((PAPERS, SUSTAINED), (SMALL, SUSTAINED_CPU)):
        for name, shape in names.items():
            if name not in recipes:
                continue
            config = RECIPES[name]()
            needed = estimate(config, shape)
            first = needed.vae_flops * config.vae.num_iterations
            second = needed.energy_flops * config.energy.num_iterations
            lines.append(
                f"| `{name}` | {needed.vae_memory / GIB:.0f}, {needed.energy_memory / GIB:.0f} | "
                f"{first / 1e15:,.1f}, {second / 1e15:,.1f} | {first / speed / 3600:,.1f}, "
                f"{second / speed / 3600:,.1f} at {speed / 1e12:g} TFLOP/s |"
            )
    return lines


def table(results: Path, document: Path, recipes: Sequence[str]) -> None:
    """Writes the tables into a document."""
    found = json.loads(results.read_text())
    head = ("", "one process, s", "two, s", "efficiency", "two programs, half of the batch each, s", "of this ideal")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in found["rows"].items():
        times = f"{row['one']:.3f} | {row['two']:.3f} | {row['efficiency']:.2f} | {row['apart']:.3f}"
        lines.append(f"| {name} | {times} | {row['of_the_ideal']:.2f} |")
    lines += ["", f"A sum of 200 numbers over two busy processes: {found['seconds_of_a_sum'] * 1e3:.1f} ms."]
    put_table(document, "processes", lines)
    put_table(document, "recipe-costs", costs(recipes))


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "work", "table"), help="work is what run launches")
    parser.add_argument("document", type=Path, nargs="?", help="whose tables are filled")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--num-samples", type=int, default=200)
    parser.add_argument("--parts", type=int, default=1, help="of which work does one")
    parser.add_argument("--tiny", action="store_true", help="a network that shows nothing but that this runs")
    every = [*PAPERS, *SMALL]
    parser.add_argument("--recipes", nargs="+", choices=every, default=every, help="of the table of costs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.what == "table":
        table(options.results, options.document, options.recipes)
    elif options.what == "work":
        measure(options.repeats, options.num_samples, options.tiny, options.parts)
    elif options.tiny and options.results == RESULTS:
        parser.error("--tiny shows nothing: name another --results")
    else:
        found = run(options.rounds, options.repeats, options.num_samples, options.tiny)
        options.results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(ended(main))
