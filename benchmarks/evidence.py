"""The table of claims in docs/evidence.md, from the results that the other benchmarks have left.

    python benchmarks/evidence.py docs/evidence.md

Nothing is measured here: each row names the command that measured it. A result that isn't there is a row that says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tables import put_table

RESULTS = Path(__file__).parent / "results"
ENOUGH, SURE, RIGHT = 0.95, 0.99, 0.1
PAPER_MODES, PAPER_KL = 1000, 0.087


@dataclass(frozen=True)
class Row:
    """What was found for a claim, and a word on it."""

    found: str
    verdict: str


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _kernel(quality: Sequence[dict[str, Any]]) -> Row:
    """Compares the kernel distances of VAE and VAEBM by the first judge."""
    judge = quality[0]["judge"]
    found = {row["what"]: row["kernel_interval"] for row in quality if row["judge"] == judge}
    vae, vaebm = found["VAE"], found["VAEBM"]
    told = " → ".join(f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" for one in (vae, vaebm))
    return Row(f"kernel distance {told}", "holds" if vaebm["high"] < vae["low"] else "not shown")


def mnist() -> Row:
    """How much of the VAE's distance the recipe closes on MNIST, by the two judges that are bundled."""
    runs = [entry["evaluation"]["quality"] for name, entry in _read("mnist").items() if name.startswith("sampled-")]
    closed = {judge: [row["closed"] for run in runs for row in run if (row["judge"], row["what"]) == (judge, "VAEBM")]
              for judge in ("digits_plain", "digits_residual")}  # fmt: skip
    told = ", ".join(f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f} %"
                     for values in closed.values())  # fmt: skip
    least = min(statistics.mean(values) for values in closed.values())
    return Row(f"{told} of the Fréchet distance closed, {len(runs)} seeds", "holds" if least >= ENOUGH else "fails")


def small(name: str) -> Row:
    """VAE and VAEBM of a small recipe."""
    return _kernel(_read("small")[name]["quality"])


def images() -> Row:
    """VAE and VAEBM of one's own images in half an hour."""
    rows = {row["name"]: _kernel(row["quality"]) for row in _read("images")}
    told = "; ".join(f"{name}: {row.found.removeprefix('kernel distance ')}" for name, row in rows.items())
    return Row(f"kernel distances {told}", "holds" if {row.verdict for row in rows.values()} == {"holds"} else "fails")


def short_chains() -> Row:
    """How far quality at 15 steps is from the best of all measured, on MNIST."""
    shares = []
    for name, entry in _read("mnist").items():
        curve = [row for row in entry["evaluation"]["steps_curve"] if row["judge"] == "digits_plain"]
        distances = {row["num_steps"]: row["frechet"] for row in curve}
        if name.startswith("sampled-") and 15 in distances:
            shares.append(distances[15] / min(distances.values()))
    told = ", ".join(f"{share:.2f}" for share in shares)
    return Row(f"Fréchet distance at 15 steps over the best: {told}", "holds" if max(shares) <= 1.25 else "fails")


def _rivals() -> dict[str, list[dict[str, Any]]]:
    """Returns the rows of the comparison on MNIST by name, the first judge's figures in each."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in _read("rivals")["mnist"].values():
        rows.setdefault(row["name"], []).append(row)
    return rows


def rivals(names: Sequence[str]) -> Row:
    """The Fréchet distances of VAEBM and rivals trained as long, by the first judge."""
    rows = _rivals()
    found = {name: [row["quality"][0] if row["quality"] else None for row in rows[name]] for name in ("vaebm", *names)}
    titles = {name: rows[name][0]["title"] for name in found}
    parts, is_better = [], []
    for name, looks in found.items():
        kept = [look for look in looks if look is not None]
        mean = f"{statistics.mean(look['frechet'] for look in kept):.3g}" if kept else "diverged"
        parts.append(
            f"{titles[name]} {mean}" + (f" ({len(looks) - len(kept)} diverged)" if len(kept) < len(looks) else "")
        )
        # Its intervals are below those of the rival, seed by seed; a rival that diverged is worse.
        is_better += [ours is not None and (other is None or _is_below(ours, other))
                      for ours, other in zip(found["vaebm"], looks, strict=False) if name != "vaebm"]  # fmt: skip
    told = f"Fréchet distance {', '.join(parts)}; {len(found['vaebm'])} seed(s)"
    return Row(told, "holds" if is_better and all(is_better) else "fails")


def _is_below(ours: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the interval of a kernel distance lies below another one."""
    return bool(ours["kernel_interval"]["high"] < other["kernel_interval"]["low"])


def fresh_chains() -> Row:
    """How far quality at 15 steps is from the best, where training has 15 steps from N(0, I)."""
    shares = []
    for row in _rivals()["vaebm-no-buffer"]:
        if not row["quality"]:
            return Row("a seed diverged", "fails")
        judge = row["quality"][0]["judge"]
        curve = {look["num_steps"]: look["frechet"] for look in row["curve"] if look["judge"] == judge}
        shares.append((curve[15] / min(curve.values()), curve[15], curve[0]))
    told = ", ".join(f"{share:.2f} (a distance of {distance:.3g}, the VAE's is {start:.3g})"
                     for share, distance, start in shares)  # fmt: skip
    # A chain that does nothing is the same everywhere.
    holds = max(shares)[0] <= 1.25 and all(distance < start / 2 for _, distance, start in shares)
    return Row(f"at 15 steps over the best: {told}", "holds" if holds else "fails")


