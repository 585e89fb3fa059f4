r"""How good samples are after few steps: Langevin chains as in training, with longer steps, and with momentum.

    python benchmarks/short_chains.py run mnist --judges benchmarks/judges -n 5000
    python benchmarks/short_chains.py run cifar10-small --source cifar10.npz -n 500
    python benchmarks/short_chains.py run runs/stacked_mnist-quick -n 500
    python benchmarks/short_chains.py run runs/mnist-few --train mnist --config benchmarks/few.yaml \
        --judges benchmarks/judges -n 5000
    python benchmarks/short_chains.py table docs/evidence.md

No training, unless ``--train`` names the recipe of a run that isn't there yet: the chains of a finished model run with
its own step size times 0.5, 1, 2 or 3, and keep 0, 0.3, 0.5 or 0.7 of their momentum from step to step. On the
selection split that pair is chosen, by the model's first judge, whose samples after 15 steps are nearest, and that step
size among chains without momentum. On the test images these two and the model's own chains are measured after 0 to 200
steps, all from the same noise, by its last judge, which takes no part in the choice where there are two: by the Fréchet
distance, or by the kernel distance where images are fewer than features. The floor is the mean of the distances of
ten draws of as many training images. Written to ``benchmarks/results/short_chains.json``.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from endings import ended
from few_steps import NUM_STEPS, Few
from forked import train_run
from tables import put_table
from vaebm.applications import snapshots, start_noise
from vaebm.checkpoint import read_json, write_json
from vaebm.cli.benchmark import measuring_judges
from vaebm.cli.candidates import distance_of
from vaebm.cli.choosing import Measure, selection_measure
from vaebm.cli.known_images import config_of, load_splits_of
from vaebm.cli.parsing import UsageError
from vaebm.data import ImageSet, to_float
from vaebm.distributed import Engine, hardware_facts, make_engine
from vaebm.models import VAEBM
from vaebm.recipes import read_model
from vaebm.recipes.config import SamplingConfig

RESULTS = Path(__file__).parent / "results" / "short_chains.json"
STEPS, SEED = (0, 1, 2, 4, 8, 15, 30, 60, 120, 200), 2023
NUM_FLOORS = 10
WITHOUT = "without momentum"
TITLES = {"frechet": "Fréchet", "kernel": "kernel"}
FACTORS, PERSISTENCES = (0.5, 1, 2, 3), (0.0, 0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Chains:
    """A model, and how its chains run: device, precision, start noise and all."""

    model: VAEBM
    engine: Engine

    def distances(
        self, sampling: SamplingConfig, steps: Sequence[int], measure: Measure, seed: int
    ) -> dict[int, float]:
        """Returns the distance of samples after each number of steps; infinite, if some aren't finite."""
        generator = torch.Generator().manual_seed(seed)
        noise = start_noise(self.model, measure.num_samples, generator)
        with self.engine.autocast():
            looks = snapshots(self.model, noise.to(self.engine.device), steps, kernel=sampling.kernel,
                              generator=generator)  # fmt: skip
        return {look.step: distance_of(measure, look.images.cpu()) for look in looks}


def choose(chains: Chains, own: SamplingConfig, measure: Measure, few: int) -> list[dict[str, Any]]:
    """Measures all pairs of step size and momentum after few steps, on the selection split."""
    tried = []
    for factor, persistence in itertools.product(FACTORS, PERSISTENCES):
        sampling = SamplingConfig(few, own.step_size * factor, persistence)
        distance = chains.distances(sampling, (few,), measure, SEED + 1)[few]
        print(f"selection split, {few} steps of {sampling.step_size:g}, momentum {persistence:g}: {distance:.4g}",
              flush=True)  # fmt: skip
        tried.append({"step_size": sampling.step_size, "persistence": persistence, "distance": distance})
    return tried


