"""The short version of every slow command, so that none of them can rot; runs in ``make check``.

    python benchmarks/short.py

Each line is a command of the README or of ``benchmarks/`` with its sizes cut down; it must end with exit code 0 and
leave the files that it promises. As many run at a time as there are cores, of one thread each: what they time says
nothing. Each is a process of its own, forked from one that has imported what all of them import. Left out:
``train_judges.py``, whose judges are committed; ``mnist.py run`` and ``bundle``, which are ``vaebm train`` and ``vaebm
evaluate`` with the configurations that are run here; and ``rivals.py train``, which is one ``vaebm train``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeAlias

import numpy as np

from forked import Program
from vaebm.data import load_images

ROOT = Path(__file__).parent
MOST_JOBS = 4
SMALL = [
    "--vae.num_iterations", "40", "--vae.batch_size", "16", "--energy.num_iterations", "12",
    "--energy.batch_size", "8", "--evaluation.num_samples", "45", "--selection.num_candidates", "2",
    "--evaluation.steps_curve", "[0, 5]", "--sampling.num_steps", "5", "--selection.num_samples", "30",
    "--evaluation.num_posterior_samples", "1", "--evaluation.num_test", "200",
]  # fmt: skip
NARROW = ("--vae_network.widths", "[64,32]", "--energy_network.widths", "[16,32]", "--energy_network.num_hidden", "16")
BRIEF = ("--budget", "5h", "--", *SMALL, "--selection.num_steps", "[5]", "--vae_network.widths", "[8,16]",
         "--energy_network.widths", "[16,32]")  # fmt: skip

FEW = "{lengths: [2], energy: {num_steps: 2, batch_size: 8}}"
RIVALS = f"""vaebm: {FEW}
wgan-gp: {{adversarial: {{batch_size: 8, num_critic_steps: 1}}}}
"""

PROMISED = (
    "run/report.html",
    "grid.png",
    "chain.gif",
    "evaluation.json",
    "scores.csv",
    "scores.html",
    "models/cifar10-small/model.safetensors",
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
    "kills.json",
    "kills_nvae.json",
    "guard_cost.json",
    "scaling.json",
    "step.json",
    "step_attempts.json",
    "short_chains.json",
)

Command: TypeAlias = Sequence[object]
Chain: TypeAlias = Sequence[Command]


def run(command: Command) -> None:
    """Runs one command line and shows it, and how long it took."""
    words = [str(word) for word in command]
    began = time.monotonic()
    code = Program(words).wait()
    print(f"$ {' '.join(words)}\n  {time.monotonic() - began:.1f} s", flush=True)
    if code:
        raise SystemExit(f"exit code {code} of: {' '.join(words)}")


def at_once(
    chains: Sequence[Chain], beginning: Callable[[], None] = lambda: None, behind: Sequence[Chain] = ()
) -> None:
    """Runs chains of commands side by side, those of a chain one after the other; the first failure ends it.

    Arguments:
        chains: They run as soon as there is a place.
        beginning: Runs beside the first of them.
        behind: Chains that wait until that has ended.
    """
    failed = threading.Event()

    def follow(chain: Chain) -> None:
        for command in chain:
            if not failed.is_set():
                run(command)

    def wait_and_follow(begun: Future[None], chain: Chain) -> None:
        begun.result()
        follow(chain)

    with ThreadPoolExecutor(num_jobs()) as pool:
        begun = pool.submit(beginning)
        jobs = [begun, *(pool.submit(follow, chain) for chain in chains)]
        jobs += [pool.submit(wait_and_follow, begun, chain) for chain in behind]
        for ended in as_completed(jobs):
            if ended.exception() is not None:
                failed.set()
                pool.shutdown(wait=True, cancel_futures=True)
                ended.result()


def num_jobs() -> int:
    """Returns how many commands run at a time."""
    return min(MOST_JOBS, len(os.sched_getaffinity(0)))


def configurations(folder: Path) -> list[Chain]:
    """Returns the recipes that stand beside ``mnist``'s."""
    return [
        [("vaebm", "train", "mnist", "--data.source", folder / "images.npz", "--config", ROOT / f"{kind}.yaml",
          "--output", folder / kind, *SMALL, *NARROW)]
        for kind in ("mean", "converged", "groups", "bundled")
    ]  # fmt: skip


def verbs(folder: Path, first: Path) -> list[Chain]:
    """Returns the commands of the README."""
    images = folder / "images.npz"
    given = [
        ("vaebm", "sample", "mnist", "-n", 64, "--output", folder / "grid.png"),
        ("vaebm", "sample", first, "--chain", folder / "chain.gif"),
        ("vaebm", "likelihood", first, "--num-draws", 200, "--num-chains", 10, "--temperatures", "3"),
        ("vaebm", "evaluate", first, "-n", 200, "--steps", "0,5", "--output", folder / "evaluation.json"),
        ("vaebm", "data", images, "--sheet", folder / "sheet.png"),
        ("vaebm", "export", first, "--onnx", folder / "scorer.onnx"),
    ]
    page = [("vaebm", "score", first, folder / "few.npz", "--reference", images, "--output", folder / "scores.csv",
             "--html", folder / "scores.html")]  # fmt: skip
    return [given, page]


