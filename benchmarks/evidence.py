"""The table of claims in docs/evidence.md, from the results that the other benchmarks have left.

    python benchmarks/evidence.py docs/evidence.md

Nothing is measured here: each row names the command that measured it. A result that isn't there is a row that says so.
A published figure is *read* where it stands in the paper's release or in a text that quotes it, or *from memory*.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endings import ended
from reproduce import CLAIMS as COMMANDS
from stress import DATA, condition, default_share
from tables import put_table
from vaebm.checkpoint import read_json

RESULTS = Path(__file__).parent / "results"
ENOUGH, SURE, CHANCE, RIGHT, MOST = 0.95, 0.99, 0.5, 0.1, 1.25
PAPER_MODES, PAPER_KL = 1000, 0.087
NUM_STEPS = 15
FEW = "mnist-few"
PIXELS = ("pixels-short-run", "pixels-persistent", "pixels-from-vae")


class NotMeasured(Exception):
    """A file of results isn't there, or not for this data set."""


@dataclass(frozen=True)
class Row:
    """What was found for a claim, and a word on it."""

    found: str
    verdict: str


def _read(name: str, data: str = "") -> Any:
    """Returns the results of a file, or what it holds for a data set.

    Raises:
        NotMeasured: If there is no such file or data set.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise NotMeasured(path)
    found = read_json(path)
    if data and data not in found:
        raise NotMeasured(f"{path}: {data}")
    return found[data] if data else found


@dataclass(frozen=True)
class _Pair:
    """VAE and VAEBM as the last judge sees them, which chose nothing unless it is alone."""

    judge: str
    vae: dict[str, Any]
    vaebm: dict[str, Any]

    @property
    def told(self) -> str:
        return " → ".join(_interval(row["kernel_interval"]) for row in (self.vae, self.vaebm))

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


def _interval(one: dict[str, float]) -> str:
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def mnist() -> Row:
    """How much of the VAE's distance the recipe closes on MNIST, by the two judges that are bundled."""
    runs = [entry["evaluation"]["quality"] for name, entry in _read("mnist").items() if name.startswith("sampled-")]
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
    return _kernel(_read("small", name)["quality"])


def images() -> Row:
    """VAE and VAEBM of one's own images in half an hour."""
    pairs = {row["name"]: _pair(row["quality"]) for row in _read("images")}
    told = "; ".join(f"{name}: {pair.told}, n = {pair.vaebm['n']:,}" for name, pair in pairs.items())
    judge = next(iter(pairs.values())).judge
    return Row(f"kernel distances by {judge}: {told}", "holds" if all(p.is_apart for p in pairs.values()) else "fails")


def short_chains() -> Row:
    """How far quality at 15 steps is from the best of all measured, on MNIST."""
    shares = []
    for name, entry in _read("mnist").items():
        curve = [row for row in entry["evaluation"]["steps_curve"] if row["judge"] == "digits_apart"]
        distances = {row["num_steps"]: row["frechet"] for row in curve}
        if name.startswith("sampled-") and NUM_STEPS in distances:
            shares.append(distances[NUM_STEPS] / min(distances.values()))
    told = ", ".join(f"{share:.2f}" for share in shares)
    return Row(
        f"Fréchet distance at 15 steps over the best of 0 to 150, by digits_apart: {told}",
        "holds" if max(shares) <= MOST else "fails",
    )


def _over_the_best(entry: dict[str, Any]) -> dict[str, float]:
    """Returns the distance of each kind of chains at 15 steps over the best of all that were measured."""
    best = min(value for row in entry["rows"] for value in row["curve"].values())
    return {row["chains"]: row["curve"][str(entry["few"])] / best for row in entry["rows"]}


def kept_momentum() -> Row:
    """How far quality at 15 steps is from the best of all measured chains, with the momentum that was chosen."""
    told, shares = [], []
    for name, by in ((name, _over_the_best(entry)) for name, entry in _read("short_chains").items() if name != FEW):
        # A row that is the same as one before it isn't there.
        plain = by.get("longer steps", by["as trained"])
        shares.append(by.get("chosen", plain))
        told.append(f"{name} {shares[-1]:.2f} (without momentum {plain:.2f}, as trained {by['as trained']:.2f})")
    return Row(f"distance at {NUM_STEPS} steps over the best after 1 to 200: {', '.join(told)}",
               "holds" if max(shares) <= MOST else "in part" if min(shares) <= MOST else "fails")  # fmt: skip


