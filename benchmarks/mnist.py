"""The evidence on MNIST: seeds, both kinds of chain image, a converged VAE, the bundled model, a third judge, outliers.

    python benchmarks/mnist.py run --outliers "fashion mnist=fashion.npz"       # 10 minutes a run
    python benchmarks/mnist.py bundle --outliers "fashion mnist=fashion.npz"    # at most one hour
    python benchmarks/mnist.py draws                                            # 2 minutes a draw
    python benchmarks/mnist.py table                                            # fills README.md

``run`` and ``bundle`` train what is missing, each by the command that it prints, and measure it by ``vaebm evaluate``;
they may be stopped and started again. ``bundle`` makes the package's model out of a longer run: weights in half
precision, calibrated and measured as stored. ``draws`` measures that model again with other draws of samples.
Fashion-MNIST is not in the package: PATH may be its file ``t10k-images-idx3-ubyte.gz``, or an npz of its test images.
Results go to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from endings import ended
from forked import run_vaebm, train_run
from tables import put_table
from vaebm.applications import snapshots, start_noise
from vaebm.checkpoint import RunFolder, file_sha256, find_model_folder, model_folders, write_bytes
from vaebm.cli.card import write_card
from vaebm.cli.evaluation import calibrate
from vaebm.data import load_splits, to_uint8
from vaebm.models import VAEBM
from vaebm.plots import image_grid, png_bytes
from vaebm.recipes import Config, from_dict, read_model, save
from vaebm.recipes.config import SamplingConfig
from vaebm.reports import Evaluation

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "mnist.json"
BUNDLED_RESULTS = ROOT / "results" / "bundled_mnist.json"
README = ROOT.parent / "README.md"
PICTURE = ROOT.parent / "docs" / "images" / "mnist.png"
BUNDLED = ROOT.parent / "src" / "vaebm" / "checkpoint" / "bundled" / "mnist"
MEAN = ["--config", "benchmarks/mean.yaml"]
CONVERGED = ["--config", "benchmarks/converged.yaml"]
GROUPS = ["--config", "benchmarks/groups.yaml"]
BUNDLE = ["--config", "benchmarks/bundled.yaml"]
RUNS: dict[str, list[str]] = {
    "sampled-0": ["--seed", "0"],
    "sampled-1": ["--seed", "1"],
    "sampled-2": ["--seed", "2"],
    "mean-0": ["--seed", "0", *MEAN],
    "mean-1": ["--seed", "1", *MEAN],
    "mean-2": ["--seed", "2", *MEAN],
    "converged-0": ["--seed", "0", *CONVERGED],
    "groups-0": ["--seed", "0", *GROUPS],
    "half-0": ["--seed", "0", *CONVERGED, "--vae.num_iterations", "32000"],
}  # fmt: skip
KINDS = {
    "sampled": "energy on the sampled image",
    "mean": "energy on the mean image, VAE without layer normalisation",
    "converged": "VAE trained until its ELBO stops improving",
    "groups": "VAE with four latent groups, without layer normalisation",
    "half": "that VAE, trained half as long",
    "bundled": "the bundled model, trained longer",
}
DRAWS = (1, 2)
# Is raised where what vaebm evaluate measures changes: what was measured before isn't taken for it.
MEASURED = 2
ELBO_SHARES = (0.25, 0.5, 0.75, 0.9, 1.0)


def command(*arguments: str) -> None:
    """Runs one ``vaebm`` command."""
    print("$ vaebm", *arguments, flush=True)
    run_vaebm(arguments)


def measure(model: Path, folder: Path, outliers: list[str], seed: int | None = None) -> dict[str, Any]:
    """Measures a model once, in a file of a folder: under the bundled judges and the one that was kept apart."""
    weights = find_model_folder(model / "model") or model
    used = [*model_folders(), *model_folders(ROOT / "judges")]
    files = [weights / "model.safetensors", *(judge / "model.safetensors" for judge in used),
             *(Path(entry.partition("=")[2]) for entry in outliers)]  # fmt: skip
    contents = [file_sha256(path) for path in files if path.is_file()]
    told = f"{MEASURED} {contents} {outliers} {seed}"
    target = folder / f"evaluation_{hashlib.sha256(told.encode()).hexdigest()[:8]}.json"
    if not target.exists():
        with tempfile.TemporaryDirectory() as judges:
            for judge in used:
                shutil.copytree(judge, Path(judges) / judge.name)
            further = [word for entry in outliers for word in ("--outliers", entry)]
            further += [] if seed is None else ["--seed", str(seed)]
            command("evaluate", str(model), "--judges", judges, *further, "--output", str(target))
    evaluation: dict[str, Any] = json.loads(target.read_text())
    return evaluation


def history(folder: Path) -> dict[str, Any]:
    """Returns where a run comes from, and how the ELBO of the selection split rose."""
    provenance = json.loads((folder / "provenance.json").read_text())
    names = ("commit", "seed", "threads", "seconds", "versions", "hardware")
    rows = RunFolder(folder).read_metrics()
    elbos = {str(row["iteration"]): row["elbo"] for row in rows if row["stage"] == "vae_selection"}
    return {"provenance": {name: provenance.get(name) for name in names}, "selection_elbo": elbos}


def write(path: Path, result: dict[str, Any]) -> None:
    """Writes results as JSON."""
    write_bytes(path, (json.dumps(result, indent=1, sort_keys=True) + "\n").encode())


def run(runs: Path, outliers: list[str], only: list[str]) -> None:
    """Trains and measures what is missing."""
    for name in only or list(RUNS):
        folder = runs / name
        train_run(folder, ["mnist", *RUNS[name]])
        evaluation = measure(folder, folder, outliers)
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        entry = {"command": ["vaebm", "train", "mnist", *RUNS[name]], "evaluation": evaluation, **history(folder)}
        write(RESULTS, {**results, name: entry})


def picture(model: VAEBM, rows: int = 8) -> NDArray[np.uint8]:
    """Returns VAE samples beside VAEBM samples from the same noise, for the README."""
    noise = start_noise(model, rows * rows, torch.Generator().manual_seed(7))
    steps, kernel = (0, model.sampling["num_steps"]), SamplingConfig(**model.sampling).kernel
    seen = snapshots(model, noise, steps, kernel=kernel, generator=torch.Generator().manual_seed(8))
    grids = [image_grid(to_uint8(look.images), rows, scale=2) for look in seen]
    gap = np.full((grids[0].shape[0], 24, 3), 255, np.uint8)
    return np.concatenate([grids[0], gap, grids[1]], axis=1)


def portable(text: str, folder: Path) -> str:
    """Returns a text without the paths of the machine that it comes from."""
    return (
        text.replace(str(folder.resolve()), "RUN").replace(str(folder), "RUN").replace(f"{ROOT.parent.resolve()}/", "")
    )


def bundle(folder: Path, outliers: list[str]) -> None:
    """Makes the bundled model out of a run, and measures it as stored."""
    train_run(folder, ["mnist", *BUNDLE])
    loaded = read_model(folder)
    config: Config = from_dict(Config, loaded.details["config"])
    model = loaded.model.half().float()
    splits = load_splits(config.data.source, config.data.split_seed)
    calibration = calibrate(model, splits.calibration, config.evaluation.num_posterior_samples)
    save(model, BUNDLED, calibration=calibration, details=loaded.details, dtype=torch.float16)
    evaluation = measure(BUNDLED, folder, outliers)
    provenance = json.loads(portable((folder / "provenance.json").read_text(), folder))
    card = write_card("mnist", model, config, provenance, cast(Evaluation, evaluation), len(splits.training))
    save(model, BUNDLED, calibration=calibration, card=card, details=loaded.details, dtype=torch.float16)
    size = sum(path.stat().st_size for path in BUNDLED.iterdir()) / 1e6
    entry = {"command": ["vaebm", "train", "mnist", *BUNDLE], "evaluation": evaluation, **history(folder)}
    write(BUNDLED_RESULTS, {"megabytes": round(size, 2), **entry})
    BUNDLED_RESULTS.with_suffix(".log").write_text(portable((folder / "log.txt").read_text(), folder))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(png_bytes(picture(model)))
    print(f"{BUNDLED}: {size:.2f} MB")


def draws(folder: Path) -> None:
    """Adds to the bundled model's results what other draws of samples give."""
    folder.mkdir(parents=True, exist_ok=True)
    entry = json.loads(BUNDLED_RESULTS.read_text())
    others = [measure(BUNDLED, folder, [], seed) for seed in DRAWS]
    entry["other_draws"] = [{name: other[name] for name in ("seed", "quality", "steps_curve")} for other in others]
    write(BUNDLED_RESULTS, entry)


