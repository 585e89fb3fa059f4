"""One digit of MNIST as the normal images: which score finds other digits, scratches, holes, blur and shifts?

    python benchmarks/defects.py run                  # two runs of five minutes on one thread; fills docs/scores.md
    python benchmarks/defects.py run --short          # the same in half a minute, for CI: its figures mean nothing

2,000 training images of the digit go into an npz file as a user's would, and ``vaebm train`` trains on it. Normal are
the test images of the digit; outliers are test images of the other digits, and spoilt copies of the normal ones. The
baselines know the same 2,000 training images. Nothing is chosen by these figures but the number of iterations of the
VAE, which overfits so few images: 700 have the best ELBO on the selection split. Heat maps and nearest normal images
go to a picture beside the results.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor

from endings import ended
from forked import run_vaebm
from tables import put_table
from vaebm.applications import heat_maps, nearest_normal
from vaebm.cli.evaluation import p_values_of, scores_of
from vaebm.cli.provenance import describe_origin
from vaebm.data import DEFECTS, defect_sets, load_splits, to_float, to_uint8
from vaebm.distributed import make_engine
from vaebm.evaluation import baseline_scores, fit_baselines
from vaebm.metrics import false_positive_rates, rank_outliers
from vaebm.plots import image_grid, png_bytes
from vaebm.recipes import LoadedModel, load_extractor, read_model

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "defects.json"
DOCS = ROOT.parent / "docs" / "scores.md"
SEED, NUM_TRAINING, NUM_SHOWN = 2023, 2000, 16
LEVELS = ("0.01", "0.05", "0.1")
SHORT = {
    "--vae.num_iterations": "100",
    "--energy.num_iterations": "10",
    "--energy.num_steps": "3",
    "--evaluation.num_samples": "30",
    "--evaluation.num_test": "60",
    "--evaluation.num_posterior_samples": "1",
    "--selection.num_samples": "20",
    "--selection.num_candidates": "1",
    "--vae_network.widths": "[64,32]",
    "--energy_network.widths": "[16,32]",
}
SIZES = {"--vae.num_iterations": "700", "--energy.num_iterations": "1500"}
OTHERS = {
    "--evaluation.num_samples": "300",
    "--evaluation.steps_curve": "[0]",
    "--evaluation.num_posterior_samples": "8",
    "--selection.num_samples": "150",
}


def images_of(digit: int, count: int) -> dict[str, NDArray[np.uint8]]:
    """Returns training and test images of a digit, and test images of the others."""
    splits = load_splits("mnist")
    training, test = splits.training, splits.test
    assert training.labels is not None and test.labels is not None  # noqa: PT018
    return {
        "train_x": training.images[training.labels == digit][:count],
        "test_x": test.images[test.labels == digit],
        "others": test.images[test.labels != digit],
    }


def train(arrays: Mapping[str, NDArray[np.uint8]], folder: Path, seed: int, sizes: Mapping[str, str]) -> list[str]:
    """Trains as a user would, and returns the command line."""
    source = folder / "digit.npz"
    np.savez(source, train_x=arrays["train_x"], test_x=arrays["test_x"])
    words = ["vaebm", "train", "mnist", "--data.source", str(source), "--output", str(folder / "run")]
    words += ["--seed", str(seed), "--precision", "fp32"]
    words += [word for pair in {**OTHERS, **sizes}.items() for word in pair]
    print("$", *words, flush=True)
    run_vaebm(words[1:], folder / "said.txt")
    return ["digit.npz" if word == str(source) else Path(word).name if "/" in word else word for word in words]


def all_scores(loaded: LoadedModel, baselines: Any, images: Tensor) -> dict[str, Tensor]:
    """Returns every score of images, uint8, by name; higher = outlier."""
    assert loaded.calibration is not None
    scores = scores_of(loaded.model, to_float(images), loaded.calibration)
    ours = {"energy": scores.energy, "ELBO": -scores.elbo, "joint": scores.outlier_score}
    return {**ours, **baseline_scores(baselines, images)}


def measure(digit: int, seed: int, count: int, sizes: Mapping[str, str], picture: Path | None) -> dict[str, Any]:
    """Trains on a digit and measures every score on every kind of outlier."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Of n images with a test set of their own, n // 12 + n // 6 are held out.
        arrays = images_of(digit, next(n for n in range(count, 2 * count) if n - n // 12 - n // 6 >= count))
        command = train(arrays, folder, seed, sizes)
        loaded = read_model(folder / "run")
        splits = load_splits(str(folder / "digit.npz"))
    generator = torch.Generator().manual_seed(SEED)
    normal = torch.from_numpy(arrays["test_x"])[:count]
    chosen = torch.randperm(len(arrays["others"]), generator=generator)[: len(normal)]
    sets = {"other digits": torch.from_numpy(arrays["others"])[chosen], **defect_sets(normal, generator)}
    baselines = fit_baselines(torch.from_numpy(splits.training.images), load_extractor())
    of_normal = all_scores(loaded, baselines, normal)
    rows = []
    for kind, images in sets.items():
        for score, values in all_scores(loaded, baselines, images).items():
            auroc = rank_outliers(of_normal[score], values, num_bootstrap=500, generator=generator).auroc
            rows.append({"kind": kind, "score": score, **vars(auroc)})
    assert loaded.calibration is not None
    p_values = p_values_of(scores_of(loaded.model, to_float(normal), loaded.calibration), loaded.calibration)
    if picture:
        picture.write_bytes(look(loaded, {"normal": normal, **sets}))
    counts = {name: len(part) for name, part in zip(("training", "selection", "calibration", "test"), splits[:4], strict=True)}  # noqa: E501  # fmt: skip
    rates = {str(level): rate for level, rate in false_positive_rates(p_values).items()}
    return {"digit": digit, "seed": seed, "command": command, "images": counts, "false_positive_rates": rates, "rows": rows}  # noqa: E501  # fmt: skip


def look(loaded: LoadedModel, sets: Mapping[str, Tensor]) -> bytes:
    """Draws images, heat maps and nearest normal images, three rows a kind; one scale of heat for all."""
    first = {kind: to_float(images[:NUM_SHOWN]) for kind, images in sets.items()}
    heats = {k: heat_maps(loaded.model, x, generator=torch.Generator().manual_seed(SEED)) for k, x in first.items()}
    level = float(heats["normal"].flatten(1).amax(1).quantile(0.95))
    rows = []
    for kind, images in first.items():
        own = heats[kind].flatten(1).amax(1).clamp_min(level)[:, None, None]
        coloured = colormaps["magma"]((heats[kind] / own).numpy(), bytes=True)[..., :3]
        near = nearest_normal(loaded.model, images, generator=torch.Generator().manual_seed(SEED))
        rows += [to_uint8(images).repeat(3, 1), coloured.transpose(0, 3, 1, 2), to_uint8(near).repeat(3, 1)]
    return png_bytes(image_grid(np.concatenate(rows), NUM_SHOWN, 1, 2))


def table(results: Path, document: Path) -> None:
    """Writes the table into a document: means over the runs, with the hull of their 95 % intervals."""
    found = json.loads(results.read_text())
    runs = found["runs"]
    kinds = list(dict.fromkeys(row["kind"] for row in runs[0]["rows"]))
    scores = list(dict.fromkeys(row["score"] for row in runs[0]["rows"]))
    seeds = ", ".join(str(run["seed"]) for run in runs)
    lines = [f"| score | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    best = {kind: max(scores, key=lambda score, kind=kind: _mean(runs, score, kind)[0]) for kind in kinds}  # type: ignore[misc]
    for score in scores:
        cells = []
        for kind in kinds:
            mean, low, high = _mean(runs, score, kind)
            text = f"{mean:.3f} [{low:.3f}, {high:.3f}]"
            cells.append(f"**{text}**" if best[kind] == score else text)
        lines.append(f"| {score} | {' | '.join(cells)} |")
    levels = {level: sum(run["false_positive_rates"][level] for run in runs) / len(runs) for level in LEVELS}
    rates = ", ".join(f"{100 * rate:.1f} % at {100 * float(level):.0f} %" for level, rate in levels.items())
    images = runs[0]["images"]
    told = (
        f"AUROC with digit {runs[0]['digit']} as the normal one: {images['training']:,} training and "
        f"{images['test']:,} test images, as many outliers of each kind, severity .5. Means over the seeds {seeds}; in "
        "brackets the lowest and the highest end of their 95 % bootstrap intervals; bold: the best of a kind. Normal "
        f"test images flagged by the joint: {rates}, with {images['calibration']} calibration images. Made by "
        "`python benchmarks/defects.py run` from [defects.json](../benchmarks/results/defects.json)."
    )
    put_table(document, "defects", [*lines, "", told])


def _mean(runs: list[dict[str, Any]], score: str, kind: str) -> tuple[float, float, float]:
    rows = [row for run in runs for row in run["rows"] if (row["score"], row["kind"]) == (score, kind)]
    mean = sum(row["value"] for row in rows) / len(rows)
    return mean, min(row["low"] for row in rows), max(row["high"] for row in rows)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("run", "table"), help="measure and fill the table, or fill it only")
    parser.add_argument("--short", action="store_true", help="small sizes, 80 images, one seed")
    parser.add_argument("--digit", type=int, default=3, choices=range(10), help="the normal digit (default 3)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of the runs (default 0 1)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go; elsewhere, no table is made")
    parser.add_argument("--document", type=Path, default=DOCS, help="whose table is filled")
    options = parser.parse_args()
    if options.verb == "run":
        count, sizes, seeds = (80, SHORT, [0]) if options.short else (NUM_TRAINING, SIZES, options.seeds)
        if options.short and options.results == RESULTS:
            options.results = Path(tempfile.gettempdir()) / "defects-short.json"
        picture = options.results.with_suffix(".png")
        runs = [measure(options.digit, seed, count, sizes, picture if seed == seeds[0] else None) for seed in seeds]
        origin = describe_origin(SEED, [], make_engine("fp32", "cpu"))
        told = {name: origin[name] for name in ("commit", "versions", "threads", "hardware")}
        found = {**told, "defects": list(DEFECTS), "severity": 0.5, "runs": runs}
        options.results.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if options.verb == "table" or options.results == RESULTS:
        table(options.results, options.document)


if __name__ == "__main__":
    sys.exit(ended(main))
