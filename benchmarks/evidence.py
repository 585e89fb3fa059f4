"""The table of claims in docs/evidence.md, from the results that the other benchmarks have left.

    python benchmarks/evidence.py docs/evidence.md

Nothing is measured here: each row names the command that measured it. A result that isn't there is a row that says so.
A published figure is *read* where it stands in the paper's release or in a text that quotes it, or *from memory*.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endings import ended
from few_steps import NUM_STEPS, Few, worst
from measured import NotMeasured, Row, interval, read
from reproduce import CLAIMS as COMMANDS
from rival_verdicts import fresh_chains, gan, pixel_seconds, rivals
from stress import DATA, condition, default_share
from tables import put_table

ENOUGH, SURE, CHANCE, RIGHT = 0.95, 0.99, 0.5, 0.1
PAPER_MODES, PAPER_KL = 1000, 0.087
FEW, APART, STACKED = "mnist-few", "digits_apart", "stacked_mnist-quick"


@dataclass(frozen=True)
class _Pair:
    """VAE and VAEBM as the last judge sees them, which chose nothing unless it is alone."""

    judge: str
    vae: dict[str, Any]
    vaebm: dict[str, Any]

    @property
    def told(self) -> str:
        return " → ".join(interval(row["kernel_interval"]) for row in (self.vae, self.vaebm))

    @property
    def is_apart(self) -> bool:
        return bool(self.vaebm["kernel_interval"]["high"] < self.vae["kernel_interval"]["low"])


def _pair(quality: Sequence[dict[str, Any]]) -> _Pair:
    judges = list(dict.fromkeys(row["judge"] for row in quality))
    seen = {row["what"]: row for row in quality if row["judge"] == judges[-1]}
    chose = "" if len(judges) > 1 else ", which also chose"
    return _Pair(f"{judges[-1]}{chose}", seen["VAE"], seen["VAEBM"])


def _kernel(quality: Sequence[dict[str, Any]]) -> Row:
    """Compares the kernel distances of VAE and VAEBM."""
    pair = _pair(quality)
    return Row(f"kernel distance {pair.told} by {pair.judge}, n = {pair.vaebm['n']:,}",
               "holds" if pair.is_apart else "not shown")  # fmt: skip


def mnist() -> Row:
    """How much of the VAE's distance the recipe closes on MNIST, by the two judges that are bundled."""
    runs = [entry["evaluation"]["quality"] for name, entry in read("mnist").items() if name.startswith("sampled-")]
    closed = {judge: [row["closed"] for run in runs for row in run if (row["judge"], row["what"]) == (judge, "VAEBM")]
              for judge in ("digits_plain", "digits_residual")}  # fmt: skip
    told = ", ".join(f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f} %"
                     for values in closed.values())  # fmt: skip
    least = min(statistics.mean(values) for values in closed.values())
    return Row(
        f"{told} of the Fréchet distance closed by {' and '.join(closed)}, mean ± standard deviation over {len(runs)} "
        "seeds",
        "holds" if least >= ENOUGH else "fails",
    )


def small(name: str) -> Row:
    """VAE and VAEBM of a small recipe."""
    return _kernel(read("small", name)["quality"])


def images() -> Row:
    """VAE and VAEBM of one's own images in half an hour."""
    pairs = {row["name"]: _pair(row["quality"]) for row in read("images")}
    told = "; ".join(f"{name}: {pair.told}, n = {pair.vaebm['n']:,}" for name, pair in pairs.items())
    judge = next(iter(pairs.values())).judge
    return Row(f"kernel distances by {judge}: {told}", "holds" if all(p.is_apart for p in pairs.values()) else "fails")


def short_chains() -> Row:
    """How far quality at 15 steps is from the best of all measured, on MNIST."""
    told, found = [], []
    for name, entry in read("mnist").items():
        if not name.startswith("sampled-"):
            continue
        evaluation = entry["evaluation"]
        curve = {look["num_steps"]: look["frechet"] for look in evaluation["steps_curve"] if look["judge"] == APART}
        floor = next(row["frechet"] for row in evaluation["quality"] if (row["judge"], row["what"]) == (APART, "floor"))
        few = Few(curve.get(NUM_STEPS, math.inf), min(curve.values()), floor, curve[0])
        told.append(few.told)
        found.append(few.verdict)
    return Row(f"Fréchet distance at {NUM_STEPS} steps over the best of 0 to 150 (of what is above the floor), by "
               f"{APART}: {', '.join(told)}", worst(found))  # fmt: skip


def _few(entry: dict[str, Any]) -> dict[str, Few]:
    """Returns what few steps come to, as trained, as chosen, and as chosen without momentum, beside the best of all."""
    curves = [row["curve"] for row in entry["rows"]]
    best = min(value for curve in curves for value in curve.values())
    # The first look is that at the VAE's samples, or after one step.
    first = max(next(iter(curve.values())) for curve in curves)
    number, floor = str(entry["few"]), statistics.fmean(entry["floors"])
    return {kind: Few(curves[place][number], best, floor, first) for kind, place in entry["row_of"].items()}


