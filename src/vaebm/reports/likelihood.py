"""What estimates of log Z make of a likelihood, as a table and in words."""

from __future__ import annotations

import textwrap
from typing import Any, TypedDict

from vaebm.reports.tables import Column, Table, text_table

USABLE_ESS = 100.0


class Likelihood(TypedDict, total=False):
    """Estimates of log Z, nats, and means over the test images.

    ``importance`` and each row of ``annealed``: log_z and forward_bound with 95 % intervals, ess, num_weights; the
    latter with their number of temperatures. ``n``, ``elbo`` and ``energy``: of the test images of ``data``.
    """

    seed: int
    importance: dict[str, Any]
    annealed: list[dict[str, Any]]
    n: int
    data: str
    elbo: float
    energy: float


def likelihood_table(likelihood: Likelihood) -> Table:
    """Returns a row for each estimate: log Ẑ, the forward bound, and the gain −E − log Ẑ of the test images."""
    rows = [{"what": "draws of the VAE", **likelihood["importance"]}]
    rows += [{"what": f"{row['temperatures']} temperatures", **row} for row in likelihood["annealed"]]
    shown = [{**row, "gain": -likelihood["energy"] - row["log_z"]["value"]} for row in rows]
    columns = [
        Column("what", "log Z by"),
        Column("log_z", "log Ẑ", "interval"),
        Column("forward_bound", "forward bound", "interval"),
        Column("ess", "ESS", "count"),
        Column("num_weights", "weights", "count"),
        Column("gain", "gain", "unit"),
    ]
    return Table("log Z in nats, with 95 % intervals", columns, shown)


def likelihood_sentences(likelihood: Likelihood) -> list[str]:
    """Returns what the table says, in sentences."""
    rows = [likelihood["importance"], *likelihood["annealed"]]
    best = max(rows, key=lambda row: row["ess"])
    usable = best["ess"] >= USABLE_ESS
    return [
        f"The {likelihood['n']:,} test images of {likelihood['data']} have an ELBO of {likelihood['elbo']:.1f} nats "
        f"and an energy of {likelihood['energy']:.2f}, on average. Gain: −E − log Ẑ, by which the VAEBM's "
        "log-likelihood would exceed the VAE's.",
        "The forward bound lies below log Z in expectation. log Ẑ is too low as well where the weights rest on a "
        "few draws. Too low a log Z flatters the model: its gain is then too high.",
        f"The best weights are worth {best['ess']:.1f} draws"
        + (": enough to believe their interval." if usable else
           f", far from {USABLE_ESS:.0f}: their intervals mean nothing, and the gain is not known."),
    ]  # fmt: skip


def likelihood_text(likelihood: Likelihood) -> str:
    """Returns table and sentences for a terminal."""
    lines = [line for sentence in likelihood_sentences(likelihood) for line in textwrap.wrap(sentence, 80)]
    return "\n\n".join([text_table(likelihood_table(likelihood), 100), "\n".join(lines)])
