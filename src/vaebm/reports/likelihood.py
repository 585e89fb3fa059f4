"""What estimates of log Z make of a likelihood, as tables and in words.

log h(x) = log p(x) − E(x) − log Z: the VAEBM's log-likelihood exceeds the VAE's by −E(x) − log Z, its gain. A lower
bound of log Z makes an upper bound of the gain.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from vaebm.reports.tables import Column, Table, text_table

Figures = Mapping[str, Any]


def normalizer_rows(figures: Figures) -> list[dict[str, Any]]:
    """Returns a row for each estimate of log Z; ``is_usable`` only if no forward bound refutes its interval."""
    rows = [{"what": "draws of the VAE", **figures["importance"]}]
    rows += [{"what": f"{row['temperatures']} temperatures", **row} for row in figures["annealed"]]
    highest = max(row["forward_bound"]["low"] for row in rows)
    return [{**row, "is_usable": row["is_usable"] and row["log_z"]["high"] >= highest} for row in rows]


def likelihood_tables(figures: Figures) -> list[Table]:
    """Returns the table of estimates, and that of the test images with the most that they can gain."""
    rows = normalizer_rows(figures)
    estimates = [
        Column("what", "log Z by"),
        Column("log_z", "log Ẑ", "interval"),
        Column("forward_bound", "forward bound", "interval"),
        Column("ess", "ESS", "count"),
        Column("num_weights", "weights", "count"),
    ]
    bound = max(row["forward_bound"]["value"] for row in rows)
    images = [{**row, "gain": -row["energy"] - bound} for row in figures["images"]]
    terms = [
        Column("what", "test images"),
        Column("elbo", "ELBO", "unit"),
        Column("energy", "energy", "unit"),
        Column("gain", "gain at most", "unit"),
    ]
    return [
        Table("log Z in nats, with 95 % intervals", estimates, rows),
        Table(f"{figures['n']:,} test images of {figures['data']}, means in nats", terms, images),
    ]


def likelihood_sentences(figures: Figures) -> list[str]:
    """Returns what the tables say, in sentences."""
    rows = normalizer_rows(figures)
    usable = [row for row in rows if row["is_usable"]]
    worth = max(row["ess"] for row in rows)
    sentences = [
        "log h(x) = log p(x) − E(x) − log Z, so −E − log Z is what the VAEBM's log-likelihood gains over the VAE's. "
        "The energy was trained on images with the VAE's pixel noise; of clean ones it knows less.",
        "The forward bound lies below log Z in expectation, whatever the chains do: the gain is at most −E minus the "
        "highest of them.",
    ]
    if not usable:
        unknown = (
            f"No weights are worth more than {worth:.1f} draws, or a bound refutes them: log Ẑ is not to be believed, "
            "and the gain itself is not known."
        )
        return [*sentences, unknown]
    best = max(usable, key=lambda row: row["ess"])
    gains = ", ".join(f"{-row['energy'] - best['log_z']['value']:.2f} {row['what']}" for row in figures["images"])
    return [*sentences, f"By {best['what']}, whose weights are worth {best['ess']:.0f} draws, the gain is {gains}."]


def likelihood_text(figures: Figures) -> str:
    """Returns tables and sentences for a terminal."""
    lines = [line for sentence in likelihood_sentences(figures) for line in textwrap.wrap(sentence, 80)]
    return "\n\n".join([*(text_table(table, 100) for table in likelihood_tables(figures)), "\n".join(lines)])