def _spread(values: list[float], digits: int = 2) -> str:
    mean = statistics.mean(values)
    return f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"


QUALITY = (
    "model", "judge", "floor", "VAE", "VAEBM", "closed, %", "kernel × 1000: VAE", "kernel × 1000: VAEBM",
    "precision", "recall", "density", "coverage", "class shares",
)  # fmt: skip


def _quality(results: dict[str, Any]) -> list[str]:
    lines = [f"| {' | '.join(QUALITY)} |", "|---" * len(QUALITY) + "|", *_floors(results)]
    for kind, title in KINDS.items():
        entries = [entry for name, entry in results.items() if name.startswith(kind) and entry["evaluation"]]
        chosen = [evaluation["quality"] for entry in entries for evaluation in _draws(entry)]
        count = f"{len(entries)} seed{'s' * (len(entries) > 1)}"
        if len(chosen) > len(entries):
            count += f", {len(chosen)} draws of samples"
        for judge in dict.fromkeys(row["judge"] for row in (chosen[0] if chosen else [])):
            rows = [row for quality in chosen for row in quality if row["judge"] == judge]
            lines.append(f"| {title} ({count}) | {judge} | {' | '.join(_cells(rows))} |")
    return lines


def _draws(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry["evaluation"], *entry.get("other_draws", [])]


