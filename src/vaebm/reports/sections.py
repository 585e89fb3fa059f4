"""The sections of a report, each from the part of the content that it shows; "" where that part is missing."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from vaebm.plots import Axis, Bar, Reference, Series, Tone, image_grid, line_chart, ranking_bars, share_bars
from vaebm.reports.agreement import chain_sentences
from vaebm.reports.content import Evaluation, ReportContent, number
from vaebm.reports.evaluation_tables import (
    outlier_table,
    p_value_table,
    quality_table,
    score_name,
    steps_table,
    tone_of,
)
from vaebm.reports.markup import bullets, details, figure, grid_image, paragraphs, png_image
from vaebm.reports.sentences import (
    kernel_sentence,
    nearest_sentence,
    p_value_sentence,
    rows_by_judge,
    shares_sentence,
    steps_sentence,
    weak_spots,
)
from vaebm.reports.tables import format_value, html_table
from vaebm.training import Act

_SCORE_TONES: dict[str, Tone] = {"energy": "other", "elbo": "vae", "joint": "vaebm"}


def samples_section(content: ReportContent) -> str:
    """Return the VAE's samples beside those of the VAEBM and real images."""
    columns = 8
    parts = []
    for images, tone, caption in (
        (content.vae_samples, "vae", "<b>VAE</b>: where the chains start."),
        (content.vaebm_samples, "vaebm", "<b>VAEBM</b>: where the chains of the same noise end, in the same places."),
        (content.real_images, "real", "<b>Real images</b>, to compare with."),
    ):
        if images is not None and len(images):
            plain = caption.replace("<b>", "").replace("</b>", "")
            parts.append(figure(grid_image(images, columns, f"A grid of images. {plain}"), caption, tone))
    return f'<div class="trio">{"".join(parts)}</div>' if parts else ""


def _tile(name: str, rows: Mapping[str, Any]) -> str:
    after, closed = (number(rows["vaebm"].get(key)) for key in ("frechet", "closed"))
    before, floor = (number(rows.get(kind, {}).get("frechet")) for kind in ("vae", "real"))
    start = f"<i>{format_value(before)}</i> → " if before is not None else ""
    meter, remarks = "", []
    if closed is not None and np.isfinite(closed):
        meter = f'<div class="meter"><div style="width:{100 * min(max(closed, 0.0), 1.0):.1f}%"></div></div>'
        remarks.append(f"{format_value(closed, 'percent')} of the gap closed".replace("-", "−"))
    if floor is not None:
        remarks.append(f"floor {format_value(floor)}")
    return (
        f'<li class="tile"><span>Fréchet distance, judge {escape(name)}</span>'
        f"<strong>{start}<b>{format_value(after)}</b></strong>{meter}<span>{escape(', '.join(remarks))}</span></li>"
    )


def tiles(evaluation: Evaluation) -> str:
    """Return one tile with the Fréchet distances of each judge."""
    entries = [_tile(name, rows) for name, rows in rows_by_judge(evaluation).items()]
    return f'<ul class="tiles">{"".join(entries)}</ul>' if entries else ""


def quality_section(content: ReportContent) -> str:
    """Return the table of sample quality with what its columns mean."""
    table = quality_table(content.evaluation)
    if not table.rows:
        return ""
    meanings = [f"{column.title}: {column.meaning}." for column in table.shown_columns() if column.meaning]
    text = (
        "A judge is a network that no generator was trained with; distances are taken between its features. The "
        "first judge also chose among the candidates of the run, on the selection split; the others chose nothing. The "
        "floor is what as many real training images get in place of samples: no generator can be expected below it."
    )
    compared = kernel_sentence(content.evaluation)
    return (
        tiles(content.evaluation)
        + paragraphs(compared, text)
        + html_table(table)
        + details("The columns", bullets(meanings))
    )


def agreement_section(content: ReportContent) -> str:
    """Return what is said of the chains: do they agree, and what could compare the mass of modes."""
    return bullets(chain_sentences(content.evaluation.get("chains", {})))


def steps_section(content: ReportContent) -> str:
    """Return the curve of quality by number of chain steps, for each judge."""
    entries = content.evaluation.get("steps_curve", [])
    judges = list(dict.fromkeys(entry.get("judge", "") for entry in entries))
    known = rows_by_judge(content.evaluation)
    charts = []
    for judge in judges:
        points = sorted(
            (entry.get("num_steps", 0), value)
            for entry in entries
            if entry.get("judge", "") == judge and (value := number(entry.get("frechet"))) is not None
        )
        if not points:
            continue
        steps, values = (np.array(column, dtype=float) for column in zip(*points, strict=True))
        floor = number(known.get(judge, {}).get("real", {}).get("frechet"))
        levels = [Reference(floor, f"floor {format_value(floor)}")] if floor is not None else []
        curve = Series("", steps, values, "vaebm", marked=True)
        across = Axis("Langevin steps", "log1p", tuple(float(step) for step in steps))
        charts.append(figure(line_chart(f"Fréchet distance, {judge}", [curve], across, Axis(kind="log"), levels)))
    if not charts:
        return ""
    text = "Both axes are logarithmic. No steps at all is the VAE."
    table = details("The numbers", html_table(steps_table(content.evaluation)))
    body = f'<div class="charts">{"".join(charts)}</div>'
    return paragraphs(steps_sentence(content.evaluation), text) + body + f"<p></p>{table}"


