"""The report of a run on a density of the plane: maps, exact figures beside the truth, the normaliser, the chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypedDict

import yaml

from vaebm.plots import heat_map
from vaebm.plots.arrays import FloatArray
from vaebm.reports.agreement import chain_sentences, chain_text
from vaebm.reports.markup import bullets, details, figure, paragraphs, png_image
from vaebm.reports.tables import Column, Table, html_table, text_table
from vaebm.reports.theme import STYLE

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class PlanarEvaluation(TypedDict):
    """Everything that is measured on a density of the plane.

    ``rows``: what, log_likelihood, gap, within_four_sigma, smallest_mass, largest_mass, total_variation of the truth,
    the VAE, the VAEBM and its chains. ``log_z``: by quadrature. ``importance`` and each row of ``annealed``: what
    log-weights say of it. ``chains``: split-R̂, bulk ESS, acceptance of the chains.
    """

    density: str
    seed: int
    rows: list[dict[str, Any]]
    mode_masses: list[float]
    log_z: float
    importance: dict[str, Any]
    annealed: list[dict[str, Any]]
    chains: dict[str, Any]


@dataclass(frozen=True)
class PlanarContent:
    """What the report shows.

    Arguments:
        evaluation: The figures.
        maps: Densities on a square grid by title, each (n, n), the true one first.
        config: The configuration.
        provenance: Where the run comes from.
        acts: What the guard of stage 2 did, in sentences.
    """

    evaluation: PlanarEvaluation
    maps: Mapping[str, FloatArray]
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    acts: Sequence[str] = ()


def density_table(evaluation: PlanarEvaluation) -> Table:
    """Returns the table of densities."""
    columns = [
        Column("what", "density"),
        Column("log_likelihood", "log-likelihood", "unit", better="high"),
        Column("gap", "below truth", "unit", better="low"),
        Column("within_four_sigma", "mass in 4σ", "percent", better="high"),
        Column("smallest_mass", "least mode", "unit"),
        Column("largest_mass", "largest mode", "unit"),
        Column("total_variation", "total variation", "unit", better="low"),
    ]
    caption = f"{evaluation['density']}: exact by quadrature, chains by their histogram; nats"
    return Table(caption, columns, evaluation["rows"])


def normalizer_table(evaluation: PlanarEvaluation) -> Table:
    """Returns the table of estimates of log Z."""
    exact = {"what": "quadrature", "log_z": {"value": evaluation["log_z"]}}
    importance = {"what": "importance sampling from the VAE", **evaluation["importance"]}
    annealed = [{"what": f"annealed, {row['temperatures']} temperatures", **row} for row in evaluation["annealed"]]
    columns = [
        Column("what", "log Z by"),
        Column("log_z", "log Ẑ", "interval"),
        Column("forward_bound", "forward bound", "interval"),
        Column("ess", "ESS", "count"),
        Column("num_weights", "weights", "count"),
    ]
    return Table("The normaliser, nats, with 95 % intervals", columns, [exact, importance, *annealed])


def planar_text(evaluation: PlanarEvaluation) -> str:
    """Returns the tables for a terminal."""
    tables = (density_table(evaluation), normalizer_table(evaluation))
    return "\n\n".join([*(text_table(table, 100) for table in tables), chain_text(evaluation["chains"])])


def planar_headline(evaluation: PlanarEvaluation) -> str:
    """Returns the claim of the report in one sentence."""
    gaps = {row["what"]: row["gap"] for row in evaluation["rows"] if "gap" in row}
    return f"The VAE's density is {gaps['VAE']:.2f} nats below the truth, the VAEBM's {gaps['VAEBM']:.3f}"


def render_planar_report(content: PlanarContent) -> str:
    """Writes the report.

    Returns:
        A whole HTML document that refers to nothing outside of itself.
    """
    evaluation = content.evaluation
    highest = float(next(iter(content.maps.values())).max())
    maps = "".join(
        figure(png_image(heat_map(values, highest, 400), f"Heat map: {title}"), escape(title))
        for title, values in content.maps.items()
    )
    masses = ", ".join(f"{mass:.3f}" for mass in evaluation["mode_masses"])
    sections = [
        ("Densities", f'<div class="charts">{maps}</div>' + paragraphs(
            "Brighter is denser, on a square-root scale and with the same colours for all, so that bridges between "
            "modes show.")),
        ("How right is it?", html_table(density_table(evaluation)) + paragraphs(
            f"Mass nearest to each mode of the VAEBM: {masses}.")),
        ("The normaliser", html_table(normalizer_table(evaluation)) + bullets(_normalizer_sentences(evaluation))),
        ("The chains", bullets(chain_sentences(evaluation["chains"]))),
        *([("What the guard did", bullets(content.acts))] if content.acts else []),
        ("How this was measured", bullets(_METHOD)),
        ("Every setting", _details(content)),
    ]  # fmt: skip
    body = "".join(f"<section><h2>{escape(title)}</h2>{text}</section>" for title, text in sections)
    title = f"VAEBM on {evaluation['density']}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f'<body><header><p class="eyebrow">{escape(title)}</p><h1>{escape(planar_headline(evaluation))}</h1></header>\n'
        f"<main>{body}</main>\n<footer>Made by vaebm. This file needs nothing but itself.</footer></body></html>\n"
    )


_METHOD = (
    "Log-likelihoods are means under the true density, on the grid: no test points are drawn. Densities are those of "
    "the original coordinates, the Jacobian of the map to [−1, 1] included.",
    "The VAE's density is a sum over a grid of latents; it adds up to 1 within a thousandth, or the run would have "
    "ended with an error. The VAEBM's is that times exp(−E), normalised on the same grid.",
    "The official potential: what perfect chains would follow under the potential of the authors' release, which lacks "
    "the Jacobian and claims another pixel scale, with the same networks.",
    "Chains start from N(0, I) and run the kernel of the configuration; their density is a histogram, whose empty "
    "cells make its log-likelihood meaningless: it is left out.",
    "log Ẑ = log mean w with a 95 % interval by the delta method. The forward bound is the mean of log w: below log Z "
    "in expectation, whatever the chains do. ESS = (Σ w)²/Σ w².",
)


def _normalizer_sentences(evaluation: PlanarEvaluation) -> list[str]:
    exact, importance = evaluation["log_z"], evaluation["importance"]
    inside = importance["log_z"]["low"] <= exact <= importance["log_z"]["high"]
    bounds = [importance, *evaluation["annealed"]]
    above = [row for row in bounds if row["forward_bound"]["low"] > exact]
    return [
        f"Quadrature lies {'inside' if inside else 'outside'} the 95 % interval of importance sampling.",
        "Every forward bound is below it or reaches it with its interval."
        if not above
        else f"{len(above)} forward bounds lie above it, which only luck or an error can do.",
    ]


def _details(content: PlanarContent) -> str:
    parts: Sequence[tuple[str, Mapping[str, Any]]] = (
        ("Configuration", content.config), ("Provenance", content.provenance),
    )  # fmt: skip
    dumps = ((title, yaml.safe_dump(dict(nested), sort_keys=False, allow_unicode=True)) for title, nested in parts)
    return "".join(details(title, f"<pre>{escape(text)}</pre>") for title, text in dumps)
