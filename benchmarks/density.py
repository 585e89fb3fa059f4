"""MNIST: what can be known of the bundled model's density? Its normaliser, its chains, the masses of the classes.

    python benchmarks/density.py                 # ten minutes on one thread; fills docs/density.md

log Z by importance sampling from the VAE and by annealed chains on ladders that a pilot run adapts; split-R̂, bulk ESS
and jumps of the default chain. The masses of the classes: what share of images a judge counts to each class, beside the
shares of the test labels, for draws of the VAE, for chains with and without jumps, and under the weights of both kinds.
Results go to ``benchmarks/results/density.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaebm.applications import snapshots, start_noise
from vaebm.cli.provenance import describe_origin
from vaebm.data import load_splits, to_float
from vaebm.distributed import make_engine
from vaebm.evaluation import Judge, annealed_weights, diagnose_chains, extract, summarize_weights, tilt_of
from vaebm.metrics import class_shares, total_variation
from vaebm.models import VAEBM
from vaebm.nn import frozen
from vaebm.recipes import load_judges, read_model
from vaebm.sampling import Jump, Kernel, Langevin, Mixture, adaptive_ladder, effective_sample_size

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "density.json"
DOCS = ROOT.parent / "docs" / "density.md"
START, END = "<!-- table:mnist-density -->", "<!-- /table:mnist-density -->"
SEED, BATCH = 2023, 250
JUMPS = 0.2


class Draws(NamedTuple):
    """Images (N, C, H, W) in [−1, 1], and their log-weights (N,), or None if each counts the same."""

    images: Tensor
    log_weights: Tensor | None


def chains(model: VAEBM, kernel: Kernel, steps: tuple[int, ...], count: int) -> dict[int, Draws]:
    """Returns what chains from N(0, I) look like after numbers of steps."""
    generator = torch.Generator().manual_seed(SEED)
    noise = start_noise(model, count, generator)
    seen = snapshots(model, noise, steps, kernel=kernel, generator=generator, batch_size=BATCH)
    return {look.step: Draws(look.images, None) for look in seen}


def images_of(model: VAEBM, noise: Tensor) -> Tensor:
    """Returns the output images of noise (N, D)."""
    field = model.image_fields.output_image
    with torch.no_grad():
        return torch.cat([model.transport(part).pick(field).float().clamp(-1, 1) for part in torch.split(noise, BATCH)])


def annealed(model: VAEBM, conditional_ess: float, count: int) -> tuple[dict[str, Any], Draws]:
    """Climbs an adapted ladder; returns what its weights say, and where its chains end."""
    generator, began = torch.Generator().manual_seed(SEED), time.monotonic()
    tilt = tilt_of(model)
    pilot = start_noise(model, BATCH, generator)
    ladder = adaptive_ladder(tilt, pilot, generator, conditional_ess=conditional_ess, max_temperatures=2000)
    found = annealed_weights(model, count, ladder, generator, batch_size=BATCH)
    row = {
        "temperatures": len(ladder.temperatures),
        "conditional_ess": conditional_ess,
        "acceptance": float(found.acceptance.mean()),
        "seconds": round(time.monotonic() - began, 1),
        **asdict(summarize_weights(found.log_weights)),
    }
    return row, Draws(images_of(model, found.noise), found.log_weights)


def masses(judge: Judge, draws: Draws, labels: Tensor) -> dict[str, Any]:
    """Returns the shares of the classes among images as a judge counts them, and how far they are from the labels'."""
    probabilities = extract(judge, draws.images).probabilities
    assert probabilities is not None
    classes, count = probabilities.argmax(1), probabilities.shape[1]
    weights = torch.ones(len(classes), dtype=torch.float64) if draws.log_weights is None else draws.log_weights
    weights = torch.softmax(weights, 0)
    shares = torch.zeros(count, dtype=torch.float64).index_add(0, classes, weights)
    return {
        "judge": judge.name,
        "judge_sha256": judge.sha256,
        "shares": shares.tolist(),
        "total_variation": total_variation(shares, class_shares(labels, count)),
        "ess": effective_sample_size(weights.log()),
    }


def expected_distance(labels: Tensor, count: int, num_classes: int = 10) -> float:
    """Returns the mean distance of the shares of ``count`` independent draws of the labels' own distribution."""
    generator, shares = torch.Generator().manual_seed(SEED), class_shares(labels, num_classes)
    drawn = torch.multinomial(shares.expand(200, -1), count, replacement=True, generator=generator)
    return sum(total_variation(class_shares(row, num_classes), shares) for row in drawn) / len(drawn)