def shares_section(content: ReportContent) -> str:
    """Return how often each class occurs, in the eyes of the first judge that counted."""
    rows = [row for row in content.evaluation.get("quality", []) if row.get("shares")]
    rows = [row for row in rows if row.get("judge") == rows[0].get("judge")]
    if not rows:
        return ""
    count = len(rows[0].get("shares") or [])
    if count > _MOST_BARS:
        text = f"Which of {count} classes judge {rows[0].get('judge', '')} sees in each image."
        return paragraphs(text) + bullets([shares_sentence(row) for row in rows])
    names = [str(index) for index in range(count)]
    highest = max(max(row.get("shares") or [0.0]) for row in rows)
    level = next((row.get("shares") for row in rows if tone_of(row.get("what", "")) == "real"), None)
    charts = []
    for row in rows:
        what, tone = row.get("what", ""), tone_of(row.get("what", ""))
        title = "real images" if tone == "real" else what
        bars: Tone = "vaebm" if tone == "vaebm" else "vae" if tone == "vae" else "real"
        charts.append(figure(share_bars(title, row.get("shares") or [], names, bars, level, highest)))
    compared = "the share among real images" if level is not None else "equal shares"
    text = (
        f"Which class judge {rows[0].get('judge', '')} sees in each image, as a share of all. The dash is {compared}."
    )
    sentences = [shares_sentence(row) for row in rows if tone_of(row.get("what", "")) != "real"]
    return paragraphs(text) + bullets(sentences) + f'<div class="charts small-charts">{"".join(charts)}</div>'


def outliers_section(content: ReportContent) -> str:
    """Return how well each score tells outliers from test images, and the weak spot of each."""
    entries = content.evaluation.get("outliers", [])
    if not entries:
        return ""
    bars = []
    for entry in sorted(entries, key=lambda entry: [e.get("set") for e in entries].index(entry.get("set"))):
        area: Mapping[str, Any] = entry.get("auroc") or {}
        value = number(area.get("value"))
        if value is not None:
            low, high = number(area.get("low")), number(area.get("high"))
            score = entry.get("score", "")
            ends = (value if low is None else low, value if high is None else high)
            bars.append(Bar(entry.get("set", ""), score_name(score), value, *ends, _SCORE_TONES.get(score, "real")))
    text = (
        "Each score says how unlike the training images an image is. The area under the ROC curve is the chance that "
        "an outlier gets a higher score than a test image. The energy is E(x), the ELBO the VAE’s bound (its negative "
        "is the score), the joint score the sum of both."
    )
    chart = figure(ranking_bars("AUROC by outlier set and score", bars)) if bars else ""
    tables = "".join(
        html_table(table) for table in (outlier_table(content.evaluation, name) for name in ("aupr", "fpr95"))
        if len(table.shown_columns()) > 2
    )  # fmt: skip
    more = details("AUPR and FPR95", tables) if tables else ""
    body = f'<div class="charts"><div>{chart}</div><div>{bullets(weak_spots(content.evaluation))}</div></div>'
    return paragraphs(text) + body + html_table(outlier_table(content.evaluation)) + more


def p_values_section(content: ReportContent) -> str:
    """Return whether the stored p-values raise as many false alarms as they say."""
    table = p_value_table(content.evaluation)
    if not table.rows:
        return ""
    text = (
        "A score becomes a p-value by its rank among the scores of the calibration images, which no other step has "
        "seen. If all is well, the share of test images with p ≤ α is α."
    )
    return paragraphs(text, p_value_sentence(content.evaluation)) + html_table(table)


