"""The small twins of the paper's recipes, trained on this CPU: what the energy network adds to its NVAE.

    python benchmarks/small.py run stacked_mnist-small
    python benchmarks/small.py run cifar10-small --source cifar10.npz
    python benchmarks/small.py collect RUN [--first RUN]
    python benchmarks/small.py bundle RUN [--first RUN]
    python benchmarks/small.py table docs/nvae.md

``run`` trains the recipe with ``vaebm train`` in ``runs/small/NAME``, or goes on where it was stopped, and collects.
``collect`` takes what a finished run measured, the bits per dimension of all test images with uniform noise of one grey
level (``--num-test`` of them if given), the log, and a picture of samples, the VAE's left, the VAEBM's right, from the
same noise. Written to ``benchmarks/results/small.json``, ``NAME.log`` and ``NAME.png``. ``bundle`` makes the model of a
finished run one of the package's, by the name of its recipe; its images are named, not their place on this machine.
``--first`` names the run that made the VAE, where ``--initial_vae`` took it from another: its time and log come first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

import vaebm
from endings import ended
from forked import train_run
from tables import put_table
from vaebm.applications import snapshots, start_noise
from vaebm.checkpoint import RunFolder, write_bytes
from vaebm.cli.known_images import known_splits
from vaebm.data import to_float, to_uint8
from vaebm.distributions import bits_per_dim
from vaebm.models import VAEBM
from vaebm.plots import image_grid, png_bytes
from vaebm.recipes import Config, config_class, from_dict, load_extractor, read_model, save
from vaebm.recipes.config import SamplingConfig

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "small.json"
BUNDLED = ROOT.parent / "src" / "vaebm" / "checkpoint" / "bundled"
SIDE, BATCH, GAP = 8, 250, 8
PAPER_VAE, PAPER_VAEBM = 51.67, 12.19


@torch.no_grad()
def test_bits(model: VAEBM, images: Tensor) -> float:
    """Returns the bits per dimension of images (N, C, H, W) with uniform noise of a grey level, by the ELBO."""
    generator, total = torch.Generator().manual_seed(0), torch.zeros((), dtype=torch.float64)
    for batch in torch.split(images, BATCH):
        noisy = batch + (torch.rand(batch.shape, generator=generator) - 0.5) * 2 / 255
        latent = torch.randn(len(batch), model.noise_layout.latent_size, generator=generator)
        total += model.vae.elbo_terms(noisy, latent).elbo.double().sum()
    return float(bits_per_dim(total / len(images), images[0].numel()))


def picture(model: VAEBM) -> NDArray[np.uint8]:
    """Returns samples of the VAE and of the VAEBM from the same noise, side by side."""
    generator = torch.Generator().manual_seed(0)
    noise = start_noise(model, SIDE**2, generator)
    steps, kernel = int(model.sampling["num_steps"]), SamplingConfig(**model.sampling).kernel
    grids = [
        image_grid(to_uint8(look.images), SIDE, scale=2)
        for look in snapshots(model, noise, (0, steps), kernel=kernel, generator=generator)
    ]
    white = np.full((grids[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([grids[0], white, grids[1]], axis=1)


class Beginning(NamedTuple):
    """What a run tells of the VAE that another one takes: the seconds of stage 1, and the log."""

    seconds: dict[str, float]
    log: str


def beginning(first: Path | None) -> Beginning:
    """Returns what the run tells that made the VAE; nothing if it was the same one."""
    if first is None:
        return Beginning({}, "")
    run = RunFolder(first).open()
    stored = run.load_checkpoint("last") or {"seconds": {}}
    return Beginning({"vae": round(stored["seconds"]["vae"], 1)}, run.log.read_text())


def places_of(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Returns what stands for the folders of this machine that a run names."""
    source, vae = config["data"]["source"], config["initial_vae"]
    return {str(folder): "RUN", source: Path(source).name, **({vae: "the VAE of stage 1"} if vae else {})}


def collect(folder: Path, results: Path, num_test: int, first: Path | None) -> None:
    """Takes over what a finished run has, and measures its VAE."""
    run = RunFolder(folder).open()
    values = yaml.safe_load(run.config.read_text())
    config: Config = from_dict(config_class(values), values)
    provenance, evaluation = run.read_provenance(), json.loads(run.evaluation.read_text())
    name, places, before = provenance["command"][2], places_of(folder, values), beginning(first)
    provenance["seconds"] = {**before.seconds, **provenance["seconds"]}
    model = vaebm.load(folder)
    test = known_splits(config, provenance.get("images", {})).test
    num_test = min(num_test or len(test), len(test))
    kept = ("judge", "judge_sha256", "what", "n", "seed", "frechet", "kernel", "kernel_interval", "closed", "shares",
            "precision", "recall", "density", "coverage", "confidence")  # fmt: skip
    row: dict[str, Any] = {
        "command": [_without_place(word, places) for word in provenance["command"]],
        "bits_per_dim": test_bits(model, to_float(test.images[:num_test])),
        "num_test": num_test,
        "num_steps": evaluation["num_steps"],
        "quality": [{key: _figure(key, entry[key]) for key in kept if key in entry} for entry in evaluation["quality"]],
        "steps_curve": evaluation["steps_curve"],
        "outliers": [entry for entry in evaluation["outliers"] if entry["score"] == "joint"],
        "provenance": {key: value for key, value in provenance.items() if key not in ("command", "images")},
    }
    known = json.loads(results.read_text()) if results.exists() else {}
    write_bytes(results, (json.dumps({**known, name: row}, indent=1) + "\n").encode())
    log = before.log.replace(str(first), "RUN") + run.log.read_text()
    results.with_name(f"{name}.log").write_text(_without_place(log, places))
    results.with_name(f"{name}.png").write_bytes(png_bytes(picture(model)))