def _floors(results: dict[str, Any]) -> list[str]:
    """Returns a row for each judge: as many training images in the place of samples."""
    rows = [row for row in _first(results)["quality"] if row["what"] == "floor"]
    return [
        f"| training images: the floor | {row['judge']} | {row['frechet']:.2f} | | | | | {1000 * row['kernel']:.2f} | "
        f"{' | '.join(format(row[key], '.2f') for key in ('precision', 'recall', 'density', 'coverage'))} | "
        f"{min(row['shares']):.3f}–{max(row['shares']):.3f} |"
        for row in rows
    ]


def _first(results: dict[str, Any]) -> dict[str, Any]:
    evaluation: dict[str, Any] = next(e for name, e in results.items() if name.startswith("sampled"))["evaluation"]
    return evaluation


def _cells(rows: list[dict[str, Any]]) -> list[str]:
    def show(what: str, key: str, factor: float = 1, digits: int = 2) -> str:
        return _spread([factor * row[key] for row in rows if row["what"] == what], digits)

    shares = [share for row in rows if row["what"] == "VAEBM" for share in row["shares"]]
    return [
        *(show(what, "frechet") for what in ("floor", "VAE", "VAEBM")),
        show("VAEBM", "closed", 100, 1),
        *(show(what, "kernel", 1000) for what in ("VAE", "VAEBM")),
        *(show("VAEBM", key) for key in ("precision", "recall", "density", "coverage")),
        f"{min(shares):.3f}–{max(shares):.3f}",
    ]


def _of_each_kind(results: dict[str, Any], figure: str) -> dict[str, list[list[dict[str, Any]]]]:
    """Returns the rows of a figure, run by run, for each kind that was measured."""
    chosen = {
        KINDS[kind]: [
            evaluation[figure]
            for name, entry in results.items()
            if name.startswith(kind)
            for evaluation in _draws(entry)
            if evaluation.get(figure)
        ]
        for kind in KINDS
    }
    return {title: runs for title, runs in chosen.items() if runs}


def _outliers(results: dict[str, Any]) -> list[str]:
    lines = ["| model | outliers | energy | ELBO | joint |", "|---" * 5 + "|"]
    for title, runs in _of_each_kind(results, "outliers").items():
        for name in dict.fromkeys(row["set"] for row in runs[0]):
            cells = []
            for score in ("energy", "elbo", "joint"):
                rows = [row["auroc"] for run in runs for row in run if (row["set"], row["score"]) == (name, score)]
                if not rows:
                    cells.append("not finite")
                    continue
                low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
                cells.append(f"{_spread([row['value'] for row in rows], 3)} [{low:.3f}, {high:.3f}]")
            lines.append(f"| {title} | {name} | {' | '.join(cells)} |")
    return lines


def _steps(results: dict[str, Any]) -> list[str]:
    curves = _of_each_kind(results, "steps_curve")
    steps = sorted({row["num_steps"] for runs in curves.values() for run in runs for row in run})
    lines = [f"| model | judge | {' | '.join(map(str, steps))} | last / smallest |", "|---" * (len(steps) + 3) + "|"]
    for title, runs in curves.items():
        for judge in dict.fromkeys(row["judge"] for row in runs[0]):
            own = [{row["num_steps"]: row["frechet"] for row in run if row["judge"] == judge} for run in runs]
            cells = [_spread([curve[step] for curve in own]) if step in own[0] else "" for step in steps]
            ratio = _spread([curve[max(curve)] / min(curve.values()) for curve in own])
            lines.append(f"| {title} | {judge} | {' | '.join(cells)} | {ratio} |")
    return lines


