"""Makes the bundled model out of a run: half-precision weights, calibrated and measured as stored.

    vaebm train mnist --config benchmarks/bundled.yaml --output runs/bundled      # at most one hour
    python benchmarks/bundle.py runs/bundled mnist

Writes ``src/vaebm/checkpoint/bundled/NAME``, ``benchmarks/results/bundled_NAME.json`` and the README's picture, and
copies the run's log.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vaebm.applications import snapshots, start_noise
from vaebm.cli.evaluation import calibrate
from vaebm.data import load_splits, to_uint8
from vaebm.models import VAEBM
from vaebm.plots import image_grid, png_bytes
from vaebm.recipes import Config, from_dict, read_model, save
from vaebm.sampling import Langevin

ROOT = Path(__file__).parent
PICTURE = ROOT.parent / "docs" / "images" / "mnist.png"
BUNDLED = ROOT.parent / "src" / "vaebm" / "checkpoint" / "bundled"


def picture(model: VAEBM, rows: int = 8) -> NDArray[np.uint8]:
    """Returns VAE samples beside VAEBM samples from the same noise, for the README."""
    noise = start_noise(model, rows * rows, torch.Generator().manual_seed(7))
    steps = (0, model.sampling["num_steps"])
    kernel = Langevin(model.sampling["step_size"])
    seen = snapshots(model, noise, steps, kernel=kernel, generator=torch.Generator().manual_seed(8))
    grids = [image_grid(to_uint8(look.images), rows, scale=2) for look in seen]
    gap = np.full((grids[0].shape[0], 24, 3), 255, np.uint8)
    return np.concatenate([grids[0], gap, grids[1]], axis=1)


def portable(text: str, run: Path) -> str:
    """Returns a text with paths as they are from the root of the repository."""
    return text.replace(str(run), f"runs/{run.name}").replace(f"{ROOT.parent.resolve()}/", "")


def main() -> None:
    """Bundles the run named on the command line."""
    run, name = Path(sys.argv[1]), sys.argv[2]
    loaded = read_model(run)
    config: Config = from_dict(Config, loaded.details["config"])
    model = loaded.model.half().float()
    splits = load_splits(config.data.source, config.data.split_seed)
    calibration = calibrate(model, splits.calibration, config.evaluation.num_posterior_samples)
    folder = BUNDLED / name
    card = loaded.card.replace(str(run), name)
    save(model, folder, calibration=calibration, card=card, details=loaded.details, dtype=torch.float16)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    provenance = json.loads(portable((run / "provenance.json").read_text(), run))
    evaluation = json.loads((run / "evaluation.json").read_text())
    result = {"megabytes": round(size, 2), "provenance": provenance, "evaluation": evaluation}
    (ROOT / "results" / f"bundled_{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    (ROOT / "results" / f"bundled_{name}.log").write_text(portable((run / "log.txt").read_text(), run))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(png_bytes(picture(model)))
    print(f"{folder}: {size:.2f} MB")


if __name__ == "__main__":
    main()