def survival(folder: Path) -> list[Chain]:
    """Returns the scripts about training that survives, the longest ones first."""
    stressed = ("digits", "--count", 1, "--runs", folder / "stress", "--results", folder / "stress.json")
    cost = ("--recipes", "digits", "--repeats", 1, "--turn", 2)
    scaled = ("--tiny", "--rounds", 1, "--repeats", 1, "--num-samples", 8)
    brief = ("--vae.num_iterations", 24, "--energy.num_iterations", 16, "--checkpoint_every", 4,
             "--evaluation.num_test", 20)  # fmt: skip
    narrow = ("--vae_network.groups", "[1,1]", "--vae_network.encoder_width", 4, "--vae_network.decoder_width", 4,
              "--energy_network.widths", "[4,4,4,4,4]", "--vae.num_iterations", 8, "--energy.num_iterations", 8,
              "--evaluation.num_test", 20)  # fmt: skip
    return [
        [("kills.py", "--kills", 6, "--kinds", "digits", "--forked", "--results", folder / "kills.json", "--",
          *brief)],
        [("kills.py", "--kills", 2, "--kinds", "NVAE", "--forked", "--results", folder / "kills_nvae.json", "--",
          *narrow)],
        [
            ("stress.py", "run", *stressed, "--cells", 1, "--", *SMALL),
            ("stress.py", "longer", *stressed, "--", *SMALL, "--energy.num_iterations", 6, "--energy.num_steps", 2),
        ],
        [("guard_cost.py", "run", *cost, "--results", folder / "guard_cost.json")],
        [("scaling.py", "run", *scaled, "--results", folder / "scaling.json")],
    ]  # fmt: skip


def own_images(folder: Path) -> list[Chain]:
    """Returns the scripts about images of one's own."""
    own, colours = folder / "own", folder / "colours.npz"
    folders = ("--data", own, "--runs", folder / "own_runs", "--results", folder / "images.json")
    alarms = ("run", "--data", folder / "images.npz", "--num-fresh", 50, "--runs", folder / "alarms")
    lean = ("--source", colours, "--runs", folder / "small", "--results", folder / "small.json")
    fewer = ("--selection.num_candidates", 1, "--evaluation.num_test", 60, "--vae.num_iterations", 6,
             "--vae.batch_size", 8, "--energy.batch_size", 4, "--energy.num_steps", 2, "--selection.num_steps", "[5]",
             "--vae_network.encoder_width", 8, "--vae_network.decoder_width", 8, "--vae_network.groups", "[1,1]",
             "--energy_network.widths", "[8,8,8,8,8]")  # fmt: skip
    return [
        [
            ("images.py", "folders", "--every", 12, "--output", own),
            ("images.py", "run", "--only", "elevations", *folders, *BRIEF),
        ],
        [("false_alarms.py", *alarms, "--results", folder / "false_alarms.json", *BRIEF)],
        [
            ("small.py", "run", "cifar10-small", *lean, "--", *SMALL, *fewer),
            ("small.py", "bundle", folder / "small" / "cifar10-small", "--bundled", folder / "models"),
        ],
        [("defects.py", "run", "--short", "--results", folder / "defects.json")],
    ]


def measurements(folder: Path) -> list[Chain]:
    """Returns the scripts that measure a stage, a step or a density."""
    tiny = {"vae.num_iterations": 20, "vae_network.scale_kind": "fixed", "vae_network.scale": 0.1,
            "energy.num_iterations": 20, "evaluation.grid_size": 64, "evaluation.latent_grid_size": 64,
            "evaluation.num_samples": 100, "evaluation.num_draws": 1000, "evaluation.num_annealed": 10}  # fmt: skip
    where = ("--runs", folder / "gaussians", "--results", folder / "gaussians.json")
    cut = [f"--{name}={value}" for name, value in tiny.items()]
    some = ("--sizes", "tiny", "--repeats", 2, "--num-chains", 50, "--results", folder / "training.json")
    tried = ("--size", "tiny", "--batch-size", 4, "--repeats", 2, "--no-compile")
    few = ("--seconds", 1, "--only", "recipe", "--num-samples", 300)
    return [
        [("gaussians.py", "--only", "official", "--seeds", 0, *where, "--", *cut)],
        [("training.py", what, *some) for what in ("stage1", "stage2", "buffer")],
        [
            ("step.py", "--size", "tiny", "--repeats", 2, "--results", folder / "step.json"),
            ("step_attempts.py", *tried, "--results", folder / "step_attempts.json"),
        ],
        [("vae.py", *few, "--results", folder / "vae.json"),
         ("export.py", "--num-images", 20, "--results", folder / "export.json")],
    ]  # fmt: skip


