"""25 Gaussians: both remedies beside local chains, three seeds each, measured by quadrature.

    python benchmarks/gaussians.py              # two minutes a run on two idle cores; fills docs/density.md

Each run is the ``vaebm train gaussians`` that it prints; what is finished is not done again. Results go to
``benchmarks/results/gaussians.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from endings import ended
from forked import run_vaebm
from tables import put_table

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "gaussians.json"
DOCS = ROOT.parent / "docs" / "density.md"
# What each comes to by itself: the guard would make chains longer and keep the best.
ALONE = ["--guard.rolls_back", "false"]
CHAINS = [*ALONE, "--energy.objective", "contrastive"]
METHODS: dict[str, tuple[str, list[str]]] = {
    "importance": ("importance-sampled likelihood", ALONE),
    "jumps": ("chains: MALA and jumps", CHAINS),
    "mala": ("chains: MALA alone", [*CHAINS, "--energy.jump_probability", "0"]),
    "langevin": (
        "chains: Langevin alone", [*CHAINS, "--energy.jump_probability", "0", "--energy.kernel", "langevin"],
    ),
    "official": ("chains: MALA and jumps, official potential", [*CHAINS, "--energy.potential", "official"]),
}  # fmt: skip
SEEDS = (0, 1, 2)


def run(runs: Path, method: str, seed: int, further: list[str]) -> dict[str, Any]:
    """Trains one model, if it isn't there, and returns its entry of the results."""
    folder = runs / f"{method}-{seed}"
    arguments = ["train", "gaussians", "--seed", str(seed), *METHODS[method][1], *further]
    if not (folder / "evaluation.json").exists():
        print("$ vaebm", *arguments, flush=True)
        run_vaebm([*arguments, "--output", str(folder)])
    provenance = json.loads((folder / "provenance.json").read_text())
    told = {name: provenance[name] for name in ("commit", "threads", "seconds", "versions", "hardware")}
    return {
        "command": ["vaebm", *arguments],
        "evaluation": json.loads((folder / "evaluation.json").read_text()),
        "provenance": told,
    }


HEADER = "log-likelihood | below the truth | masses of modes | mass in 4σ, % | total variation |"


def _spread(values: list[float], digits: int = 3) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _row(title: str, entries: list[dict[str, Any]], what: str) -> str:
    rows = [row for entry in entries for row in entry["evaluation"]["rows"] if row["what"] == what]
    figures = {name: [row[name] for row in rows] for name in rows[0] if name != "what"}
    cells = [
        _spread(figures["log_likelihood"]),
        _spread(figures["gap"]),
        f"{min(figures['smallest_mass']):.3f}–{max(figures['largest_mass']):.3f}",
        _spread([100 * share for share in figures["within_four_sigma"]], 1),
        _spread(figures["total_variation"]),
    ]
    return f"| {title} | {' | '.join(cells)} |"


def _remedies(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    importance = groups["importance"]
    truth = next(row for row in importance[0]["evaluation"]["rows"] if row["what"] == "truth")["log_likelihood"]
    return [
        f"| stage 2 | {HEADER}",
        "|---" * 6 + "|",
        _row("the VAE alone", importance, "VAE"),
        *(_row(METHODS[name][0], groups[name], "VAEBM") for name in METHODS if groups[name] and name != "official"),
        "",
        f"Nats; the truth has {truth:.3f}. Mean ± standard deviation of {len(importance)} seeds; the least and the "
        "largest mass of a mode in any of them (the truth: .040). Made by `python benchmarks/gaussians.py` from "
        "[gaussians.json](../benchmarks/results/gaussians.json).",
    ]


def _normalizers(entries: list[dict[str, Any]]) -> list[str]:
    first = entries[0]["evaluation"]
    estimates = [("importance sampling", first["importance"])]
    estimates += [(f"{row['temperatures']} temperatures", row) for row in first["annealed"]]
    lines = ["log Z of the first seed, with 95 % intervals:", ""]
    lines += ["| log Z by | log Ẑ | forward bound | ESS | weights |", "|---" * 5 + "|"]
    lines += [f"| quadrature | {first['log_z']:.3f} | | | |"]
    lines += [
        f"| {name} | {_interval(row['log_z'])} | {_interval(row['forward_bound'])} | {row['ess']:,.0f} | "
        f"{row['num_weights']:,} |"
        for name, row in estimates
    ]
    others = "; ".join(
        f"{entry['evaluation']['log_z']:.3f} and {_interval(entry['evaluation']['importance']['log_z'])}"
        for entry in entries[1:]
    )
    return [*lines, "", f"Quadrature and importance sampling of the other seeds: {others}."]


def _official(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    kinds = {"VAEBM": "the exact one", "official potential": "the official one"}
    lines = [f"| energy trained with | density of | {HEADER}", "|---" * 7 + "|"]
    for name, title in (("importance", "importance sampling, exact"), ("official", "chains of the official potential")):
        lines += [_row(f"{title} | {kinds[what]}", groups[name], what) for what in kinds]
    return lines


def table(document: Path) -> None:
    """Writes the tables into a document."""
    results = json.loads(RESULTS.read_text())
    groups = {name: [entry for key, entry in results.items() if key.split("-")[0] == name] for name in METHODS}
    put_table(document, "gaussians", [*_remedies(groups), "", *_normalizers(groups["importance"])])
    if groups["official"]:
        put_table(document, "official", _official(groups))


def _interval(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/gaussians"), help="where run folders lie")
    parser.add_argument("--only", action="append", default=[], choices=list(METHODS), help="only these methods")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="the seeds")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go; elsewhere, no table is made")
    parser.add_argument("further", nargs="*", help="further options of each run, behind --")
    parser.add_argument("--table", type=Path, metavar="FILE", help="only fill the tables of this document")
    options = parser.parse_args()
    if options.table:
        table(options.table)
        return
    for seed in options.seeds:
        for method in options.only or METHODS:
            entry = run(options.runs, method, seed, options.further)
            results = json.loads(options.results.read_text()) if options.results.exists() else {}
            options.results.write_text(
                json.dumps({**results, f"{method}-{seed}": entry}, indent=1, sort_keys=True) + "\n"
            )
    if options.results == RESULTS:
        table(DOCS)


if __name__ == "__main__":
    sys.exit(ended(main))