def nearest_section(content: ReportContent) -> str:
    """Return some samples beside their nearest training images."""
    nearest = content.nearest
    if nearest is None or len(nearest.samples) == 0:
        return ""
    strips = []
    for index, (sample, neighbours) in enumerate(zip(nearest.samples, nearest.neighbours, strict=True)):
        scale = max(1, 64 // sample.shape[-1])
        first = image_grid(sample[None], 1, padding=0, scale=scale)
        others = image_grid(neighbours, len(neighbours), padding=2, scale=scale)[2:-2]
        gap = np.full((first.shape[0], 10, 3), 112, np.uint8)
        distances = " · ".join(format_value(float(value)) for value in nearest.distances[index])
        alt = f"Sample {index + 1}, then its {len(neighbours)} nearest training images; distances {distances}"
        caption = f"<b>Sample {index + 1}</b>: {escape(distances)}"
        strips.append(figure(png_image(np.concatenate([first, gap, others], axis=1), alt), caption))
    text = "First the sample, then its nearest training images, with their distances. Copies would show as equal pairs."
    return paragraphs(text, nearest_sentence(nearest)) + f'<div class="neighbours">{"".join(strips)}</div>'


_MOST_BARS = 50
_VAE_CURVES = {
    "bits_per_dim": "Bits per dimension",
    "log_likelihood": "Log-likelihood, nats",
    "kl": "KL, nats",
    "learning_rate": "Learning rate",
}
_ENERGY_CURVES = {
    "gap": "Gap: data − samples",
    "separation": "Separation: the gap in standard deviations",
    "would_accept": "How likely a move would be accepted",
    "noise_norm": "|noise|² / D of the chains",
    "displacement": "How far a chain moves",
    "spectral_penalty": "Spectral penalty",
    "loss": "Loss",
    "learning_rate": "Learning rate",
}
_LEVELS = {"gap": Reference(0.0, "equal"), "noise_norm": Reference(1.0, "the prior")}


def _series(rows: Sequence[Mapping[str, Any]], key: str, name: str = "", tone: Tone = "vaebm") -> Series | None:
    pairs = [(number(row.get("iteration")), number(row.get(key))) for row in rows]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    if not known:
        return None
    x, y = np.array(known).T
    return Series(name, x, y, tone)


def _stage_charts(
    rows: Sequence[Mapping[str, Any]],
    pairs: Mapping[str, Sequence[Series | None]],
    curves: Mapping[str, str],
    tone: Tone,
    undone: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    across, down = Axis("iteration"), Axis(cut=True)
    charts = []
    for title, group in pairs.items():
        shown = [series for series in group if series is not None]
        if shown:
            charts.append(figure(line_chart(title, shown, across, down)))
    for key, title in curves.items():
        series, before = _series(rows, key, "kept" if undone else "", tone), _series(undone, key, "undone", "other")
        if series is not None:
            levels = [_LEVELS[key]] if key in _LEVELS else []
            shown = [series] if before is None else [before, series]
            charts.append(figure(line_chart(title, shown, across, down, levels)))
    return charts


class _Energy(NamedTuple):
    """Rows of stage 2: those that were kept, those that the guard undid, and what it did, in sentences."""

    kept: list[Mapping[str, Any]]
    undone: list[Mapping[str, Any]]
    acts: list[str]


def _energy_rows(metrics: Sequence[Mapping[str, Any]]) -> _Energy:
    found = _Energy([], [], [])
    for row in metrics:
        if row.get("stage") == "energy":
            found.kept.append(row)
        elif row.get("stage") == "guard":
            undone = [one for one in found.kept if one["iteration"] > row["returned_to"]]
            found.undone.extend(undone)
            found.kept[:] = [one for one in found.kept if one["iteration"] <= row["returned_to"]]
            values = {name: value for name, value in row.items() if name != "stage"}
            found.acts.append(Act(**{**values, "reasons": (row["reasons"],)}).text())
    return found


def training_section(content: ReportContent) -> str:
    """Return the curves of both stages."""
    vae, selection = (
        [row for row in content.metrics if row.get("stage") == stage] for stage in ("vae", "vae_selection")
    )
    energy = _energy_rows(content.metrics)
    elbos = [_series(vae, "elbo", "training", "vae"), _series(selection, "elbo", "selection split", "real")]
    energies = [
        _series(energy.kept, "data_energy", "data", "real"),
        _series(energy.kept, "sample_energy", "samples", "vaebm"),
    ]
    stages = {
        "First stage: the VAE": _stage_charts(vae, {"ELBO, nats": elbos}, _VAE_CURVES, "vae"),
        "Second stage: the energy network": _stage_charts(
            energy.kept, {"Mean energy": energies}, _ENERGY_CURVES, "vaebm", energy.undone
        ),
    }
    parts = [
        f'<h3>{title}</h3><div class="charts">{"".join(charts)}</div>' for title, charts in stages.items() if charts
    ]
    if energy.acts:
        parts.append(paragraphs("What the guard did:") + bullets(energy.acts))
    note = '<p class="note">Where there are many records, a curve is the mean of neighbours and its band their range; '
    note += "the first records may lie outside of the frame.</p>"
    return "".join(parts) + note if parts else ""
