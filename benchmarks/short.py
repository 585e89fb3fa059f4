"""The short version of every slow command, so that none of them can rot; runs in ``make check``.

    python benchmarks/short.py

Each line is a command of the README or of ``benchmarks/`` with its sizes cut down; it must end with exit code 0 and
leave the files that it promises.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vaebm.data import load_images

SMALL = [
    "--vae.num_iterations", "60", "--energy.num_iterations", "12", "--evaluation.num_samples", "300",
    "--evaluation.steps_curve", "[0, 5]", "--sampling.num_steps", "5", "--selection.num_samples", "100",
    "--evaluation.num_posterior_samples", "1",
]  # fmt: skip


def vaebm(*arguments: str) -> None:
    """Runs one command line and shows how long it took."""
    print("$ vaebm", *arguments, flush=True)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "vaebm", *arguments], check=True, stdout=subprocess.DEVNULL)
    print(f"  {time.monotonic() - began:.1f} s", flush=True)


def main() -> None:
    """Runs them all in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "run"
        vaebm("train", "mnist", "--output", str(run), "--seed", "1", *SMALL)
        vaebm("sample", "mnist", "-n", "64", "--output", str(folder / "grid.png"))
        vaebm("sample", str(run), "--chain", str(folder / "chain.gif"))
        vaebm("evaluate", str(run), "-n", "200", "--output", str(folder / "evaluation.json"))
        np.savez(folder / "images.npz", images=load_images("mnist").images[:50])
        vaebm("score", str(run), str(folder / "images.npz"), "--output", str(folder / "scores.csv"))
        missing = [
            path
            for path in ("run/report.html", "grid.png", "chain.gif", "evaluation.json", "scores.csv")
            if not (folder / path).stat().st_size
        ]
        assert not missing, missing


if __name__ == "__main__":
    main()
