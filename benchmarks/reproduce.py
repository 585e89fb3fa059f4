"""One claim of docs/evidence.md, measured anew: `make reproduce CLAIM=NAME`.

    python benchmarks/reproduce.py                 # the claims, with hours
    python benchmarks/reproduce.py modes-plane     # runs what stands behind one
    python benchmarks/reproduce.py modes-plane --dry-run

Each claim is a list of command lines, run one after another. Runs, rows of rivals and scores of outliers that are
there aren't made again, and a run that was stopped goes on; what takes minutes is measured anew. The last one puts what
was found into the table of docs/evidence.md, if the claim has a row there. Images that the package doesn't bring are
looked for in the folder ``--images``: mnist.npz, fashion.npz, cifar10.npz, each with ``train_x``, ``train_y``,
``test_x`` and ``test_y`` (docs/evidence.md tells how they are made); and photographs, a folder of pictures, which is
left out if it isn't there.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent
EVIDENCE = "evidence.py docs/evidence.md"
# Of each extra, a module that it brings.
MODULES = {"features": "efficientnet_lite_pytorch", "export": "onnxruntime"}


@dataclass(frozen=True)
class Claim:
    """What is claimed, how long it takes on two cores, and the scripts of this folder that measure it.

    ``run`` is the folder of a run that they look at, ``behind`` the claim that trains it, and ``extra`` one of the
    package's that they need.
    """

    text: str
    hours: float
    commands: tuple[str, ...]
    run: str = ""
    behind: str = ""
    extra: str = ""


CLAIMS = {
    "mnist": Claim(
        "samples of MNIST are better than those of the VAE, three seeds", 1.0, (
            "mnist.py run --outliers 'fashion mnist=IMAGES/fashion.npz' --only sampled-0 --only sampled-1 "
            "--only sampled-2", "mnist.py table", EVIDENCE)),
    "cifar10": Claim("so are those of CIFAR-10", 2.8, (
        "small.py run cifar10-small --source IMAGES/cifar10.npz", "small.py table docs/nvae.md", EVIDENCE),
        extra="features"),
    "stacked-mnist": Claim("and of StackedMNIST", 2.2, (
        "small.py run stacked_mnist-small", "small.py table docs/nvae.md", EVIDENCE)),
    "rivals": Claim("and than other energy-based models and a GAN on the same networks, for as long", 4.0, (
        "rivals.py run mnist --model mnist --budget 5m -n 1000 --judges benchmarks/judges --replace --seeds 0 1 2",
        "rivals.py table docs/benchmark.md", EVIDENCE)),
    "rivals-cifar10": Claim("and on CIFAR-10", 2.3, (
        "rivals.py train runs/cifar10-quick --data IMAGES/cifar10.npz",
        "rivals.py run cifar10 --model runs/cifar10-quick --source IMAGES/cifar10.npz --budget 10m -n 500 "
        "--config benchmarks/rivals_cifar10.yaml --replace",
        "rivals.py table docs/benchmark.md", EVIDENCE), extra="features"),
    "rivals-nvae": Claim("and on CIFAR-10 on an NVAE, by an hour a row and its VAE", 11, (
        "rivals.py run cifar10-nvae --model cifar10-small --source IMAGES/cifar10.npz --budget 1h -n 500 "
        "--config benchmarks/rivals_nvae.yaml --replace",
        "rivals.py table docs/benchmark.md", EVIDENCE), extra="features"),
    "standard": Claim("FID, KID and IS by torchmetrics, on extractors at hand", 0.8, (
        "standard_scores.py run mnist --fid classifiers -n 10000",
        "standard_scores.py run mnist --fid efficientnet_lite0 -n 2000",
        "standard_scores.py run cifar10-small --fid efficientnet_lite0 -n 2000 --source IMAGES/cifar10.npz",
        "standard_scores.py table docs/evidence.md"), extra="features"),
    "own-images": Claim("and of one's own images, in half an hour", 1.6, (
        "images.py folders --cifar10 IMAGES/cifar10.npz --photographs IMAGES/photographs --output IMAGES/own",
        "images.py run --data IMAGES/own --budget 30m --runs runs/images", EVIDENCE),
        extra="features"),
    "short-chains": Claim("what 15 steps bring, with momentum and without, after modes-stacked", 1.1, (
        "short_chains.py run mnist --judges benchmarks/judges -n 5000",
        "short_chains.py run cifar10-small --source IMAGES/cifar10.npz -n 500",
        "short_chains.py run runs/stacked_mnist-quick -n 500",
        "short_chains.py table docs/evidence.md", EVIDENCE),
        "runs/stacked_mnist-quick", "modes-stacked", "features"),
    "short-chains-mnist": Claim("and what they bring where training is made for them", 1.4, (
        *(f"short_chains.py run runs/mnist-few{name} --train mnist --config benchmarks/few.yaml --seed {seed} "
          "--judges benchmarks/judges -n 5000" for seed, name in enumerate(("", "-1", "-2"))),
        "short_chains.py table docs/evidence.md", EVIDENCE)),
    "modes-plane": Claim("what chains need to get the masses of modes right, and what happens else", 0.6, (
        "gaussians.py", EVIDENCE)),
    "modes-stacked": Claim("modes of StackedMNIST, that are covered in 26,000 samples", 1.5, (
        "modes.py run runs/stacked_mnist-quick --train stacked_mnist-quick", "modes.py table docs/evidence.md",
        EVIDENCE)),
    "density": Claim("the normaliser of the bundled model, bounded", 0.2, ("density.py",)),
    "outliers-mnist": Claim("which score knows which outliers of MNIST", 0.2, (
        "outlier_scores.py run mnist --model mnist --others IMAGES/fashion.npz IMAGES/cifar10.npz",
        "outlier_scores.py table docs/scores.md", EVIDENCE), extra="features"),
    "outliers-cifar10": Claim("and of CIFAR-10", 0.4, (
        "outlier_scores.py run cifar10 --model cifar10-small --source IMAGES/cifar10.npz --others IMAGES/mnist.npz "
        "IMAGES/fashion.npz --count 200 --num-reference 1000 --regret-steps 10",
        "outlier_scores.py table docs/scores.md", EVIDENCE), extra="features"),
    "defects": Claim("which score finds which defect", 0.2, ("defects.py run",), extra="features"),
    "false-alarms": Claim("a p-value keeps its promise", 0.4, (
        "false_alarms.py run --data mnist --data IMAGES/fashion.npz --data IMAGES/cifar10.npz --runs runs/alarms",
    )),
    "export": Claim("an exported scorer decides the same", 0.1, ("export.py",), extra="export"),
    "survival": Claim("stage 2 survives bad settings, and kills", 4, (
        "stress.py run digits --jobs 2", "stress.py run gaussians --jobs 2", "stress.py run mnist --jobs 2",
        "stress.py seeds digits --count 20 --jobs 2", "stress.py seeds mnist --count 5 --jobs 2",
        "stress.py longer digits --count 5 --jobs 2", "stress.py table docs/guard.md",
        "guard_cost.py run", "guard_cost.py table docs/guard.md",
        "kills.py --kills 40 --jobs 2", "kills.py --table docs/guard.md", EVIDENCE)),
    "step": Claim("a Langevin step of an NVAE, folded", 0.4, (
        "step.py", "step.py --size paper --repeats 3 --batch-size 4", "step.py --table docs/nvae.md",
        "step_attempts.py", "step_attempts.py --table docs/nvae.md",
        "training.py stage1", "training.py stage2", "training.py buffer", "training.py table docs/nvae.md")),
    "scaling": Claim("what a second process brings", 0.1, ("scaling.py run", "scaling.py table docs/scaling.md")),
}  # fmt: skip


def words_of(command: str, images: Path) -> list[str]:
    """Returns the words of a command line, with the folder of images put in."""
    script, *words = shlex.split(command)
    return [sys.executable, str(ROOT / script), *(word.replace("IMAGES", str(images)) for word in words)]


def missing_images(claim: Claim, images: Path) -> list[str]:
    """Returns the files of images that a claim needs and that aren't there."""
    needed = {name for name in ("mnist.npz", "fashion.npz", "cifar10.npz")
              if any(f"IMAGES/{name}" in command for command in claim.commands)}  # fmt: skip
    return sorted(name for name in needed if not (images / name).is_file())