def run(options: argparse.Namespace) -> None:
    """Measures a model's chains, and keeps what was found under its name."""
    model, source, count, steps = options.which, options.source, options.num_samples, options.steps
    loaded = read_model(model)
    config = config_of(loaded)
    splits = load_splits_of(config, loaded.details, source)
    judges = measuring_judges(options.judges, config.data.source, splits.training.shape, print)
    few = max((step for step in steps if step <= NUM_STEPS), default=0)
    if not judges or not few:
        raise UsageError(f"expected a judge of {config.data.source}, and a number of steps up to {NUM_STEPS}")
    engine = make_engine(config.precision)
    loaded.model.to(engine.device)
    chains, own = Chains(loaded.model, engine), SamplingConfig(**loaded.model.sampling)
    selecting = selection_measure(judges[0], splits, count, torch.Generator().manual_seed(SEED))
    tried = choose(chains, own, selecting, few)
    plain = min((one for one in tried if one["persistence"] == 0), key=lambda one: float(one["distance"]))
    nearest = min(tried, key=lambda one: float(one["distance"]))
    kinds = {"as trained": own, WITHOUT: _sampling(plain), "chosen": _sampling(nearest)}
    testing = selection_measure(judges[-1], splits._replace(selection=splits.test), count,
                                torch.Generator().manual_seed(SEED))  # fmt: skip
    # What was chosen may be what the model has.
    pairs = list(dict.fromkeys((sampling.step_size, sampling.persistence) for sampling in kinds.values()))
    row_of = {kind: pairs.index((sampling.step_size, sampling.persistence)) for kind, sampling in kinds.items()}
    rows: list[dict[str, Any]] = []
    for kind, sampling in kinds.items():
        if row_of[kind] == len(rows):
            curve = chains.distances(sampling, steps, testing, SEED)
            print(f"test images, {kind}: {curve}", flush=True)
            rows.append({"chains": kind, **asdict(sampling), "curve": curve})
    name = Path(model).name
    entry = {
        "command": ["short_chains.py", *options.told],
        "trained": {"seed": config.seed, "initial_vae": Path(config.initial_vae).name, "energy": asdict(config.energy)},
        "judge": judges[-1].name, "measure": testing.name, "num_samples": testing.num_samples, "seed": SEED, "few": few,
        "floors": floors_of(testing, splits.training), "tried": tried,
        "rows": rows, "row_of": row_of, "precision": engine.precision, "hardware": hardware_facts(),
    }  # fmt: skip
    known = read_json(options.results) if options.results.exists() else {}
    write_json(options.results, {**known, name: entry})


def floors_of(measure: Measure, training: ImageSet) -> list[float]:
    """Returns the distances of draws of as many training images: on MNIST they scatter by a factor of three."""
    count = measure.num_samples
    firsts = range(0, len(training) - count + 1, count)[:NUM_FLOORS]
    return [round(measure.distance(to_float(training.images[first : first + count])), 5) for first in firsts]


def _sampling(one: dict[str, Any]) -> SamplingConfig:
    return SamplingConfig(NUM_STEPS, one["step_size"], one["persistence"])


def table(results: Path, document: Path) -> None:
    """Writes the table into a document."""
    lines = []
    for name, entry in read_json(results).items():
        steps = list(entry["rows"][0]["curve"])
        best = min(value for row in entry["rows"] for value in row["curve"].values())
        few, floors = str(entry["few"]), entry["floors"]
        lines += [
            "",
            f"{name}, {TITLES[entry['measure']]} distance by {entry['judge']}, {entry['num_samples']:,} samples:",
            "",
            f"| chains, after steps | {' | '.join(steps)} | {few} over the best of all (above the floor of "
            f"{fmean(floors):.3g}, {min(floors):.3g} to {max(floors):.3g}) |",
            "|---" * (len(steps) + 2) + "|",
        ]
        for row in entry["rows"]:
            kept = f", {row['persistence']:g} of the momentum kept" if row["persistence"] else ""
            cells = " | ".join(f"{value:.3g}" for value in row["curve"].values())
            told = Few(row["curve"][few], best, fmean(floors), math.inf).told
            lines.append(f"| {row['chains']}: {row['step_size']:g}{kept} | {cells} | {told} |")
    put_table(document, "short-chains", lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("which", help="a model, or a document")
    parser.add_argument("-n", "--num-samples", type=int, default=1000)
    parser.add_argument(
        "--steps", type=int, nargs="+", default=list(STEPS), help="after which the test images are seen"
    )
    parser.add_argument("--source", help="where the model's images are now")
    parser.add_argument(
        "--judges", type=Path, metavar="FOLDER", help="further judges, that choose nothing; the last measures"
    )
    parser.add_argument("--train", metavar="RECIPE", help="that which is the model's run, if it isn't there yet")
    parser.add_argument("--config", metavar="FILE", help="what changes that recipe")
    parser.add_argument("--seed", default="0", metavar="N", help="the seed of that run")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    # Folders are other ones where someone else repeats it.
    options.told = [Path(word).name if "/" in word else word for word in arguments or sys.argv[1:]]
    if options.what == "table":
        table(options.results, Path(options.which))
    else:
        if options.train:
            changes = ["--config", options.config] if options.config else []
            train_run(Path(options.which), [options.train, *changes, "--seed", options.seed])
        run(options)


if __name__ == "__main__":
    sys.exit(ended(main))
