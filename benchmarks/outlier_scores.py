"""Which score knows which outliers: the scores of a model beside published ones and cheap baselines.

    python benchmarks/outlier_scores.py run mnist --model mnist --others fashion.npz cifar10.npz
    python benchmarks/outlier_scores.py run cifar10 --model cifar10-small --source cifar10.npz --others mnist.npz
    python benchmarks/outlier_scores.py table docs/scores.md

Normal are test images of the data that the model names, evenly spaced. Outliers: other sets of images, brought to the
model's form by the same path as its own (antialiased; colour to grey by luma, grey to colour by repetition); Gaussian
and uniform noise; grey levels, and flat colours; averages of two normal images. A control: the normal images
themselves, resized from 28 to 32 pixels and back or the other way round, as other sets are once. Every image goes
through bytes. What a score needs to know of normal images (medians, neighbours, Gaussians) comes of the training and
calibration splits. Told are AUROC, AUPR and FPR95 with 95 % bootstrap intervals. Scores of a set are kept in
``--runs``, by the hash of images, model and settings, and not made again. Figures are written to
``benchmarks/results/outliers.json``; ``vaebm evaluate MODEL --scores all`` measures the same, without the control.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from endings import ended
from tables import put_table
from vaebm.checkpoint import read_json, tensors_sha256, write_bytes, write_json
from vaebm.cli.evaluation import ranked_rows
from vaebm.cli.known_images import config_of, load_splits_of
from vaebm.cli.outlier_table import SCORES, Known, further_outliers, know_normal, named_scores, shared_images
from vaebm.cli.parsing import UsageError
from vaebm.data import Preprocessing, Splits, evenly_spaced, outlier_sets, to_float, to_uint8
from vaebm.distributed import hardware_facts
from vaebm.recipes import LoadedModel, read_model

RESULTS = Path(__file__).parent / "results" / "outliers.json"
DOCS = Path(__file__).parents[1] / "docs" / "scores.md"
# Is raised where scores change: those that were made before aren't taken for them.
MEASURED = 2
FIGURES = {"auroc": "AUROC against", "aupr": "AUPR", "fpr95": "FPR95"}


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


def kept_scores(known: Known, identity: str, images: Tensor, folder: Path) -> dict[str, Tensor]:
    """Returns the scores of images, uint8, from a file in the folder if they were made before."""
    content = hashlib.sha256(f"{identity} {known.names} {tuple(images.shape)} ".encode())
    content.update(images.contiguous().numpy().tobytes())
    path = folder / f"{content.hexdigest()}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save({name: values.contiguous() for name, values in named_scores(known, images).items()}))
    found = load_file(path)
    return {name: found[name] for name in known.names if name in found}


def sets_of(loaded: LoadedModel, splits: Splits, paths: Sequence[str], test: Tensor) -> dict[str, Tensor]:
    """Returns the sets of outliers by name, uint8, as many images of each as there are test images at most."""
    sets = {}
    for name, images in further_outliers([f"{Path(path).stem}={path}" for path in paths], loaded, print).items():
        shared = shared_images(name, images, splits)
        if shared:
            print(shared)
        sets[name] = torch.from_numpy(to_uint8(images[evenly_spaced(len(images), len(test))]))
    made = outlier_sets(to_float(test), torch.Generator().manual_seed(0))
    sets |= {kind: torch.from_numpy(to_uint8(images)) for kind, images in made.items()}
    # What the way of other sets does to images: a score that knows these sees interpolation, not content.
    return {**sets, "normal, resized": resized_there_and_back(test.numpy())}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Scores normal images and every set of outliers."""
    began = time.monotonic()
    loaded = read_model(options.model)
    config = config_of(loaded)
    if loaded.calibration is None:
        raise UsageError(f"{options.model} has no calibration scores: expected a model that vaebm train finished")
    splits = load_splits_of(config, loaded.details, options.source)
    test = torch.from_numpy(splits.test.images[evenly_spaced(len(splits.test), options.count)])
    sets = sets_of(loaded, splits, options.others, test)
    looked = {"num_reference": options.num_reference, "regret_steps": options.regret_steps}
    known = know_normal(loaded.model, loaded.calibration, splits.training.images, SCORES, print, **looked)
    model = tensors_sha256(loaded.model.state_dict())
    training = hashlib.sha256(splits.training.images.tobytes()).hexdigest()
    judge = known.baselines.extractor if known.baselines else None
    identity = (
        f"{MEASURED} {model} {loaded.model.image_fields} {looked} {json.dumps(loaded.calibration)} {training} "
        f"{judge.sha256 if judge else ''}"
    )
    normal = kept_scores(known, identity, test, options.runs)
    scores = {}
    for kind, images in sets.items():
        scores[kind] = kept_scores(known, identity, images, options.runs)
        print(f"{options.name} against {kind}: {time.monotonic() - began:.0f} s", flush=True)
    ranked = ranked_rows(normal, scores, torch.Generator().manual_seed(0), print)
    rows = [{name: row.get(name) for name in ("set", "score", *FIGURES)} for row in ranked]
    return {
        "model": Path(options.model).name,
        "data": Path(config.data.source).name,
        "num_normal": len(test),
        "num_outliers": {kind: len(images) for kind, images in sets.items()},
        **looked,
        "rows": rows,
        "seconds": time.monotonic() - began,
        "threads": torch.get_num_threads(),
        "hardware": hardware_facts(torch.device("cpu")),
    }


def table(results: Path, document: Path) -> None:
    """Writes the tables of each figure into a document."""
    lines: list[str] = []
    for name, entry in read_json(results).items():
        kinds = list(entry["num_outliers"])
        for figure, title in FIGURES.items():
            lines += [f"| {name}: {title} | {' | '.join(kinds)} |", "|---" * (1 + len(kinds)) + "|"]
            for score in SCORES:
                found = {row["set"]: row[figure] for row in entry["rows"] if row["score"] == score}
                cells = [told(found[kind]) for kind in kinds if kind in found]
                if cells:
                    lines.append(f"| {score} | {' | '.join(cells)} |")
            lines.append("")
    put_table(document, "outliers", lines[:-1])


def told(interval: dict[str, float]) -> str:
    """Returns a figure with its interval."""
    return f"{interval['value']:.3f} ({interval['low']:.3f}–{interval['high']:.3f})"


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
    part.add_argument("--runs", type=Path, default=Path("runs/outliers"), help="where scores are kept")
    part.add_argument("--results", type=Path, default=RESULTS)
    part = commands.add_parser("table")
    part.add_argument("document", type=Path, nargs="?", default=DOCS)
    part.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.what == "table":
        table(options.results, options.document)
        return
    found = run(options)
    known = read_json(options.results) if options.results.exists() else {}
    write_json(options.results, {**known, options.name: found})


if __name__ == "__main__":
    sys.exit(ended(main))