def missing(claim: Claim, images: Path) -> str:
    """Says what a claim needs and what isn't there; nothing if all is."""
    files = missing_images(claim, images)
    if files:
        return (
            f"{', '.join(files)} missing in {images}: make them by benchmarks/image_files.py of the published "
            "files (docs/evidence.md, Images), or name their folder by --images (make reproduce IMAGES=FOLDER)"
        )
    if claim.extra and find_spec(MODULES[claim.extra]) is None:
        return f"that needs the extra '{claim.extra}': pip install -c constraints.txt '.[{claim.extra}]'"
    if claim.run and not (ROOT.parent / claim.run / "model").is_dir():
        return f"there is no run {claim.run}: make reproduce CLAIM={claim.behind} first"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claim", nargs="?", default="", metavar="CLAIM")
    parser.add_argument("--images", type=Path, default=Path("data"), metavar="FOLDER", help="default data")
    parser.add_argument("--dry-run", action="store_true", help="only show the commands")
    options = parser.parse_args(arguments)
    if not options.claim:
        for name, claim in CLAIMS.items():
            print(f"{name:18}{claim.hours:4.1f} h  {claim.text}")
        return 0
    if options.claim not in CLAIMS:
        print(f"reproduce: unknown claim {options.claim!r}: expected one of {', '.join(CLAIMS)}", file=sys.stderr)
        return 2
    # Commands run in the repository's folder.
    claim, options.images = CLAIMS[options.claim], options.images.absolute()
    lacking = missing(claim, options.images)
    if lacking and not options.dry_run:
        print(f"reproduce: {lacking}", file=sys.stderr)
        return 2
    for command in claim.commands:
        words = words_of(command, options.images)
        print("$ python", *words[1:], flush=True)
        if not options.dry_run:
            code = subprocess.run(words, check=False, cwd=ROOT.parent).returncode
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