def outliers(name: str, sets: Sequence[str]) -> Row:
    """The joint score beside the best of the cheap ones."""
    rows = _read("outliers")[name]["rows"]
    cheap = ("complexity", "pixel_statistics", "knn_pixels", "knn_features", "mahalanobis_features")
    parts, least = [], 1.0
    for kind in sets:
        found = {row["score"]: row["auroc"] for row in rows if row["set"] == kind}
        best = max((score for score in cheap if score in found), key=lambda score: found[score]["value"])
        joint = found["joint"]
        least = min(least, joint["value"])
        parts.append(f"{kind}: {joint['value']:.3f} [{joint['low']:.3f}, {joint['high']:.3f}], "
                     f"{best} {found[best]['value']:.3f}")  # fmt: skip
    verdict = "holds" if least >= SURE else "in part"
    return Row("AUROC of the joint, and of the best cheap score: " + "; ".join(parts), verdict)


def modes() -> Row:
    """The modes of StackedMNIST that samples reach, by the judge that is worse for the VAEBM."""
    rows = _read("modes")["stacked_mnist"]["rows"]
    worst = max((row for row in rows if row["what"] == "VAEBM"), key=lambda row: row["kl"])
    found = {row["what"]: row for row in rows if row["judge"] == worst["judge"]}
    told = "; ".join(f"{what} {found[what]['num_modes']:,} modes, KL {found[what]['kl']:.3f}"
                     for what in ("VAE", "VAEBM", "test images"))  # fmt: skip
    holds = worst["num_modes"] == PAPER_MODES and worst["kl"] <= PAPER_KL
    return Row(f"{worst['n']:,} samples by {worst['judge']}: {told}", "holds" if holds else "fails")


def plane() -> Row:
    """How far below the truth the densities of the plane are."""
    found = {}
    for method in ("importance", "jumps", "langevin"):
        gaps = [row["gap"] for name, entry in _read("gaussians").items() if name.startswith(method)
                for row in entry["evaluation"]["rows"] if row["what"] == "VAEBM"]  # fmt: skip
        found[method] = statistics.mean(gaps)
    return Row(
        f"nats below the truth: {found['importance']:.3f} by importance sampling, {found['jumps']:.3f} by MALA with "
        f"jumps, {found['langevin']:.0f} by Langevin alone, the guard off",
        "holds with jumps, fails without" if found["jumps"] < RIGHT < found["langevin"] else "not shown",
    )


def survival() -> Row:
    """How many stressed runs hold with the guard, and without."""
    entries = _read("stress")["digits"].values()
    default = statistics.mean(entry["closed"] for entry in entries if entry["cell"] == "default")
    counts = {}
    for guarded in (True, False):
        group = [entry for entry in entries if entry["guarded"] is guarded and entry["cell"] != "default"]
        counts[guarded] = f"{sum((entry.get('closed') or -1) >= default / 2 for entry in group)} of {len(group)}"
    killed = _read("kills")
    holding, all_of_them = counts[True].split(" of ")
    is_sure = holding == all_of_them and not killed["lost"] + killed["differing"]
    return Row(
        f"with the guard {counts[True]} settings of digits hold, without {counts[False]}; "
        f"after {killed['kills']} kills {killed['lost']} runs lost, {killed['differing']} differing",
        "holds" if is_sure else "in part",
    )


CLAIMS: tuple[tuple[str, str, str, Callable[[], Row]], ...] = (
    ("Better samples than its VAE: MNIST", "", "mnist", mnist),
    ("… CIFAR-10", "FID 51.67 → 12.19", "cifar10", lambda: small("cifar10-small")),
    ("… StackedMNIST", "", "stacked-mnist", lambda: small("stacked_mnist-small")),
    ("… one's own images in half an hour", "", "own-images", images),
    ("Better than other energy-based models: MNIST", "FID 12.96, on pixels 48.89, from VAE samples 29.32", "rivals",
     lambda: rivals(("pixels-short-run", "pixels-persistent", "pixels-from-vae"))),
    ("Near a GAN", "12.96, WGAN-GP on the decoder 20.39", "rivals", lambda: rivals(("wgan-gp",))),
    ("Short chains suffice: MNIST, 8 steps of persistent chains", "10 to 16 steps", "mnist", short_chains),
    ("… 15 steps from N(0, I)", "", "rivals", fresh_chains),
    ("Outliers are recognised: MNIST", "", "outliers-mnist", lambda: outliers("mnist", ("fashion", "cifar10"))),
    ("… CIFAR-10", "SVHN .83, CIFAR-100 .62, CelebA .77", "outliers-cifar10",
     lambda: outliers("cifar10", ("mnist", "fashion"))),
    ("Modes are covered: StackedMNIST", "1,000 modes, KL 0.087", "modes-stacked", modes),
    ("Masses of modes: 25 Gaussians", "", "modes-plane", plane),
    ("Training survives", "“eventually explodes”", "survival", survival),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table into a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document", type=Path)
    document = parser.parse_args(arguments).document
    lines = ["| claim | the paper | here | verdict | `make reproduce CLAIM=` |", "|---" * 5 + "|"]
    for claim, paper, name, measure in CLAIMS:
        try:
            row = measure()
        except (FileNotFoundError, KeyError):
            row = Row("not measured yet", "open")
        lines.append(f"| {claim} | {paper} | {row.found} | {row.verdict} | {name} |")
    put_table(document, "claims", lines)


if __name__ == "__main__":
    main()