def _p_values(results: dict[str, Any]) -> list[str]:
    levels = (0.01, 0.05, 0.1)
    lines = [f"| model | {' | '.join(f'p ≤ {level}' for level in levels)} |", "|---" * (len(levels) + 1) + "|"]
    for title, runs in _of_each_kind(results, "p_values").items():
        cells = [
            _spread([100 * row["measured"] for run in runs for row in run if row["level"] == level]) for level in levels
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _elbos(results: dict[str, Any]) -> list[str]:
    lines = ["| VAE | " + " | ".join(f"{share:.0%}" for share in ELBO_SHARES) + " |"]
    lines.append("|---" * (len(ELBO_SHARES) + 1) + "|")
    for kind, title in KINDS.items():
        chosen = [entry["selection_elbo"] for name, entry in results.items() if name.startswith(kind)]
        if not chosen:
            continue
        iterations = sorted(map(int, chosen[0]))
        places = [iterations[round(share * len(iterations)) - 1] for share in ELBO_SHARES]
        cells = [_spread([elbos[str(place)] for elbos in chosen], 1) for place in places]
        lines.append(f"| {title}, {iterations[-1]:,} iterations | {' | '.join(cells)} |")
    return lines


def _time(provenance: dict[str, Any]) -> str:
    threads = provenance["threads"]
    return f"{sum(provenance['seconds'].values()) / 60:.1f} minutes ({threads} thread{'s' * (threads > 1)})"


def _caption(results: dict[str, Any]) -> str:
    first = _first(results)
    hashes = {row["judge"]: row["judge_sha256"][:12] for row in first["quality"]}
    judges = ", ".join(f"{name} ({digest}…)" for name, digest in hashes.items())
    times = "; ".join(f"{name} {_time(entry['provenance'])}" for name, entry in results.items())
    return (
        f"{first['n']:,} samples of {first['num_steps']} Langevin steps{_others(results)} against the 10,000 test "
        f"images, evaluation seed {first['seed']}. Fréchet distances on features of digit classifiers, mean ± standard "
        "deviation over seeds, or over draws of samples of one seed. `closed` is the share of the way from the VAE to "
        "the floor (as many training images). Judges, with the beginning of the hash of their tensors: "
        f"{judges}. `digits_apart` takes part in no choice; it is not installed with the package (`vaebm evaluate RUN "
        f"--judges benchmarks/judges`). Wall times, some beside other work: {times}."
    )


def _others(results: dict[str, Any]) -> str:
    """Returns which kinds run more or fewer steps than the first, in brackets; nothing if none does."""
    usual = _first(results)["num_steps"]
    found = {}
    for name, entry in results.items():
        steps = entry["evaluation"].get("num_steps", usual)
        if steps != usual:
            found[KINDS[name.split("-")[0]]] = steps
    return f" ({'; '.join(f'{steps}: {title}' for title, steps in found.items())})" if found else ""


def table(readme: Path) -> None:
    """Writes the tables between the markers of the README."""
    stored = json.loads(RESULTS.read_text())
    results = {name: stored[name] for name in RUNS if name in stored}
    results["bundled"] = json.loads(BUNDLED_RESULTS.read_text())
    text = [
        _caption(results),
        "", *_quality(results),
        "", "The ELBO of the selection split, in nats, after a share of the VAE's iterations:", "", *_elbos(results),
        "", "The Fréchet distance after so many Langevin steps:", "", *_steps(results),
        "", "Outliers: AUROC with MNIST's 10,000 test images as normal and as many outliers, and the lowest and the "
        "highest end of 95 % intervals (200 bootstrap resamples):", "", *_outliers(results),
        "", "p-values: the test images, in percent of 10,000, that would be flagged:", "", *_p_values(results), "",
        "Made by `python benchmarks/mnist.py run`, `bundle` (both with `--outliers \"fashion mnist=fashion.npz\"`), "
        "`draws` and `table` from [mnist.json](benchmarks/results/mnist.json) and "
        "[bundled_mnist.json](benchmarks/results/bundled_mnist.json).",
    ]  # fmt: skip
    put_table(readme, "mnist", text)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "bundle", "draws", "table"))
    parser.add_argument("--runs", type=Path, default=Path("runs/mnist"), help="where run folders lie")
    parser.add_argument("--outliers", action="append", default=[], metavar="NAME=PATH", help="further outlier sets")
    parser.add_argument("--readme", type=Path, default=README, help="where the tables go")
    parser.add_argument("--only", action="append", default=[], choices=list(RUNS), help="only these runs")
    options = parser.parse_args()
    if options.what == "run":
        run(options.runs, options.outliers, options.only)
    elif options.what == "bundle":
        bundle(options.runs / "bundled", options.outliers)
    elif options.what == "draws":
        draws(options.runs / "bundled")
    else:
        table(options.readme)


if __name__ == "__main__":
    sys.exit(ended(main))
