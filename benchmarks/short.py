"""The short version of every slow command, so that none of them can rot; runs in ``make check``.

    python benchmarks/short.py

Each line is a command of the README or of ``benchmarks/`` with its sizes cut down; it must end with exit code 0 and
leave the files that it promises. Left out: ``train_judges.py``, whose judges are committed, and ``mnist.py run``
and ``bundle``, which are ``vaebm train`` and ``vaebm evaluate`` with the configurations that are run here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vaebm.data import load_images

ROOT = Path(__file__).parent
SMALL = [
    "--vae.num_iterations", "60", "--energy.num_iterations", "12", "--evaluation.num_samples", "300",
    "--evaluation.steps_curve", "[0, 5]", "--sampling.num_steps", "5", "--selection.num_samples", "100",
    "--evaluation.num_posterior_samples", "1",
]  # fmt: skip

FEW = "{lengths: [2], energy: {num_steps: 2, batch_size: 8}}"
RIVALS = f"""vaebm: {FEW}
pixels-persistent: {FEW}
wgan-gp: {{adversarial: {{batch_size: 8, num_critic_steps: 1}}}}
"""

PROMISED = (
    "run/report.html",
    "grid.png",
    "chain.gif",
    "evaluation.json",
    "scores.csv",
    "scores.html",
    "bundled/cifar10-small/model.safetensors",
    "defects.json",
    "sheet.png",
    "mean/report.html",
    "vae.json",
    "gaussians.json",
    "density.json",
    "export.json",
    "scorer.onnx",
    "images.json",
    "false_alarms.json",
    "step.json",
    "step_attempts.json",
)


def run(*arguments: object) -> None:
    """Runs one command line and shows how long it took."""
    words = [str(argument) for argument in arguments]
    print("$", *words, flush=True)
    began = time.monotonic()
    program = ["-m", "vaebm"] if words[0] == "vaebm" else [words[0]]
    subprocess.run([sys.executable, *program, *words[1:]], check=True, stdout=subprocess.DEVNULL)
    print(f"  {time.monotonic() - began:.1f} s", flush=True)


def benchmarks(folder: Path, first: Path) -> None:
    """Runs the scripts of this folder."""
    few = ("--seconds", 1, "--only", "recipe", "--num-samples", 300)
    run(ROOT / "vae.py", *few, "--results", folder / "vae.json")
    tiny = {"vae.num_iterations": 1500, "energy.num_iterations": 20, "evaluation.grid_size": 200,
            "evaluation.num_samples": 100, "evaluation.num_draws": 1000, "evaluation.num_annealed": 10}  # fmt: skip
    where = ("--runs", folder / "gaussians", "--results", folder / "gaussians.json")
    cut = [f"--{name}={value}" for name, value in tiny.items()]
    run(ROOT / "gaussians.py", "--only", "official", "--seeds", 0, *where, "--", *cut)
    little = ("--num-samples", 100, "--num-draws", 500, "--steps", 5, "--temperatures", 3)
    run(ROOT / "density.py", *little, "--results", folder / "density.json")
    run(ROOT / "export.py", "--num-images", 20, "--results", folder / "export.json")
    for what in ("stage1", "stage2", "buffer"):
        some = ("--sizes", "tiny", "--repeats", 2, "--num-chains", 50)
        run(ROOT / "training.py", what, *some, "--results", folder / "training.json")
    kinds = ("--kinds", "digits", "NVAE")
    run(ROOT / "kills.py", "--kills", 20, "--jobs", 2, *kinds, "--results", folder / "kills.json")
    stressed = ("--jobs", 2, "--count", 1, "--runs", folder / "stress", "--results", folder / "stress.json")
    run(ROOT / "stress.py", "run", "digits", "--cells", 1, *stressed, "--", *SMALL)
    run(ROOT / "stress.py", "longer", "digits", *stressed, "--", *SMALL)
    cost = ("--recipes", "digits", "--repeats", 1)
    run(ROOT / "guard_cost.py", "run", *cost, "--results", folder / "guard_cost.json")
    run(
        ROOT / "scaling.py",
        "run",
        "--rounds",
        1,
        "--repeats",
        1,
        "--num-samples",
        8,
        "--results",
        folder / "scaling.json",
    )
    pictures(folder, first)


def pictures(folder: Path, first: Path) -> None:
    """Runs those of this folder's scripts that need images of their own, then those that fill documents."""
    np.savez(folder / "colours.npz", images=load_images("stacked_mnist").images[:400])
    lean = ("--source", folder / "colours.npz", "--runs", folder / "small", "--results", folder / "small.json")
    fewer = ["--vae.num_iterations", 6, "--vae.batch_size", 8, "--energy.batch_size", 4, "--energy.num_steps", 2,
             "--selection.num_steps", "[5]"]  # fmt: skip
    run(ROOT / "small.py", "run", "cifar10-small", *lean, "--", *SMALL, *fewer)
    run(ROOT / "small.py", "bundle", folder / "small" / "cifar10-small", "--bundled", folder / "bundled")
    run(ROOT / "defects.py", "run", "--short", "--results", folder / "defects.json")
    for document in (
        "README.md",
        "docs/training.md",
        "docs/density.md",
        "docs/scores.md",
        "docs/images.md",
        "docs/scaling.md",
        "docs/nvae.md",
        "docs/guard.md",
        "docs/evidence.md",
    ):
        shutil.copy(ROOT.parent / document, folder)
    own = folder / "own"
    run(ROOT / "images.py", "folders", "--output", own)
    folders = ("--data", own, "--runs", folder / "own_runs", "--results", folder / "images.json")
    brief = ("--budget", "1h", "--", *SMALL, "--selection.num_steps", "[5]", "--evaluation.num_test", 100)
    run(ROOT / "images.py", "run", "--only", "elevations", *folders, *brief)
    alarms = ("run", "--data", folder / "images.npz", "--num-fresh", 50, "--runs", folder / "alarms")
    run(ROOT / "false_alarms.py", *alarms, "--results", folder / "false_alarms.json", *brief)
    run(ROOT / "step.py", "--size", "tiny", "--repeats", 2, "--results", folder / "step.json")
    tried = ("--size", "tiny", "--batch-size", 4, "--repeats", 2, "--no-compile")
    run(ROOT / "step_attempts.py", *tried, "--results", folder / "step_attempts.json")
    tables(folder, first)


