"""Which score knows which outliers: the scores of a model beside published ones and cheap baselines.

    python benchmarks/outlier_scores.py run mnist --model mnist --others fashion.npz cifar10.npz
    python benchmarks/outlier_scores.py run cifar10 --model cifar10-small --source cifar10.npz --others mnist.npz
    python benchmarks/outlier_scores.py table docs/evidence.md

Normal are test images of the data that the model names. Outliers: other sets of images, brought to the model's form by
the same path as its own (antialiased; colour to grey by luma, grey to colour by repetition); Gaussian and uniform
noise; grey levels, and flat colours; averages of two normal images. A control: the normal images themselves, resized
from 28 to 32 pixels and back or the other way round, as other sets are once. Every image goes through bytes. What a
score needs to know of normal images (medians, neighbours, Gaussians) comes of the training and calibration splits.
Told are AUROC, AUPR and FPR95 with 95 % bootstrap intervals. Written to ``benchmarks/results/outliers.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tables import put_table
from vaebm.applications import gradient_norms, likelihood_regrets
from vaebm.cli.evaluation import scores_of
from vaebm.cli.known_images import load_splits_of
from vaebm.data import Preprocessing, load_images, outlier_sets, to_float, to_uint8
from vaebm.distributed import hardware_facts
from vaebm.evaluation import Baselines, baseline_scores, fit_baselines, png_bits, rank_scores
from vaebm.metrics import Gaussian, fit_gaussian, mahalanobis_distances
from vaebm.recipes import Config, ExtraError, LoadedModel, config_class, from_dict, load_extractor, read_model

RESULTS = Path(__file__).parent / "results" / "outliers.json"
DOCS = Path(__file__).parents[1] / "docs" / "evidence.md"
NATS_PER_BIT = math.log(2)
OURS = ("joint", "energy", "elbo")
ORDER = (*OURS, "typicality", "gradient_norm", "likelihood_regret", "complexity_corrected", "complexity",
         "pixel_statistics", "knn_pixels", "knn_features", "mahalanobis_features")  # fmt: skip
NAMES = {"kNN, pixels": "knn_pixels", "kNN, features": "knn_features", "Mahalanobis, features": "mahalanobis_features"}


@dataclass(frozen=True, eq=False)
class Known:
    """What scores know of normal images: the model, the median of its joint, baselines, moments of pixels."""

    loaded: LoadedModel
    typical: float
    baselines: Baselines
    moments: Gaussian


def pixel_moments(images: Tensor) -> Tensor:
    """Returns mean and standard deviation of each channel of images (N, C, H, W): (N, 2 C)."""
    flat = to_float(images).double().flatten(2)
    return torch.cat([flat.mean(2), flat.std(2)], 1)


def know(loaded: LoadedModel, training: Tensor, num_reference: int) -> Known:
    """Looks at so many of the normal images, uint8 (n, C, H, W)."""
    assert loaded.calibration is not None
    try:
        extractor = load_extractor()
    except ExtraError:
        extractor = None
    typical = -float(torch.tensor(loaded.calibration["outlier_scores"], dtype=torch.float64).median())
    reference = training[torch.linspace(0, len(training) - 1, min(len(training), num_reference)).long()]
    return Known(loaded, typical, fit_baselines(reference, extractor), fit_gaussian(pixel_moments(reference)))


def resized_there_and_back(images: NDArray[np.uint8]) -> Tensor:
    """Returns images uint8 (N, C, H, W) resized to the other of 28 and 32 pixels, and back."""
    size = images.shape[2:]
    there = Preprocessing(image_size=(28, 28) if size == (32, 32) else (32, 32), channels=images.shape[1])
    back = replace(there, image_size=size)
    found = []
    for image in images:
        other = there.apply(image.transpose(1, 2, 0), "an image")
        found.append(back.apply(other.transpose(1, 2, 0), "an image"))
    return torch.from_numpy(np.stack(found))


def all_scores(known: Known, images: Tensor, regret_steps: int) -> dict[str, Tensor]:
    """Returns every score (N,) of images, uint8, by name; higher = outlier."""
    model, calibration = known.loaded.model, known.loaded.calibration
    assert calibration is not None
    values, bits = to_float(images), png_bits(images)
    ours = scores_of(model, values, calibration)
    seed = torch.Generator().manual_seed(calibration["seed"])
    cheap = {NAMES.get(name, name): score for name, score in baseline_scores(known.baselines, images).items()}
    found = {
        "joint": -ours.joint,
        "energy": ours.energy,
        "elbo": -ours.elbo,
        "typicality": (ours.joint - known.typical).abs(),
        "gradient_norm": gradient_norms(model, values, generator=seed),
        "likelihood_regret": likelihood_regrets(
            model, values, generator=torch.Generator().manual_seed(0), num_steps=regret_steps
        ),
        "complexity_corrected": -ours.joint - NATS_PER_BIT * bits,
        "pixel_statistics": mahalanobis_distances(known.moments, pixel_moments(images)),
        **cheap,
    }
    return {name: found[name].cpu() for name in ORDER if name in found}


def run(
    name: str, model: str, others: Sequence[str], count: int, regret_steps: int, num_reference: int, source: str | None
) -> dict[str, Any]:
    """Scores normal images and every set of outliers."""
    began = time.monotonic()
    loaded = read_model(model)
    config: Config = from_dict(config_class(loaded.details["config"]), loaded.details["config"])
    splits = load_splits_of(config, loaded.details, source)
    known = know(loaded, torch.from_numpy(splits.training.images), num_reference)
    test = torch.from_numpy(splits.test.images[:count])
    channels, height, width = loaded.model.image_shape
    form = replace(loaded.preprocessing or Preprocessing(), image_size=(height, width), channels=channels)
    shape = (channels, height, width)
    sets = {Path(path).stem: torch.from_numpy(load_images(path, shape, form).images[:count]) for path in others}
    made = outlier_sets(to_float(test), torch.Generator().manual_seed(0))
    sets |= {kind: torch.from_numpy(to_uint8(images)) for kind, images in made.items()}
    # What the way of other sets does to images: a score that knows these sees interpolation, not content.
    sets["normal, resized"] = resized_there_and_back(test.numpy())
    normal = all_scores(known, test, regret_steps)
    scores = {}
    for kind, images in sets.items():
        scores[kind] = all_scores(known, images, regret_steps)
        print(f"{name} against {kind}: {time.monotonic() - began:.0f} s", flush=True)
    ranked = rank_scores(normal, scores, generator=torch.Generator().manual_seed(0))
    rows = [
        {"set": row.outliers, "score": row.score, **{
            figure: vars(getattr(row.ranking, figure)) for figure in ("auroc", "aupr", "fpr95")
        }}
        for row in ranked
    ]  # fmt: skip
    return {
        "model": Path(model).name,
        "data": Path(config.data.source).name,
        "num_normal": len(test),
        "num_outliers": {kind: len(images) for kind, images in sets.items()},
        "regret_steps": regret_steps,
        "num_reference": num_reference,
        "rows": rows,
        "seconds": time.monotonic() - began,
        "threads": torch.get_num_threads(),
        "hardware": hardware_facts(torch.device("cpu")),
    }


def table(results: Path, document: Path) -> None:
    """Writes the tables of AUROC into a document."""
    lines: list[str] = []
    for name, entry in json.loads(results.read_text()).items():
        kinds = list(entry["num_outliers"])
        lines += [f"| {name}: AUROC against | {' | '.join(kinds)} |", "|---" * (1 + len(kinds)) + "|"]
        for score in ORDER:
            found = {row["set"]: row["auroc"] for row in entry["rows"] if row["score"] == score}
            cells = [f"{found[kind]['value']:.3f} ({found[kind]['low']:.3f}–{found[kind]['high']:.3f})"
                     for kind in kinds if kind in found]  # fmt: skip
            if cells:
                lines.append(f"| {score} | {' | '.join(cells)} |")
        lines.append("")
    put_table(document, "outliers", lines[:-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    part = commands.add_parser("run")
    part.add_argument("name", help="what the rows are called")
    part.add_argument("--model", required=True, help="a bundled name, a run or a model folder")
    part.add_argument("--source", help="where the model's images are now")
    part.add_argument("--others", nargs="*", default=[], metavar="PATH", help="other sets of images")
    part.add_argument("--count", type=int, default=1000, help="images of each set")
    part.add_argument("--regret-steps", type=int, default=100)
    part.add_argument("--num-reference", type=int, default=5000, help="training images that cheap scores look at")
    part.add_argument("--results", type=Path, default=RESULTS)
    part = commands.add_parser("table")
    part.add_argument("document", type=Path, nargs="?", default=DOCS)
    part.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.what == "table":
        table(options.results, options.document)
        return
    found = run(
        options.name,
        options.model,
        options.others,
        options.count,
        options.regret_steps,
        options.num_reference,
        options.source,
    )
    known = json.loads(options.results.read_text()) if options.results.exists() else {}
    options.results.write_text(json.dumps({**known, options.name: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