def few_steps() -> Row:
    """How far quality at 15 steps is from the best of all measured chains, where training's chains are made for it."""
    entry = _read("short_chains", FEW)
    share = _over_the_best(entry)["as trained"]
    return Row(f"Fréchet distance at {NUM_STEPS} steps over the best of all after 1 to 200, by {entry['judge']}: "
               f"{share:.2f}", "holds" if share <= MOST else "fails")  # fmt: skip


def _rivals(data: str) -> dict[str, dict[int, dict[str, Any]]]:
    """Returns the rows of the comparison on a data set by name and seed."""
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for row in _read("rivals", data)["rows"].values():
        rows.setdefault(row["name"], {})[row["seed"]] = row
    return rows


def _judges(rows: dict[str, dict[int, dict[str, Any]]]) -> list[str]:
    """Returns the judges in their order: the last one took part in no choice, where there are several."""
    looks = next(row["quality"] for seeds in rows.values() for row in seeds.values() if row["quality"])
    return [str(look["judge"]) for look in looks]


def _seen(row: dict[str, Any], judge: str) -> dict[str, Any] | None:
    """Returns what a judge saw of a row, None if it diverged."""
    found: list[dict[str, Any]] = [look for look in row["quality"] if look["judge"] == judge]
    return found[0] if found else None


@dataclass(frozen=True)
class _Compared:
    """VAEBM and rivals, seed by seed: what is told, and whether VAEBM is nearer, or the rival.

    Nothing is nearer if a seed is missing.
    """

    told: str
    is_nearer: list[bool]
    is_beaten: list[bool]


def _compared(names: Sequence[str], data: str) -> _Compared:
    """Compares the kernel distances of VAEBM and rivals by the last judge."""
    rows, wanted = _rivals(data), ("vaebm", *names)
    judges, seeds = _judges(rows), sorted({seed for name in wanted for seed in rows.get(name, {})})
    judge, chose = judges[-1], "" if len(judges) > 1 else ", which also chose"
    missing = [f"{name}, seed {seed}" for name in wanted for seed in seeds if seed not in rows.get(name, {})]
    found = {name: [_seen(rows[name][seed], judge) for seed in sorted(rows[name])] for name in wanted if name in rows}
    parts = []
    for name, looks in found.items():
        kept = [look["kernel_interval"] for look in looks if look is not None]
        lost = f" ({len(looks) - len(kept)} diverged)" if 0 < len(kept) < len(looks) else ""
        parts.append(f"{next(iter(rows[name].values()))['title']} {_middle(kept)}{lost}")
    number = f"medians of {len(seeds)} seeds, outermost ends of their intervals" if len(seeds) > 1 else "one seed"
    told = f"kernel distance by {judge}{chose}: {', '.join(parts)}; {number}"
    if missing:
        return _Compared(f"{told}; not measured: {'; '.join(missing)}", [], [])
    pairs = [pair for name in names for pair in zip(found["vaebm"], found[name], strict=True)]
    return _Compared(
        told, [_is_below(ours, other) for ours, other in pairs], [_is_below(other, ours) for ours, other in pairs]
    )


def _middle(intervals: Sequence[dict[str, float]]) -> str:
    """Returns the median of kernel distances, and the outermost ends of their intervals."""
    if not intervals:
        return "diverged"
    middle = statistics.median(one["value"] for one in intervals)
    low, high = min(one["low"] for one in intervals), max(one["high"] for one in intervals)
    return _interval({"value": middle, "low": low, "high": high})


def rivals(names: Sequence[str] = PIXELS, data: str = "mnist") -> Row:
    """VAEBM is better if its intervals lie below those of the rivals, seed by seed; all seeds must be there."""
    found = _compared(names, data)
    verdict = "holds" if found.is_nearer and all(found.is_nearer) else "fails" if found.is_nearer else "open"
    return Row(found.told, verdict)


def gan(data: str = "mnist") -> Row:
    """VAEBM beside WGAN-GP: as it comes out after minutes."""
    found = _compared(("wgan-gp",), data)
    seconds = [row["seconds"] for row in _rivals(data).get("wgan-gp", {}).values()]
    minutes = f"; after {statistics.mean(seconds) / 60:.1f} minutes of training" if seconds else ""
    came_out = "better here" if all(found.is_nearer) else "worse here" if all(found.is_beaten) else "not apart here"
    verdict = came_out if found.is_nearer else "open"
    return Row(f"{found.told}{minutes}", f"{verdict}: after minutes, where a GAN takes hours")


