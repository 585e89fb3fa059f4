"""Images of one's own: what ``vaebm train --data`` makes of three folders, each within its budget.

    python benchmarks/images.py folders --cifar10 cifar10.npz --photographs FOLDER --output data
    python benchmarks/images.py run --data data --budget 30m --runs runs

``folders`` makes three folders of files out of real images:

* ``cifar10``: 5,000 images of CIFAR-10 (the first of its training images), png, 32×32, colour, a sub-folder a class;
* ``photographs``: each photograph of a folder brought to a width of 1,280 pixels, and cut into patches of 64×64, png;
* ``elevations``: the elevations around the Jacksboro fault that matplotlib brings as an example, in metres, cut into
  patches of 32×32 every 4 pixels, 16-bit grey png. Neighbours overlap, and so do training and test images.

``run`` trains on each as a user would, unless the folder of runs has a finished run of it, and writes what the runs
measured to ``benchmarks/results/images.json``, the reports beside it and the table into ``docs/images.md``. The
photographs measured there are those of the folder ``nature`` of Debian's package mate-backgrounds 1.26.0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from endings import ended
from forked import run_vaebm
from tables import put_table
from vaebm.checkpoint import write_bytes

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "images.json"
DOCS = ROOT.parent / "docs" / "images.md"
SIZES = {"cifar10": 32, "photographs": 64, "elevations": 32}
NUM_CIFAR, WIDTH = 5000, 1280
PATTERNS = ("*.jpg", "*.jpeg", "*.png")


def save(pixels: NDArray[Any], folder: Path, name: str) -> None:
    """Writes one picture."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{name}.png")


def cifar10(source: Path, folder: Path) -> None:
    """Writes 5,000 images of an npz file with train_x (N, 32, 32, 3) and train_y (N,)."""
    with np.load(source) as arrays:
        images, labels = arrays["train_x"][:NUM_CIFAR], arrays["train_y"][:NUM_CIFAR]
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        save(image, folder / str(int(label)), f"{index:05d}")


def patches(pixels: NDArray[Any], size: int, every: int) -> list[NDArray[Any]]:
    """Returns the square patches of a picture (H, W) or (H, W, C) at every so many pixels."""
    height, width = pixels.shape[:2]
    tops, lefts = range(0, height - size + 1, every), range(0, width - size + 1, every)
    return [pixels[top : top + size, left : left + size] for top in tops for left in lefts]


def photographs(source: Path, folder: Path) -> None:
    """Cuts the photographs of a folder into patches."""
    files = sorted(path for pattern in PATTERNS for path in source.glob(pattern))
    for path in files:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        height = round(picture.height * WIDTH / picture.width)
        pixels = np.asarray(picture.resize((WIDTH, height), Image.Resampling.LANCZOS))
        for index, patch in enumerate(patches(pixels, 64, 64)):
            save(patch, folder, f"{path.stem}_{index:03d}")


def elevations(folder: Path, every: int = 4) -> None:
    """Cuts the elevations of matplotlib's example into patches of 16 bits, at every so many pixels."""
    import matplotlib

    with np.load(Path(matplotlib.get_data_path()) / "sample_data" / "jacksboro_fault_dem.npz") as arrays:
        metres = arrays["elevation"].astype(np.uint16)
    for index, patch in enumerate(patches(metres, 32, every)):
        save(patch, folder, f"{index:04d}")


def train(name: str, data: Path, runs: Path, budget: str, options: Sequence[str]) -> None:
    """Trains on one folder, as a user would."""
    folder = runs / name
    words = ["train", "--data", str(data / name), "--image-size", str(SIZES[name]), "--budget", budget]
    words += ["--output", str(folder), *options]
    print("$ vaebm", *words, flush=True)
    run_vaebm(words)


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Returns what a finished run measured."""
    evaluation = json.loads((folder / "evaluation.json").read_text())
    provenance = json.loads((folder / "provenance.json").read_text())
    kept = ("command", "seconds", "commit", "versions", "threads", "precision", "hardware")
    return {
        "name": name,
        "config": yaml.safe_load((folder / "config.yaml").read_text()),
        **{key: provenance[key] for key in kept},
        **{key: evaluation[key] for key in ("n", "seed", "num_steps", "quality", "steps_curve", "p_values", "outliers")
           if key in evaluation},
    }  # fmt: skip


def kernel(row: dict[str, Any], what: str) -> dict[str, float]:
    """Returns the kernel distance of the floor, the VAE or the VAEBM."""
    found: dict[str, float] = next(entry["kernel_interval"] for entry in row["quality"] if entry["what"] == what)
    return found


def is_better(row: dict[str, Any]) -> bool:
    """Whether the VAEBM's interval lies below that of its VAE."""
    return kernel(row, "VAEBM")["high"] < kernel(row, "VAE")["low"]