def evidence(folder: Path, first: Path) -> list[Chain]:
    """Returns the scripts whose figures stand in docs/evidence.md."""
    ranked = ("--model", first, "--others", folder / "colours.npz", "--count", 20, "--regret-steps", 2,
              "--num-reference", 200)  # fmt: skip
    short = ("--budget", "1s", "-n", 60, "--runs", folder / "rivals", "--results", folder / "rivals.json")
    some = ("--rows", "vae,vaebm,wgan-gp", "--config", folder / "rivals.yaml")
    little = ("--num-samples", 50, "--num-draws", 200, "--steps", 5, "--temperatures", 3)
    return [
        [("density.py", "--model", first, *little, "--results", folder / "density.json")],
        [("rivals.py", "run", "mnist", "--model", first, *short, *some)],
        [
            (
                "outlier_scores.py",
                "run",
                "mnist",
                *ranked,
                "--runs",
                folder / "ranked",
                "--results",
                folder / "outliers.json",
            )
        ],
        [
            ("modes.py", "run", first, "--count", 60, "--results", folder / "modes.json"),
            ("standard_scores.py", "run", first, "-n", 60, "--results", folder / "standard_scores.json"),
            ("short_chains.py", "run", first, "-n", 30, "--steps", 1, 2, "--results", folder / "short_chains.json"),
        ],
        [("reproduce.py", "survival", "--dry-run")],
    ]


def tables(folder: Path) -> list[Chain]:
    """Returns the scripts that fill documents, those of a document in one chain."""

    def results(name: str) -> tuple[object, ...]:
        return ("--results", folder / f"{name}.json")

    evidence_page, scores_page, guard_page = (folder / f"{name}.md" for name in ("evidence", "scores", "guard"))
    rivals_page = folder / "benchmark.md"
    nvae_page, density_page = folder / "nvae.md", folder / "density.md"
    return [
        [
            *((f"{name}.py", "table", evidence_page, *results(name))
              for name in ("modes", "short_chains", "standard_scores")),
            ("evidence.py", evidence_page),
        ],
        [("scaling.py", "table", folder / "scaling.md", "--recipes", "cifar10-small", *results("scaling"))],
        [
            ("small.py", "table", nvae_page, *results("small")),
            *((f"{name}.py", "--table", nvae_page, *results(name)) for name in ("step_attempts", "step")),
        ],
        [(f"{name}.py", "table", guard_page, *results(name)) for name in ("stress", "guard_cost")],
        [("kills.py", "--table", folder / "kills.md", *results("kills"))],
        [
            ("defects.py", "table", "--document", scores_page),
            ("outlier_scores.py", "table", scores_page, *results("outliers")),
            ("false_alarms.py", "table", "--document", scores_page, *results("false_alarms")),
        ],
        [(f"{name}.py", "--table", density_page) for name in ("gaussians", "density")],
        [("images.py", "table", "--document", folder / "images.md", *results("images"))],
        [("mnist.py", "table", "--readme", folder / "README.md")],
        [("vae.py", "--table", folder / "training.md")],
        [("rivals.py", "table", rivals_page, *results("rivals"))],
    ]  # fmt: skip


def prepare(folder: Path) -> None:
    """Writes images, settings and copies of documents into a folder."""
    images = load_images("mnist").images[:300]
    np.savez(folder / "images.npz", images=images)
    np.savez(folder / "few.npz", images=images[:50])
    np.savez(folder / "colours.npz", images=load_images("stacked_mnist").images[:400])
    (folder / "rivals.yaml").write_text(RIVALS)
    for name in ("training", "density", "scores", "images", "scaling", "nvae", "guard", "evidence", "benchmark"):
        shutil.copy(ROOT.parent / "docs" / f"{name}.md", folder)
    shutil.copy(ROOT.parent / "README.md", folder)
    shutil.copy(folder / "guard.md", folder / "kills.md")


def main() -> None:
    """Runs them all in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        first = folder / "run"

        def begin() -> None:
            run(("vaebm", "train", "mnist", "--output", first, "--seed", 1, "--energy.num_steps", 6, *SMALL, *NARROW))
            (first / "report.html").unlink()
            run(("vaebm", "train", "--resume", first))

        free = [*survival(folder), *own_images(folder), *configurations(folder), *measurements(folder)]
        at_once(free, begin, [*evidence(folder, first), *verbs(folder, first)])
        at_once(tables(folder))
        missing = [path for path in PROMISED if not (folder / path).stat().st_size]
        assert not missing, missing


if __name__ == "__main__":
    main()
