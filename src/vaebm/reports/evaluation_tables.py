"""The tables that an evaluation is read in: sample quality, steps, outliers, false alarms.

The same tables stand in the terminal and in the report.
"""

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from vaebm.reports.agreement import chain_text
from vaebm.reports.content import ErrorFigure, Evaluation, ModeRow, OutlierRow, number
from vaebm.reports.tables import Column, Table, text_table

QUALITY_COLUMNS = (
    Column("what", "images"),
    Column("frechet", "Fréchet", "digits", better="low", meaning="Fréchet distance between the judge's features"),
    Column("closed", "closed", "percent", better="high", meaning="share of the way from the VAE to the floor"),
    Column("kernel", "kernel", "digits", "kernel_std", "low", "unbiased squared MMD with a cubic kernel"),
    Column("kernel_interval", "kernel", "interval", better="low",
           meaning="unbiased squared MMD with a cubic kernel, with its 95 % interval"),
    Column("precision", "precision", "unit", better="high", meaning="share of samples in the range of real images"),
    Column("recall", "recall", "unit", better="high", meaning="share of real images in the range of the samples"),
    Column("density", "density", "digits", better="high", meaning="real images near a sample, 1 is as expected"),
    Column("coverage", "coverage", "unit", better="high", meaning="share of real images with a sample near"),
    Column("confidence", "confidence", "unit", meaning="the judge's mean confidence in its class"),
)  # fmt: skip


def tone_of(what: str) -> str:
    """Return whose colour a row of images takes: "real", "vae" or "vaebm".

    Example:
        >>> tone_of("floor"), tone_of("VAE"), tone_of("VAEBM, mean image")
        ('real', 'vae', 'vaebm')
    """
    if what.upper().startswith("VAEBM"):
        return "vaebm"
    return "vae" if what.upper().startswith("VAE") else "real"


def quality_table(evaluation: Evaluation) -> Table:
    """Return the table of sample quality: for each judge the floor, the VAE and the VAEBM.

    Arguments:
        evaluation: what was measured.

    Returns:
        The table, grouped by judge, in the order of the first row of each.
    """
    rows = evaluation.get("quality", [])
    order = list(dict.fromkeys(row.get("judge", "") for row in rows))
    sorted_rows = sorted(rows, key=lambda row: order.index(row.get("judge", "")))
    shown = [{**row, "group": f"judge {row.get('judge', '')}", "tone": tone_of(row.get("what", ""))}
             for row in sorted_rows]  # fmt: skip
    count = f", n = {evaluation['n']:,}" if "n" in evaluation else ""
    # Measurements of before there were intervals have a deviation between subsets instead.
    hidden = "kernel" if any("kernel_interval" in row for row in rows) else "kernel_interval"
    columns = [column for column in QUALITY_COLUMNS if column.key != hidden]
    return Table(f"Sample quality against the test images{count}", columns, shown, "group", "tone")


def score_name(score: str) -> str:
    """Return how a score is written in a report.

    Example:
        >>> score_name("elbo"), score_name("joint")
        ('ELBO', 'joint')
    """
    return "ELBO" if score == "elbo" else score


def outlier_table(evaluation: Evaluation, figure: Literal["auroc", "aupr", "fpr95"] = "auroc") -> Table:
    """Return the table of one outlier figure: a row for each outlier set, a column for each score.

    Arguments:
        evaluation: what was measured.
        figure: "auroc", "aupr" or "fpr95".

    Returns:
        The table.
    """
    entries = evaluation.get("outliers", [])
    scores = list(dict.fromkeys(entry.get("score", "") for entry in entries))
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = entry.get("set", "")
        row = rows.setdefault(name, {"set": name, "num_outliers": entry.get("num_outliers")})
        row[f"score {entry.get('score', '')}"] = entry.get(figure)
    shown = [Column(f"score {score}", score_name(score), "interval") for score in scores]
    columns = [Column("set", "outliers"), *shown]
    name = {"auroc": "AUROC (1 is best, 0.5 is chance)", "aupr": "AUPR (1 is best)"}.get(figure, "FPR95 (0 is best)")
    caption = f"{name}, with bootstrap intervals"
    return Table(caption, [*columns, Column("num_outliers", "n", "count")], list(rows.values()))