def written(figure: dict[str, float]) -> str:
    """Returns a figure with its interval."""
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def table(results: Path, document: Path) -> None:
    """Writes the table into a document."""
    rows = json.loads(results.read_text())
    lines = [
        "| images | training | minutes | kernel distance: VAE | VAEBM | real images | apart | flagged at 1, 5, 10 % |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        minutes = sum(row["seconds"].values()) / 60
        rates = ", ".join(f"{100 * entry['measured']:.1f} %" for entry in row["p_values"])
        count = row["num_training"]
        lines.append(
            f"| {row['name']} | {count:,} | {minutes:.0f} | {written(kernel(row, 'VAE'))} | "
            f"{written(kernel(row, 'VAEBM'))} | {written(kernel(row, 'floor'))} | "
            f"{'yes' if is_better(row) else 'no'} | {rates} |"
        )
    put_table(document, "images", lines)


def num_training(data: Path, name: str) -> int:
    """Returns the number of training images of a folder."""
    from vaebm.data import Preprocessing, load_splits

    size = SIZES[name]
    return len(load_splits(str(data / name), 0, Preprocessing(image_size=(size, size))).training)


def record(name: str, row: dict[str, Any], options: argparse.Namespace) -> None:
    """Writes one row into the results, and the report of its run beside them; the folders become data and runs."""

    def plain(text: str) -> str:
        return text.replace(str(options.data), "data").replace(str(options.runs), "runs")

    known = json.loads(options.results.read_text()) if options.results.exists() else []
    rows = {entry["name"]: entry for entry in known} | {name: json.loads(plain(json.dumps(row)))}
    ordered = [rows[key] for key in SIZES if key in rows]
    write_bytes(options.results, (json.dumps(ordered, indent=1) + "\n").encode())
    if options.results == RESULTS:
        report = (options.runs / name / "report.html").read_text(encoding="utf-8")
        (RESULTS.parent / f"images_{name}.html").write_text(plain(report), encoding="utf-8")
        table(RESULTS, DOCS)


def run(options: argparse.Namespace) -> None:
    """Trains on the folders that are there and writes results; a folder that is not trained anew keeps its row."""
    for name in options.only or list(SIZES):
        folder = options.runs / name
        if not (options.data / name).is_dir():
            print(f"there is no folder {options.data / name}: left out", flush=True)
            continue
        if not (folder / "report.html").is_file():
            train(name, options.data, options.runs, options.budget, options.options)
        row = {**measured(name, folder), "num_training": num_training(options.data, name)}
        record(name, row, options)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    folders = verbs.add_parser("folders", help="make the three folders")
    folders.add_argument("--cifar10", type=Path, metavar="FILE", help="an npz file with train_x and train_y")
    folders.add_argument("--photographs", type=Path, metavar="FOLDER", help="a folder of photographs")
    folders.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the folders go")
    folders.add_argument("--every", type=int, default=4, help="pixels between patches of elevations (default 4)")
    runs = verbs.add_parser("run", help="train on them and measure")
    runs.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where the folders are")
    runs.add_argument("--runs", type=Path, required=True, metavar="FOLDER", help="where runs go")
    runs.add_argument("--budget", default="30m", help="of each (default 30m)")
    runs.add_argument("--only", action="append", default=[], choices=list(SIZES), help="only these")
    runs.add_argument("--results", type=Path, default=RESULTS, help="where results go; elsewhere, no table is made")
    runs.add_argument("options", nargs="*", help="further options of vaebm train, behind --")
    tables = verbs.add_parser("table", help="only fill the table of a document")
    tables.add_argument("--document", type=Path, default=DOCS)
    tables.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.verb == "table":
        table(options.results, options.document)
    elif options.verb == "run":
        run(options)
    else:
        if options.cifar10:
            cifar10(options.cifar10, options.output / "cifar10")
        if options.photographs and options.photographs.is_dir():
            photographs(options.photographs, options.output / "photographs")
        elif options.photographs:
            print(f"there is no folder {options.photographs}: left out", flush=True)
        elevations(options.output / "elevations", options.every)


if __name__ == "__main__":
    sys.exit(ended(main))
