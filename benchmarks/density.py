"""MNIST: what can be known of the bundled model's density? Its normaliser, its chains, the masses of the classes.

    python benchmarks/density.py                 # ten minutes on one thread; fills docs/density.md

log Z is what ``vaebm likelihood`` prints. The masses of the classes: what share of images a judge counts to each class,
beside the shares of the test labels, for draws of the VAE, for chains with and without jumps, and under the weights of
importance sampling and of annealed chains. Results go to ``benchmarks/results/density.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from endings import ended
from forked import run_vaebm
from tables import put_table
from vaebm.applications import snapshots, start_noise
from vaebm.cli.provenance import describe_origin
from vaebm.data import load_splits, to_float
from vaebm.distributed import make_engine
from vaebm.evaluation import (
    FEWEST_STEPS,
    Judge,
    annealed_weights,
    diagnose_chains,
    extract,
    importance_weights,
    pilot_ladder,
)
from vaebm.metrics import class_shares, total_variation
from vaebm.models import VAEBM
from vaebm.nn import frozen
from vaebm.recipes import load_judges, read_model
from vaebm.sampling import Jump, Kernel, Langevin, Mixture, effective_sample_size, resized_ladder

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "density.json"
DOCS = ROOT.parent / "docs" / "density.md"
SEED, BATCH = 2023, 250
JUMPS = 0.2


class Draws(NamedTuple):
    """Images (N, C, H, W) in [−1, 1], and their log-weights (N,), or None if each counts the same."""

    images: Tensor
    log_weights: Tensor | None


def likelihood(options: argparse.Namespace) -> dict[str, Any]:
    """Returns what ``vaebm likelihood`` measures."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "likelihood.json"
        words = ["likelihood", options.model, "--num-draws", str(options.num_draws)]
        words += ["--num-chains", str(BATCH), "--temperatures", ",".join(map(str, options.temperatures))]
        print("$ vaebm", *words, flush=True)
        run_vaebm([*words, "--output", str(target)])
        figures: dict[str, Any] = json.loads(target.read_text())
    return {"command": ["vaebm", *words], **figures}


def images_of(model: VAEBM, noise: Tensor) -> Tensor:
    """Returns the output images of noise (N, D)."""
    field = model.image_fields.output_image
    with torch.no_grad():
        parts = [model.transport(part).pick(field).float().clamp(-1, 1) for part in torch.split(noise, BATCH)]
    return torch.cat(parts)


def chains(model: VAEBM, kernel: Kernel, steps: list[int], count: int) -> dict[int, Draws]:
    """Returns what chains from N(0, I) look like after numbers of steps."""
    generator = torch.Generator().manual_seed(SEED)
    noise = start_noise(model, count, generator)
    seen = snapshots(model, noise, steps, kernel=kernel, generator=generator, batch_size=BATCH)
    return {look.step: Draws(look.images, None) for look in seen}


def annealed(model: VAEBM, num_temperatures: int, count: int) -> Draws:
    """Returns where annealed chains end, with their weights."""
    generator = torch.Generator().manual_seed(SEED)
    ladder = resized_ladder(pilot_ladder(model, generator), num_temperatures)
    found = annealed_weights(model, count, ladder, generator)
    return Draws(images_of(model, found.noise), found.log_weights)


def masses(judge: Judge, draws: Draws, labels: Tensor) -> dict[str, Any]:
    """Returns the shares of the classes among images as a judge counts them, and how far they are from the labels'."""
    probabilities = extract(judge, draws.images).probabilities
    assert probabilities is not None
    classes, count = probabilities.argmax(1), probabilities.shape[1]
    log_weights = torch.zeros(len(classes), dtype=torch.float64) if draws.log_weights is None else draws.log_weights
    shares = torch.zeros(count, dtype=torch.float64).index_add(0, classes, torch.softmax(log_weights, 0))
    ess = effective_sample_size(log_weights)
    return {
        "judge": judge.name,
        "judge_sha256": judge.sha256,
        "shares": shares.tolist(),
        "total_variation": total_variation(shares, class_shares(labels, count)),
        "expected": expected_distance(labels, round(ess)),
        "ess": ess,
    }


def expected_distance(labels: Tensor, count: int, num_classes: int = 10) -> float:
    """Returns the mean distance of the shares of ``count`` independent draws of the labels' own distribution."""
    generator, shares = torch.Generator().manual_seed(SEED), class_shares(labels, num_classes)
    drawn = torch.multinomial(shares.expand(200, -1), count, replacement=True, generator=generator)
    return sum(total_variation(class_shares(row, num_classes), shares) for row in drawn) / len(drawn)


