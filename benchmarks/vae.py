"""Which VAE is best in the recipe's minutes? Each kind gets about the same CPU time; judged on the selection split.

    OMP_NUM_THREADS=1 python benchmarks/vae.py          # twenty minutes; fills docs/training.md

The number of iterations is fitted to the time by a short trial, so the learning-rate schedule ends with it. Results
go to ``benchmarks/results/vae.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from endings import ended
from tables import put_table
from vaebm.applications import generate
from vaebm.cli.provenance import describe_origin
from vaebm.data import Batches, load_splits, to_float
from vaebm.distributed import make_engine
from vaebm.evaluation import frechet_to_reference, make_reference
from vaebm.models import VAEBM
from vaebm.recipes import build_model, load_judges
from vaebm.recipes.config import Config, VAENetworkConfig
from vaebm.recipes.mnist import mnist
from vaebm.training import fit, start_vae, vae_step

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "vae.json"
DOCS = ROOT.parent / "docs" / "training.md"
RECIPE = mnist().vae_network
KINDS: dict[str, VAENetworkConfig] = {
    "recipe": RECIPE,
    "without layer normalisation": replace(RECIPE, normalization="none"),
    "wider layers, 768 and 384": replace(RECIPE, widths=(768, 384)),
    "64 latents": replace(RECIPE, latent_groups=(64,)),
    "four groups of 8 latents": replace(RECIPE, latent_groups=(8, 8, 8, 8)),
    "convolutional, 32 and 64 channels": replace(RECIPE, body="convolutional", widths=(32, 64)),
    "one learned scale": replace(RECIPE, scale_kind="shared", scale=0.01),
    "fixed scale .1": replace(RECIPE, scale_kind="fixed", scale=0.1),
}
SEED, WARMUP, TRIAL, NUM_SAMPLES = 0, 20, 100, 5000


class Training(NamedTuple):
    """A model, and an iterator that trains its VAE by one iteration at a time."""

    model: VAEBM
    steps: Iterator[Any]


def begin(config: Config, images: Tensor, num_iterations: int) -> Training:
    """Returns a training of so many iterations."""
    torch.manual_seed(SEED)
    model, settings = build_model(config, images.shape[1:]), replace(config.vae, num_iterations=num_iterations)
    engine = make_engine("auto", "cpu")
    state = start_vae(model.vae, settings, torch.Generator().manual_seed(SEED + 1))
    batches = Batches(images, settings.batch_size, torch.Generator().manual_seed(SEED + 2))
    return Training(model, fit(vae_step(model.vae, settings, engine), state, batches, num_iterations))


def train(config: Config, images: Tensor, num_iterations: int) -> VAEBM:
    """Returns a model whose VAE is trained for so many iterations."""
    training = begin(config, images, num_iterations)
    for _ in training.steps:
        pass
    return training.model.eval().requires_grad_(False)


def seconds_of_a_step(config: Config, images: Tensor) -> float:
    """Returns the CPU time of an iteration, after some to warm up: what else runs on the machine hardly matters."""
    training = begin(config, images, WARMUP + TRIAL)
    for _ in islice(training.steps, WARMUP):
        pass
    began = time.process_time()
    for _ in training.steps:
        pass
    return (time.process_time() - began) / TRIAL


def elbo(model: VAEBM, images: Tensor) -> float:
    """Returns the mean ELBO in nats."""
    generator, size = torch.Generator().manual_seed(SEED + 3), model.noise_layout.latent_size
    with torch.no_grad():
        values = [
            model.vae.elbo_terms(batch, torch.randn(len(batch), size, generator=generator)).elbo
            for batch in torch.split(images, 500)
        ]
    return float(torch.cat(values).mean())


def reconstructions(model: VAEBM, images: Tensor) -> Tensor:
    """Returns the decoder's mean at posterior means."""
    with torch.no_grad():
        size = model.noise_layout.latent_size
        parts = [model.vae.elbo_terms(batch, torch.zeros(len(batch), size)) for batch in torch.split(images, 500)]
    return torch.cat([part.reconstruction for part in parts])


def measure(seconds: float, only: list[str], num_samples: int) -> dict[str, Any]:
    """Trains and measures every kind, or some."""
    splits = load_splits("mnist")
    images, held_out = torch.from_numpy(splits.training.images), to_float(splits.selection.images)
    judge = load_judges(splits.training.shape)[0]
    generator = torch.Generator().manual_seed(SEED + 4)
    reference = make_reference(
        judge, held_out, to_float(splits.training.images), num_samples=num_samples, generator=generator
    )
    rows = []
    for name in only or list(KINDS):
        network = KINDS[name]
        config = replace(mnist(), vae_network=network)
        num_iterations = round(seconds / seconds_of_a_step(config, images))
        began = time.process_time()
        model = train(config, images, num_iterations)
        taken = time.process_time() - began
        generator = torch.Generator().manual_seed(SEED + 5)
        samples = generate(model, num_samples, num_steps=0, step_size=0.1, generator=generator)
        rows.append(
            {
                "name": name,
                "network": asdict(network),
                "iterations": num_iterations,
                "seconds": round(taken, 1),
                "elbo": elbo(model, held_out),
                "frechet": frechet_to_reference(samples, reference),
                "frechet_reconstructions": frechet_to_reference(reconstructions(model, held_out), reference),
            }
        )
        print(rows[-1], flush=True)
    origin = describe_origin(SEED, [], make_engine("auto", "cpu"))
    told = {name: origin[name] for name in ("commit", "versions", "threads", "precision", "hardware")}
    return {"seed": SEED, "num_samples": num_samples, "judge": judge.name, "judge_sha256": judge.sha256, **told,
            "rows": rows}  # fmt: skip


def table(document: Path) -> None:
    """Writes the table into a document."""
    results = json.loads(RESULTS.read_text())
    lines = [
        "| VAE | iterations | CPU seconds | ELBO, nats | Fréchet: samples | Fréchet: reconstructions |",
        "|---" * 6 + "|",
    ]
    lines += [
        f"| {row['name']} | {row['iterations']:,} | {row['seconds']:.0f} | {row['elbo']:.1f} | {row['frechet']:.2f} | "
        f"{row['frechet_reconstructions']:.2f} |"
        for row in results["rows"]
    ]
    told = (
        f"Selection split, {results['num_samples']:,} samples, judge {results['judge']}, seed {results['seed']}, "
        f"{results['threads']} thread{'s' * (results['threads'] > 1)}. Made by `python benchmarks/vae.py` from "
        "[vae.json](../benchmarks/results/vae.json)."
    )
    put_table(document, "vae", [*lines, "", told])


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=100.0, help="CPU time of each kind")
    parser.add_argument("--only", action="append", default=[], choices=list(KINDS), help="only these kinds")
    parser.add_argument("--num-samples", type=int, default=NUM_SAMPLES, help="number of samples")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go; elsewhere, no table is made")
    parser.add_argument("--table", type=Path, metavar="FILE", help="only fill the tables of this document")
    options = parser.parse_args()
    if options.table:
        table(options.table)
        return
    options.results.write_text(json.dumps(measure(options.seconds, options.only, options.num_samples), indent=1) + "\n")
    if options.results == RESULTS:
        table(DOCS)


if __name__ == "__main__":
    sys.exit(ended(main))