def _is_below(ours: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Whether the interval of a kernel distance lies below another one; what diverged is worse than what didn't."""
    if ours is None or other is None:
        return ours is not None
    return bool(ours["kernel_interval"]["high"] < other["kernel_interval"]["low"])


def fresh_chains(data: str = "mnist") -> Row:
    """How far quality at 15 steps is from the best, where training has 15 steps from N(0, I).

    Of few images the distance of images of the data is large: it is subtracted.
    """
    rows = _rivals(data)
    judge, told, holds = _judges(rows)[-1], [], []
    for seed, row in sorted(rows["vaebm-no-buffer"].items()):
        floor = (_seen(row, judge) or {}).get("floor", 0.0)
        curve = {look["num_steps"]: look["frechet"] - floor for look in row["curve"] if look["judge"] == judge}
        if not {0, NUM_STEPS} <= curve.keys():
            told.append(f"seed {seed} not finite")
            holds.append(False)
            continue
        share, distance = curve[NUM_STEPS] / min(curve.values()), curve[NUM_STEPS]
        told.append(f"{share:.2f} ({distance:.3g} above the floor, the VAE {curve[0]:.3g})")
        # A chain that does nothing is the same everywhere.
        moves = distance < curve[0] / 2
        if row["chosen"]["num_steps"] == NUM_STEPS:
            moves = moves or _is_below(_seen(row, judge), _seen(rows["vae"][seed], judge))
        holds.append(share <= MOST and moves)
    return Row(
        f"Fréchet distance above the floor at {NUM_STEPS} steps over the best, by {judge}: {', '.join(told)}",
        "holds" if all(holds) else "fails",
    )


def outliers(name: str, sets: Sequence[str]) -> Row:
    """The joint score beside the best of the cheap ones."""
    rows = _read("outliers", name)["rows"]
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
    rows = _read("modes", "stacked_mnist")["rows"]
    worst = max((row for row in rows if row["what"] == "VAEBM"), key=lambda row: row["kl"])
    found = {row["what"]: row for row in rows if row["judge"] == worst["judge"]}
    told = "; ".join(f"{what} {found[what]['num_modes']:,} modes, KL {_of_shares(found[what])}"
                     for what in ("VAE", "VAEBM", "test images"))  # fmt: skip
    holds = worst["num_modes"] == PAPER_MODES and worst["kl"] <= PAPER_KL
    return Row(f"by {worst['judge']}: {told}", "holds" if holds else "fails")


def _of_shares(row: dict[str, Any]) -> str:
    """Returns a divergence of shares, how many images it is of, and what of it is chance."""
    told = _interval(row["kl_interval"]) if "kl_interval" in row else f"{row['kl']:.3f}"
    return f"{told} of {row['n']:,} (by chance {row['kl_by_chance']:.3f})"


def quick_stacked() -> Row:
    """VAE and VAEBM of the run whose modes are counted."""
    entry = _read("modes", "stacked_mnist")
    if "quality" not in entry:
        raise NotMeasured
    return _kernel(entry["quality"])


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
    """How many stressed runs hold with the guard, and without, on each data set."""
    told, is_sure = [], True
    for data in DATA:
        entries = _read("stress", data)
        default, stressed = default_share(entries), [one for one in entries.values() if one["cell"] != "default"]
        guarded, alone = ([condition(one, default) == "holds" for one in stressed if one["guarded"] is on]
                          for on in (True, False))  # fmt: skip
        is_sure = is_sure and all(guarded)
        told.append(f"{data} {sum(guarded)} of {len(guarded)} ({sum(alone)} without)")
    killed = _read("kills")
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
    ("Near a GAN: MNIST", "", "rivals", gan),
    ("… CIFAR-10", "FID 12.96, WGAN-GP on the decoder 20.39 (both from memory)", "rivals-cifar10",
     lambda: gan("cifar10")),
    ("Short chains suffice: MNIST, trained with 8 steps of persistent chains",
     "CIFAR-10: 10 steps in training, 16 for samples (read)", "mnist", short_chains),
    ("… 15 steps from N(0, I)", "", "rivals", fresh_chains),
    ("… the same on CIFAR-10", "", "rivals-cifar10", lambda: fresh_chains("cifar10")),
    ("… 15 steps that keep a part of their momentum", "", "short-chains", kept_momentum),
    ("… MNIST, trained with 8 steps that keep momentum, no buffer", "", "short-chains-mnist", few_steps),
    ("Outliers are recognised: MNIST", "", "outliers-mnist",
     lambda: outliers("mnist", ("fashion", "cifar10", "gaussian noise", "uniform noise"))),
    ("… CIFAR-10", "SVHN .83, CIFAR-100 .62, CelebA .77 (read)", "outliers-cifar10",
     lambda: outliers("cifar10", ("mnist", "fashion"))),
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