def ranking_table(evaluation: Evaluation) -> Table:
    """Return the table of all outlier figures: for each outlier set a row for each score.

    Arguments:
        evaluation: what was measured.

    Returns:
        The table, grouped by outlier set.
    """
    entries = evaluation.get("outliers", [])
    rows = [{**entry, "title": score_name(entry.get("score", "")), "group": _counted_set(entry)} for entry in entries]
    normal = next((f"{entry['num_normal']:,} " for entry in entries if "num_normal" in entry), "")
    columns = (
        Column("title", "score"),
        Column("auroc", "AUROC", "interval", better="high"),
        Column("aupr", "AUPR", "interval", better="high"),
        Column("fpr95", "FPR95", "interval", better="low"),
    )
    return Table(f"Outliers against {normal}test images, with 95 % bootstrap intervals", columns, rows, "group")


def _counted_set(entry: OutlierRow) -> str:
    """Return the name of an outlier set, with the number of its images if it is known."""
    count = entry.get("num_outliers")
    return entry.get("set", "") + ("" if count is None else f" (n = {count:,})")


def p_value_table(evaluation: Evaluation) -> Table:
    """Return the table of false alarms: how many normal images fall below each level.

    Arguments:
        evaluation: what was measured.

    Returns:
        The table; "off by" is in percentage points, "chance" what 95 % of calibration and test sets of these sizes stay
        within; of test sets alone, where the number of calibration images isn't known.
    """
    rows = []
    for row in evaluation.get("p_values", []):
        level, measured, count = number(row.get("level")), number(row.get("measured")), number(row.get("n"))
        off = None if level is None or measured is None else measured - level
        others = number(row.get("num_calibration"))
        shares = (1 / count if count else np.nan) + (1 / others if others else 0)
        chance = None if level is None or not count else 1.96 * np.sqrt(level * (1 - level) * shares)
        rows.append({**row, "off": off, "chance": chance})
    columns = (
        Column("level", "level α"),
        Column("measured", "test images with p ≤ α", "rate"),
        Column("off", "off by, points", "points"),
        Column("chance", "chance alone, points", "margin"),
        Column("n", "n", "count"),
    )
    return Table("False alarms on normal images", columns, rows)


def steps_table(evaluation: Evaluation) -> Table:
    """Return the table behind the curve by steps: a row for each number of steps, a column for each judge.

    Arguments:
        evaluation: what was measured.

    Returns:
        The table, by rising number of steps.
    """
    entries = evaluation.get("steps_curve", [])
    judges = list(dict.fromkeys(entry.get("judge", "") for entry in entries))
    rows: dict[int, dict[str, Any]] = {}
    for entry in sorted(entries, key=lambda entry: entry.get("num_steps", 0)):
        steps = entry.get("num_steps", 0)
        rows.setdefault(steps, {"num_steps": steps})[f"judge {entry.get('judge', '')}"] = entry.get("frechet")
    columns = [Column("num_steps", "steps", "count"), *(Column(f"judge {judge}", judge, "digits") for judge in judges)]
    return Table("Fréchet distance by number of chain steps", columns, list(rows.values()))