def bundle(folder: Path, bundled: Path, first: Path | None) -> None:
    """Puts the model of a finished run, with its card and its calibration scores, among those of the package."""
    provenance, loaded = RunFolder(folder).open().read_provenance(), read_model(folder)
    name, config, images = provenance["command"][2], loaded.details["config"], loaded.details["images"]
    source = Path(config["data"]["source"]).name
    # The hashes stay, so that only the same images are taken for them.
    details = {
        **loaded.details,
        "config": {**config, "data": {**config["data"], "source": source}, "initial_vae": ""},
        "images": {**images, "path": ""},
        "seconds": {**beginning(first).seconds, **loaded.details.get("seconds", {})},
    }
    card = _without_place(loaded.card, places_of(folder, config))
    save(
        loaded.model, bundled / name, calibration=loaded.calibration, card=card, details=details,
        preprocessing=loaded.preprocessing,
    )  # fmt: skip
    print(f"{bundled / name}: {sum(path.stat().st_size for path in (bundled / name).iterdir()) / 1e6:.1f} MB")


def _without_place(text: str, places: Mapping[str, str]) -> str:
    """Returns a text in which folders of this machine are names."""
    for place, name in places.items():
        text = text.replace(place, name)
    return text


def _figure(key: str, value: Any) -> Any:
    """Returns a figure, but of a thousand class shares how many are missing."""
    return f"{sum(share == 0 for share in value)} of {len(value)} missing" if key == "shares" and value else value


def table(results: Path, document: Path) -> None:
    """Writes the tables into a document."""
    found = json.loads(results.read_text())
    lines = [
        "| recipe | judge | images | kernel distance, 95 % | Fréchet | of the way to the floor |",
        "|---" * 6 + "|",
    ]
    for name, row in found.items():
        for entry in row["quality"]:
            interval, closed = entry["kernel_interval"], entry.get("closed")
            lines.append(
                f"| `{name}` | {entry['judge']} | {entry['what']} | {interval['value']:.3f} "
                f"({interval['low']:.3f} to {interval['high']:.3f}) | {entry['frechet']:.4g} | "
                f"{'' if closed is None else f'{closed:.0%}'} |"
            )
    put_table(document, "small", lines)
    lines = ["| recipe | bits per dimension | Langevin steps | stage 1, stage 2, measuring, minutes | threads | "
             "Fréchet distance less by | kernel distance less by |", "|---" * 7 + "|"]  # fmt: skip
    for name, row in found.items():
        threads, seconds = row["provenance"]["threads"], row["provenance"]["seconds"]
        minutes = ", ".join(f"{seconds[stage] / 60:.0f}" for stage in ("vae", "energy", "evaluation"))
        lines.append(
            f"| `{name}` | {row['bits_per_dim']:.2f} | {row['num_steps']} | {minutes} | {threads} | "
            f"{_gains(row, lambda entry: entry['frechet'])} | "
            f"{_gains(row, lambda entry: entry['kernel_interval']['value'])} |"
        )
    lines.append(f"| the paper's CIFAR-10 | | | | | {1 - PAPER_VAEBM / PAPER_VAE:.0%} (FID) | |")
    put_table(document, "small-costs", lines)


def _gains(row: dict[str, Any], figure: Any) -> str:
    """Returns by how much a distance of each judge falls from the VAE to the VAEBM."""
    entries = {(entry["judge"], entry["what"]): figure(entry) for entry in row["quality"]}
    judges = dict.fromkeys(judge for judge, _ in entries)
    return ", ".join(f"{1 - entries[judge, 'VAEBM'] / entries[judge, 'VAE']:.0%}" for judge in judges)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "collect", "bundle", "table"))
    parser.add_argument("which", help="a recipe, a run, or a document")
    parser.add_argument("--source", default="", help="the images of a recipe that brings none")
    parser.add_argument("--runs", type=Path, default=Path("runs/small"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--first", type=Path, help="the run that made the VAE, if another one did")
    parser.add_argument("--bundled", type=Path, default=BUNDLED, help="the folder of the package's models")
    parser.add_argument("--num-test", type=int, default=0, help="test images for bits per dimension, 0 for all")
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Behind --: options of vaebm train.
    end = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:end])
    if options.what == "table":
        table(options.results, Path(options.which))
        return
    folder = Path(options.which)
    if options.what == "bundle":
        bundle(folder, options.bundled, options.first)
        return
    if options.what == "run":
        folder = options.runs / options.which
        if options.which != "stacked_mnist-small":
            # Its samples are judged by these, which is better known before hours of training than behind them.
            load_extractor()
        source = ["--data.source", options.source] if options.source else []
        train_run(folder, [options.which, *source, *words[end + 1 :]])
    collect(folder, options.results, options.num_test, options.first)


if __name__ == "__main__":
    sys.exit(ended(main))
