"""Makes the bundled model out of a run: half-precision weights, calibrated and measured as stored.

    vaebm train mnist --config benchmarks/bundled.yaml --output runs/bundled      # at most one hour
    python benchmarks/bundle.py runs/bundled mnist

Writes ``src/vaebm/checkpoint/bundled/NAME`` and ``benchmarks/results/bundled_NAME.json``, and copies the run's log.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch

from vaebm.cli.evaluation import calibrate
from vaebm.data import load_splits
from vaebm.recipes import Config, from_dict, read_model, save

ROOT = Path(__file__).parent
BUNDLED = ROOT.parent / "src" / "vaebm" / "checkpoint" / "bundled"


def main() -> None:
    """Bundles the run named on the command line."""
    run, name = Path(sys.argv[1]), sys.argv[2]
    loaded = read_model(run)
    config: Config = from_dict(Config, loaded.details["config"])
    model = loaded.model.half().float()
    splits = load_splits(config.data.source, config.data.split_seed)
    calibration = calibrate(model, splits.calibration, config.evaluation.num_posterior_samples)
    folder = BUNDLED / name
    save(model, folder, calibration=calibration, card=loaded.card, details=loaded.details, dtype=torch.float16)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    provenance = json.loads((run / "provenance.json").read_text())
    evaluation = json.loads((run / "evaluation.json").read_text())
    result = {"megabytes": round(size, 2), "provenance": provenance, "evaluation": evaluation}
    (ROOT / "results" / f"bundled_{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    shutil.copy(run / "log.txt", ROOT / "results" / f"bundled_{name}.log")
    print(f"{folder}: {size:.2f} MB")


if __name__ == "__main__":
    main()