def measure(
    name: str, count: int, num_draws: int, steps: tuple[int, ...], conditional_ess: tuple[float, ...]
) -> dict[str, Any]:
    """Measures a model of MNIST; each conditional ESS makes a ladder."""
    model, splits = read_model(name).model, load_splits("mnist")
    labels = torch.from_numpy(splits.test.labels)
    engine = make_engine("auto", "cpu")
    size, default = float(model.sampling["step_size"]), int(model.sampling["num_steps"])
    every = {"test images": Draws(to_float(splits.test.images), None)}
    with engine.autocast(), frozen(model):
        generator = torch.Generator().manual_seed(SEED)
        diagnosed = asdict(diagnose_chains(model, Langevin(size), default, generator))
        noise = start_noise(model, num_draws, generator)
        with torch.no_grad():
            log_weights = torch.cat([tilt_of(model)(part) for part in torch.split(noise, BATCH)])
        every["VAE"] = Draws(images_of(model, noise[:count]), None)
        every["VAE, weighted"] = Draws(images_of(model, noise), log_weights)
        mixed = Mixture((Langevin(size), Jump()), (1 - JUMPS, JUMPS))
        for title, kernel in (("Langevin", Langevin(size)), ("Langevin and jumps", mixed)):
            every |= {f"{title}, {step} steps": draws for step, draws in chains(model, kernel, steps, count).items()}
        ladders = []
        for share in conditional_ess:
            row, draws = annealed(model, share, BATCH)
            print(row, flush=True)
            ladders.append(row)
        every[f"annealed, {ladders[-1]['temperatures']} temperatures, weighted"] = draws
    judges = load_judges(splits.training.shape)
    rows = [{"what": title, **masses(judge, draws, labels)} for title, draws in every.items() for judge in judges]
    origin = describe_origin(SEED, [], engine)
    told = {name: origin[name] for name in ("commit", "versions", "threads", "precision", "hardware")}
    return {
        "model": name, "seed": SEED, "num_samples": count, "jump_probability": JUMPS, "chains": diagnosed,
        "importance": asdict(summarize_weights(log_weights)), "annealed": ladders, "masses": rows, **told,
        "label_shares": class_shares(labels, 10).tolist(), "expected_distance": expected_distance(labels, count),
    }  # fmt: skip


def _interval(interval: Mapping[str, float]) -> str:
    return f"{interval['value']:.1f} [{interval['low']:.1f}, {interval['high']:.1f}]"


def _normalizer(results: Mapping[str, Any]) -> list[str]:
    rows = [("importance sampling from the VAE", results["importance"])]
    rows += [(f"annealed, {row['temperatures']} temperatures", row) for row in results["annealed"]]
    lines = ["| log Z by | log Ẑ | forward bound | ESS | weights |", "|---" * 5 + "|"]
    lines += [
        f"| {name} | {_interval(row['log_z'])} | {_interval(row['forward_bound'])} | {row['ess']:.1f} | "
        f"{row['num_weights']:,} |"
        for name, row in rows
    ]
    return lines


def _masses(results: Mapping[str, Any]) -> list[str]:
    judges = list(dict.fromkeys(row["judge"] for row in results["masses"]))
    lines = [f"| images | {' | '.join(f'{judge}: distance' for judge in judges)} | least and largest class | ESS |"]
    lines.append("|---" * (len(judges) + 3) + "|")
    for what in dict.fromkeys(row["what"] for row in results["masses"]):
        rows = [row for row in results["masses"] if row["what"] == what]
        shares = [share for row in rows for share in row["shares"]]
        cells = " | ".join(f"{row['total_variation']:.3f}" for row in rows)
        lines.append(f"| {what} | {cells} | {min(shares):.3f}–{max(shares):.3f} | {rows[0]['ess']:,.0f} |")
    return lines


def table() -> None:
    """Writes the tables into the docs."""
    results = json.loads(RESULTS.read_text())
    made = (
        f"Total variation between the shares of the classes, as each judge counts them, and those of the test labels; "
        f"{results['num_samples']:,} independent draws of the labels' distribution are "
        f"{results['expected_distance']:.3f} away on average. Chains with jumps make one step in "
        f"{1 / results['jump_probability']:.0f} a jump. Made by `python benchmarks/density.py` from "
        "[density.json](../benchmarks/results/density.json)."
    )
    text = "\n".join([*_normalizer(results), "", *_masses(results), "", made])
    before, rest = DOCS.read_text().split(START)
    _, after = rest.split(END)
    DOCS.write_text(f"{before}{START}\n{text}\n{END}{after}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mnist", help="a model of MNIST")
    parser.add_argument("--num-samples", type=int, default=5000, help="number of chains")
    parser.add_argument("--num-draws", type=int, default=100_000, help="number of draws of the VAE")
    parser.add_argument("--steps", type=int, nargs="+", default=[60, 300], help="numbers of steps of chains")
    parser.add_argument("--ess", type=float, nargs="+", default=[0.5, 0.9, 0.99], help="conditional ESS of each ladder")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go; elsewhere, no table is made")
    options = parser.parse_args()
    result = measure(options.model, options.num_samples, options.num_draws, tuple(options.steps), tuple(options.ess))
    options.results.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    if options.results == RESULTS:
        table()


if __name__ == "__main__":
    main()