def kept_momentum() -> Row:
    """How far quality at 15 steps is from the best of all measured chains, with the momentum that was chosen."""
    entries = {name: _few(entry) for name, entry in read("short_chains").items() if not name.startswith(FEW)}
    if not entries:
        raise NotMeasured("short_chains")
    told, verdicts = [], []
    for name, by in entries.items():
        others = "; ".join(f"{kind} {by[kind].told}" for kind in ("without momentum", "as trained"))
        told.append(f"{name} {by['chosen'].told}; {others}")
        verdicts.append(by["chosen"].verdict)
    # Data sets, not seeds: where it holds on some, it does so in part.
    verdict = "in part" if "holds" in verdicts and set(verdicts) != {"holds"} else worst(verdicts)
    whole = f"distance at {NUM_STEPS} steps over the best of up to 200 (of what is above the floor)"
    return Row(f"{whole}: {'. '.join(told)}", verdict)


def few_steps() -> Row:
    """How far quality at 15 steps is from the best of all measured chains, where training's chains are made for it."""
    entries = {name: entry for name, entry in read("short_chains").items() if name.startswith(FEW)}
    if not entries:
        raise NotMeasured(FEW)
    found = [_few(entry) for entry in entries.values()]
    told = "; ".join(f"{by['as trained'].told}, as chosen {by['chosen'].told}" for by in found)
    judge = next(iter(entries.values()))["judge"]
    return Row(f"Fréchet distance at {NUM_STEPS} steps over the best of all after 0 to 200 (of what is above the "
               f"floor), by {judge}: {told}", worst([by["as trained"].verdict for by in found]))  # fmt: skip


def outliers(name: str, sets: Sequence[str]) -> Row:
    """The joint score beside the best of the cheap ones."""
    rows = read("outliers", name)["rows"]
    cheap = ("complexity", "pixel_statistics", "knn_pixels", "knn_features", "mahalanobis_features")
    parts, least = [], 1.0
    for kind in sets:
        found = {row["score"]: row["auroc"] for row in rows if row["set"] == kind}
        best = max((score for score in cheap if score in found), key=lambda score: found[score]["value"])
        joint = found["joint"]
        least = min(least, joint["value"])
        parts.append(f"{kind}: {joint['value']:.3f} [{joint['low']:.3f}, {joint['high']:.3f}], "
                     f"{best} {found[best]['value']:.3f}")  # fmt: skip
    verdict = "holds" if least >= SURE else "in part" if least > CHANCE else "fails"
    return Row("AUROC of the joint, and of the best cheap score: " + "; ".join(parts), verdict)


def modes() -> Row:
    """The modes of StackedMNIST that samples reach, by the judge that is worse for the VAEBM."""
    rows = read("modes", STACKED)["rows"]
    ours = max((row for row in rows if row["what"] == "VAEBM"), key=lambda row: row["kl"])
    found = {row["what"]: row for row in rows if row["judge"] == ours["judge"]}
    told = "; ".join(f"{what} {found[what]['num_modes']:,} modes, KL {_of_shares(found[what])}"
                     for what in ("VAE", "VAEBM", "test images"))  # fmt: skip
    holds = ours["num_modes"] == PAPER_MODES and ours["kl"] <= PAPER_KL
    return Row(f"by {ours['judge']}: {told}", "holds" if holds else "fails")


def _of_shares(row: dict[str, Any]) -> str:
    """Returns a divergence of shares, how many images it is of, and what of it is chance."""
    told = interval(row["kl_interval"]) if "kl_interval" in row else f"{row['kl']:.3f}"
    return f"{told} of {row['n']:,} (by chance {row['kl_by_chance']:.3f})"


def quick_stacked() -> Row:
    """VAE and VAEBM of the run whose modes are counted."""
    entry = read("modes", STACKED)
    if "quality" not in entry:
        raise NotMeasured
    return _kernel(entry["quality"])


def plane() -> Row:
    """How far below the truth the densities of the plane are."""
    found, told = {}, {}
    for method, digits in (("importance", 3), ("jumps", 3), ("langevin", 0)):
        gaps = [row["gap"] for name, entry in read("gaussians").items() if name.startswith(method)
                for row in entry["evaluation"]["rows"] if row["what"] == "VAEBM"]  # fmt: skip
        found[method] = statistics.mean(gaps)
        told[method] = f"{found[method]:.{digits}f} ({min(gaps):.{digits}f} to {max(gaps):.{digits}f})"
    return Row(
        f"nats below the truth: {told['importance']} by importance sampling, {told['jumps']} by MALA with jumps, "
        f"{told['langevin']} by Langevin alone; means over seeds, and the least and the most of them",
        "holds with jumps, fails without" if found["jumps"] < RIGHT < found["langevin"] else "not shown",
    )