def tables(folder: Path, first: Path) -> None:
    """Runs those that fill documents, and the scripts of docs/evidence.md."""
    for script, document in (("step_attempts", "nvae"), ("step", "nvae"), ("stress", "guard")):
        to = ["table"] if script == "stress" else ["--table"]
        run(ROOT / f"{script}.py", *to, folder / f"{document}.md", "--results", folder / f"{script}.json")
    run(ROOT / "guard_cost.py", "table", folder / "guard.md", "--results", folder / "guard_cost.json")
    run(ROOT / "images.py", "table", "--results", folder / "images.json", "--document", folder / "images.md")
    run(ROOT / "reproduce.py", "survival", "--dry-run")
    evidence(folder, first)
    run(ROOT / "mnist.py", "table", "--readme", folder / "README.md")
    run(ROOT / "vae.py", "--table", folder / "training.md")
    run(ROOT / "defects.py", "table", "--document", folder / "scores.md")
    where = ("--document", folder / "scores.md", "--results", folder / "false_alarms.json")
    run(ROOT / "false_alarms.py", "table", *where)
    run(ROOT / "scaling.py", "table", folder / "scaling.md", "--results", folder / "scaling.json")
    for script in ("gaussians.py", "density.py"):
        run(ROOT / script, "--table", folder / "density.md")


def evidence(folder: Path, first: Path) -> None:
    """Runs the scripts whose figures stand in docs/evidence.md."""
    ranked = ("--model", first, "--others", folder / "images.npz", "--count", 20, "--regret-steps", 2)
    run(ROOT / "outlier_scores.py", "run", "mnist", *ranked, "--results", folder / "outliers.json")
    run(ROOT / "outlier_scores.py", "table", folder / "evidence.md", "--results", folder / "outliers.json")
    run(ROOT / "modes.py", "run", first, "--count", 60, "--results", folder / "modes.json")
    run(ROOT / "modes.py", "table", folder / "evidence.md", "--results", folder / "modes.json")
    short = ("--budget", "1s", "-n", 60, "--runs", folder / "rivals", "--results", folder / "rivals.json")
    (folder / "rivals.yaml").write_text(RIVALS)
    some = ("--rows", "vae,vaebm,pixels-persistent,wgan-gp", "--config", folder / "rivals.yaml")
    run(ROOT / "rivals.py", "run", "mnist", "--model", first, *short, *some)
    run(ROOT / "rivals.py", "table", folder / "evidence.md", "--results", folder / "rivals.json")
    run(ROOT / "evidence.py", folder / "evidence.md")


def main() -> None:
    """Runs them all in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, images = folder / "run", folder / "images.npz"
        run("vaebm", "train", "mnist", "--output", first, "--seed", 1, "--energy.num_steps", 6, *SMALL)
        (first / "report.html").unlink()
        run("vaebm", "train", "--resume", first)
        run("vaebm", "sample", "mnist", "-n", 64, "--output", folder / "grid.png")
        run("vaebm", "sample", first, "--chain", folder / "chain.gif")
        run("vaebm", "likelihood", first, "--num-draws", 200, "--num-chains", 10, "--temperatures", "3")
        run("vaebm", "evaluate", first, "-n", 200, "--output", folder / "evaluation.json")
        run("vaebm", "evaluate", first, "--fid", "classifiers", "-n", 100, "--bootstrap", 2)
        np.savez(images, images=load_images("mnist").images[:300])
        run("vaebm", "data", images, "--sheet", folder / "sheet.png")
        run("vaebm", "score", first, images, "--output", folder / "scores.csv", "--html", folder / "scores.html")
        run("vaebm", "export", first, "--onnx", folder / "scorer.onnx")
        for kind in ("mean", "converged", "groups", "bundled"):
            chosen = ("--data.source", images, "--config", ROOT / f"{kind}.yaml", "--output", folder / kind)
            run("vaebm", "train", "mnist", *chosen, *SMALL)
        benchmarks(folder, first)
        missing = [path for path in PROMISED if not (folder / path).stat().st_size]
        assert not missing, missing


if __name__ == "__main__":
    main()