def mode_table(evaluation: Evaluation) -> Table:
    """Return the table of classes that samples reach: for each judge test images, the VAE and the VAEBM.

    Arguments:
        evaluation: what was measured.

    Returns:
        The table, grouped by judge.
    """
    rows = [
        # Figures of before errors were measured have none.
        {"kl_interval": {"value": row["kl"]}, **row, "group": _told_of(row), "tone": tone_of(row["what"])}
        for row in evaluation.get("modes", [])
    ]
    columns = (
        Column("what", "images"),
        Column("num_modes", "modes", "count", better="high", meaning="classes that occur at least once"),
        Column("num_classes", "of", "count"),
        Column("kl_interval", "KL", "interval", better="low",
               meaning="KL divergence of their shares from equal ones, in nats, ±1.96 standard errors"),
        Column("kl_by_chance", "by chance", "digits", meaning="that of as many draws of equally probable classes"),
        Column("n", "n", "count"),
    )  # fmt: skip
    return Table("Classes that samples reach", columns, rows, "group", "tone")


def _told_of(row: ModeRow) -> str:
    """Return a judge's name, with how well it knows the labels if it learned them on the spot."""
    accuracy = row.get("accuracy")
    return f"judge {row['judge']}" + ("" if accuracy is None else f", {100 * accuracy:.1f} % of held-out images right")


def shares_table(evaluation: Evaluation) -> Table:
    """Return the histograms of classes: a row for each class, a column for each set of images, by judge.

    Arguments:
        evaluation: what was measured.

    Returns:
        The table, grouped by judge.
    """
    found = [row for row in evaluation.get("modes", []) if row.get("shares")]
    sets, rows = list(dict.fromkeys(row["what"] for row in found)), []
    for judge in dict.fromkeys(row["judge"] for row in found):
        own = [row for row in found if row["judge"] == judge]
        shares = {row["what"]: row.get("shares") or [] for row in own}
        count = len(next(iter(shares.values())))
        labels = own[0].get("labels") or range(count)
        rows += [
            {"group": _told_of(own[0]), "class": str(labels[index]),
             **{what: values[index] for what, values in shares.items()}}
            for index in range(count)
        ]  # fmt: skip
    columns = [Column("class", "class"), *(Column(what, what, "percent") for what in sets)]
    return Table("Shares of classes", columns, rows, "group")


def standard_table(evaluation: Evaluation) -> Table:
    """Return the table of FID, KID and IS: for each extractor the floor, the VAE and the VAEBM.

    Arguments:
        evaluation: what was measured.

    Returns:
        The table, grouped by extractor.
    """
    found = evaluation.get("standard", [])
    rows = [
        {**row, "group": f"{row['extractor']}, against {row['num_reference']:,} {row['against']} images",
         "tone": tone_of(row["what"]),
         "kid": _thousandfold(row["kid"])}
        for row in found
    ]  # fmt: skip
    columns = (
        Column("what", "images"),
        Column("fid", "FID", "interval", better="low", meaning="with 1.96 standard errors"),
        Column("kid", "KID × 1000", "interval", better="low", meaning="mean over subsets"),
        Column("inception_score", "IS", "interval", better="high", meaning="mean over parts"),
        Column("n", "n", "count"),
    )
    return Table("FID, KID and IS by torchmetrics", columns, rows, "group", "tone")


def _thousandfold(figure: ErrorFigure) -> ErrorFigure:
    value, low, high = figure["value"], figure["low"], figure["high"]
    if low is None or high is None:
        return ErrorFigure(value=1000 * value, low=None, high=None)
    return ErrorFigure(value=1000 * value, low=1000 * low, high=1000 * high)


def evaluation_text(evaluation: Evaluation) -> str:
    """Write every table of an evaluation for the terminal.

    Arguments:
        evaluation: what was measured.

    Returns:
        The tables that have rows, with an empty line between them.
    """
    quality = quality_table(evaluation)
    # The judge's confidence says least, and a terminal is narrow.
    quality = replace(quality, columns=[column for column in quality.columns if column.key != "confidence"])
    tables = (quality, steps_table(evaluation), ranking_table(evaluation), p_value_table(evaluation),
              mode_table(evaluation), shares_table(evaluation), standard_table(evaluation))  # fmt: skip
    texts = [text_table(table) for table in tables if table.rows]
    return "\n\n".join([*texts, *filter(None, [chain_text(evaluation.get("chains", {}))])])