def every_kind(model: VAEBM, options: argparse.Namespace) -> dict[str, Draws]:
    """Returns draws of the VAE and of the VAEBM, by every way to have them."""
    size, generator = float(model.sampling["step_size"]), torch.Generator().manual_seed(SEED)
    weights = importance_weights(model, options.num_draws, generator, BATCH)
    # The same draws as behind the weights.
    noise = start_noise(model, options.num_draws, torch.Generator().manual_seed(SEED))
    images = images_of(model, noise)
    found = {"VAE": Draws(images[: options.num_samples], None), "VAE, weighted": Draws(images, weights)}
    mixed = Mixture((Langevin(size), Jump()), (1 - JUMPS, JUMPS))
    for title, kernel in (("Langevin", Langevin(size)), ("Langevin and jumps", mixed)):
        looks = chains(model, kernel, options.steps, options.num_samples)
        found |= {f"{title}, {step} steps": draws for step, draws in looks.items()}
    longest = max(options.temperatures)
    found[f"annealed, {longest} temperatures, weighted"] = annealed(model, longest, 4 * BATCH)
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measures a model of MNIST."""
    estimates = likelihood(options)
    model, splits = read_model(options.model).model, load_splits("mnist")
    labels = torch.from_numpy(splits.test.labels)
    engine, generator = make_engine("fp32", "cpu"), torch.Generator().manual_seed(SEED)
    # In float32: weights and acceptance steps don't forgive rounded energies.
    with frozen(model):
        kernel = Langevin(float(model.sampling["step_size"]))
        length = max(FEWEST_STEPS, int(model.sampling["num_steps"]))
        diagnosed = asdict(diagnose_chains(model, kernel, length, generator))
        every = {"test images": Draws(to_float(splits.test.images), None), **every_kind(model, options)}
    judges = load_judges(splits.training.shape)
    rows = [{"what": title, **masses(judge, draws, labels)} for title, draws in every.items() for judge in judges]
    origin = describe_origin(SEED, [], engine)
    told = {name: origin[name] for name in ("commit", "versions", "threads", "precision", "hardware")}
    return {
        "model": options.model, "seed": SEED, "num_samples": options.num_samples, "jump_probability": JUMPS, **told,
        "likelihood": estimates, "chains": diagnosed, "masses": rows, "label_shares": class_shares(labels, 10).tolist(),
    }  # fmt: skip


def _interval(interval: Mapping[str, float]) -> str:
    return f"{interval['value']:.1f} [{interval['low']:.1f}, {interval['high']:.1f}]"


def _normalizer(estimates: Mapping[str, Any]) -> list[str]:
    rows = [("draws of the VAE", estimates["importance"])]
    rows += [(f"{row['temperatures']} temperatures", row) for row in estimates["annealed"]]
    lines = ["| log Z by | log Ẑ | forward bound | ESS | weights |", "|---" * 5 + "|"]
    lines += [
        f"| {name} | {_interval(row['log_z'])} | {_interval(row['forward_bound'])} | {row['ess']:.1f} | "
        f"{row['num_weights']:,} |"
        for name, row in rows
    ]
    bound = max(row["forward_bound"]["value"] for _, row in rows)
    lines += ["", "| test images | ELBO | energy | gain over the VAE, at most |", "|---" * 4 + "|"]
    lines += [
        f"| {row['what']} | {row['elbo']:.1f} | {row['energy']:.2f} | {-row['energy'] - bound:.1f} |"
        for row in estimates["images"]
    ]
    return lines


def _masses(results: Mapping[str, Any]) -> list[str]:
    judges = list(dict.fromkeys(row["judge"] for row in results["masses"]))
    distances = " | ".join(f"distance, {judge}" for judge in judges)
    lines = [f"| images | {distances} | by chance alone | least and largest class | ESS |"]
    lines.append("|---" * (len(judges) + 4) + "|")
    for what in dict.fromkeys(row["what"] for row in results["masses"]):
        rows = [row for row in results["masses"] if row["what"] == what]
        shares = [share for row in rows for share in row["shares"]]
        cells = " | ".join(f"{row['total_variation']:.3f}" for row in rows)
        chance, least = f"{rows[0]['expected']:.3f}", f"{min(shares):.3f}–{max(shares):.3f}"
        lines.append(f"| {what} | {cells} | {chance} | {least} | {rows[0]['ess']:,.0f} |")
    return lines


def table(document: Path) -> None:
    """Writes the tables into a document."""
    results = json.loads(RESULTS.read_text())
    found = results["chains"]
    told = (
        f"Chains of the default length: split-R̂ {found['energy_rhat']:.2f} on the energy, {found['noise_rhat']:.2f} on "
        f"|noise|²/D; {100 * found['jump_acceptance']:.2g} % of independent jumps at their ends would be accepted; the "
        f"weights of {found['num_draws']:,} draws of the VAE are worth {found['importance_ess']:.1f}."
    )
    made = (
        "Distance: total variation between the shares of the classes, as a judge counts them, and those of the test "
        "labels; by chance alone: of as many independent draws of the labels as the weights are worth, "
        "on average. Least and largest class of either judge. Chains with jumps make one step in "
        f"{1 / results['jump_probability']:.0f} a jump. Made by `python benchmarks/density.py` from "
        "[density.json](../benchmarks/results/density.json)."
    )
    lines = [*_normalizer(results["likelihood"]), "", told, "", *_masses(results), "", made]
    put_table(document, "mnist-density", lines)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mnist", help="a model of MNIST")
    parser.add_argument("--num-samples", type=int, default=5000, help="number of chains")
    parser.add_argument("--num-draws", type=int, default=50_000, help="number of draws of the VAE")
    parser.add_argument("--steps", type=int, nargs="+", default=[60, 300], help="numbers of steps of chains, ascending")
    parser.add_argument("--temperatures", type=int, nargs="+", default=[10, 30, 100, 300, 1000], help="of the ladders")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go; elsewhere, no table is made")
    parser.add_argument("--table", type=Path, metavar="FILE", help="only fill the tables of this document")
    options = parser.parse_args()
    if options.table:
        table(options.table)
        return
    options.results.write_text(json.dumps(measure(options), indent=1, sort_keys=True) + "\n")
    if options.results == RESULTS:
        table(DOCS)


if __name__ == "__main__":
    sys.exit(ended(main))