def survival() -> Row:
    """How many stressed runs hold with the guard, and without, on each data set."""
    told, is_sure = [], True
    for data in DATA:
        entries = read("stress", data)
        default, stressed = default_share(entries), [one for one in entries.values() if one["cell"] != "default"]
        guarded, alone = ([condition(one, default) == "holds" for one in stressed if one["guarded"] is on]
                          for on in (True, False))  # fmt: skip
        is_sure = is_sure and all(guarded)
        told.append(f"{data} {sum(guarded)} of {len(guarded)} ({sum(alone)} without)")
    killed = read("kills")
    return Row(
        f"stressed runs that hold with the guard: {', '.join(told)}; "
        f"after {killed['kills']} kills {killed['lost']} runs lost, {killed['differing']} differing",
        "holds" if is_sure and not killed["lost"] + killed["differing"] else "in part",
    )


CLAIMS: tuple[tuple[str, str, str, Callable[[], Row]], ...] = (
    ("Better samples than its VAE: MNIST", "", "mnist", mnist),
    ("… CIFAR-10", "FID 51.67 (from memory) → 12.19 (read)", "cifar10", lambda: small("cifar10-small")),
    ("… StackedMNIST", "", "stacked-mnist", lambda: small("stacked_mnist-small")),
    ("… StackedMNIST, by MNIST's settings", "", "modes-stacked", quick_stacked),
    ("… one's own images in half an hour", "", "own-images", images),
    ("Better than other energy-based models: MNIST", "", "rivals", rivals),
    ("… CIFAR-10", "FID 12.96, on pixels 48.89, from VAE samples 29.32 (all from memory)", "rivals-cifar10",
     lambda: rivals(data="cifar10")),
    ("… CIFAR-10 on an NVAE, an hour a row", "", "rivals-nvae", lambda: rivals(data="cifar10-nvae")),
    ("Near a GAN: MNIST", "", "rivals", gan),
    ("… CIFAR-10", "FID 12.96, WGAN-GP on the decoder 20.39 (both from memory)", "rivals-cifar10",
     lambda: gan("cifar10")),
    ("… CIFAR-10 on an NVAE, an hour a row", "", "rivals-nvae", lambda: gan("cifar10-nvae")),
    ("Chains on pixels take longer: MNIST", "", "rivals", pixel_seconds),
    ("… CIFAR-10", "", "rivals-cifar10", lambda: pixel_seconds("cifar10")),
    ("… CIFAR-10 on an NVAE", "", "rivals-nvae", lambda: pixel_seconds("cifar10-nvae")),
    ("Short chains suffice: MNIST, trained with 8 steps of persistent chains",
     "CIFAR-10: 10 steps in training, 16 for samples (read)", "mnist", short_chains),
    ("… 15 steps from N(0, I)", "", "rivals", fresh_chains),
    ("… the same on CIFAR-10", "", "rivals-cifar10", lambda: fresh_chains("cifar10")),
    ("… the same on an NVAE", "", "rivals-nvae", lambda: fresh_chains("cifar10-nvae")),
    ("… 15 steps that keep a part of their momentum", "", "short-chains", kept_momentum),
    ("… MNIST, trained with 8 steps that keep momentum, no buffer", "", "short-chains-mnist", few_steps),
    ("Outliers are recognised: MNIST, other data sets and noise", "", "outliers-mnist",
     lambda: outliers("mnist", ("fashion", "cifar10", "gaussian noise", "uniform noise"))),
    ("… MNIST, what is made of its images", "", "outliers-mnist",
     lambda: outliers("mnist", ("grey levels", "averaged pairs"))),
    ("… CIFAR-10, other data sets and noise", "SVHN .83, CIFAR-100 .62, CelebA .77 (read)", "outliers-cifar10",
     lambda: outliers("cifar10", ("mnist", "fashion", "gaussian noise", "uniform noise"))),
    ("… CIFAR-10, what is made of its images", "", "outliers-cifar10",
     lambda: outliers("cifar10", ("grey levels", "flat colours", "averaged pairs"))),
    ("Modes are covered: StackedMNIST", "1,000 modes, KL 0.087 (read)", "modes-stacked", modes),
    ("Masses of modes: 25 Gaussians", "nats below the truth: VAE 1.87, VAEBM 0.40 (from memory)", "modes-plane", plane),
    ("Training survives", "diverges in the end: a checkpoint from before is kept (read)", "survival", survival),
)  # fmt: skip


def lines_of() -> list[str]:
    """Returns the table of claims."""
    lines = ["| claim | the paper | here | verdict | `make reproduce CLAIM=` | hours |", "|---" * 6 + "|"]
    for claim, paper, name, measure in CLAIMS:
        try:
            row = measure()
        except NotMeasured:
            row = Row("not measured yet", "open")
        behind = f", after {COMMANDS[name].behind}" if COMMANDS[name].behind else ""
        lines.append(f"| {claim} | {paper} | {row.found} | {row.verdict} | {name}{behind} | {COMMANDS[name].hours:g} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table into a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document", type=Path)
    put_table(parser.parse_args(arguments).document, "claims", lines_of())


if __name__ == "__main__":
    sys.exit(ended(main))
