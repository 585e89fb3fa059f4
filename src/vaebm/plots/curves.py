"""Curves and bars as small SVG drawings that read well on a phone and take the colours of the page around them.

Each function takes numbers and returns one `<svg>` element as text; see `vaebm.plots.axes` for the pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

from vaebm.plots.arrays import FloatArray
from vaebm.plots.axes import (
    INK,
    SOFT,
    TONES,
    Kind,
    Scale,
    Tone,
    drawing,
    finite_range,
    line_at,
    text_at,
    tick_label,
)

_WIDTH, _HEIGHT = 360.0, 216.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 38.0, 34.0
_MOST_POINTS = 160


@dataclass(frozen=True)
class Series:
    """One curve.

    Arguments:
        name: what the legend calls it; "" leaves it out of the legend.
        x: (n,) places on the horizontal axis.
        y: (n,) values; a value that is not finite leaves a gap.
        tone: whose colour it takes: "vae", "vaebm", "real" or "other".
        marked: also draw each point, with its value as a tooltip.
        low: (n,) lower edge of a band around the curve; a curve of many points makes its own.
        high: (n,) its upper edge.
    """

    name: str
    x: FloatArray
    y: FloatArray
    tone: Tone = "vaebm"
    marked: bool = False
    low: FloatArray | None = None
    high: FloatArray | None = None


@dataclass(frozen=True)
class Reference:
    """A dashed level across a chart, such as the floor.

    Arguments:
        value: the level.
        name: the word that stands at it.
        tone: whose colour it takes.
    """

    value: float
    name: str
    tone: Tone = "real"


@dataclass(frozen=True)
class Axis:
    """How one axis of a chart is scaled.

    Arguments:
        label: the word beside it.
        kind: "linear", "log" or "log1p".
        ticks: the values to write; round values if there are none.
        cut: leave the most extreme hundredth of the values outside where it would flatten all others.
    """

    label: str = ""
    kind: Kind = "linear"
    ticks: tuple[float, ...] = field(default=())
    cut: bool = False


@dataclass(frozen=True)
class Bar:
    """One value with its interval, in a group.

    Arguments:
        group: the heading that it stands under.
        name: its own label.
        value: the value.
        low: lower end of its interval.
        high: upper end of its interval.
        tone: whose colour it takes.
    """

    group: str
    name: str
    value: float
    low: float
    high: float
    tone: Tone = "vaebm"


@dataclass(frozen=True)
class _Binned:
    x: FloatArray
    y: FloatArray
    low: FloatArray
    high: FloatArray


def _binned(series: Series) -> _Binned:
    """Average neighbours until few enough points are left, and keep how far they scatter."""
    x, y = np.asarray(series.x, dtype=float), np.asarray(series.y, dtype=float)
    if len(x) <= _MOST_POINTS:
        edges = (y if series.low is None else series.low, y if series.high is None else series.high)
        return _Binned(x, y, *(np.asarray(edge, dtype=float) for edge in edges))
    parts = np.array_split(np.arange(len(x)), _MOST_POINTS)
    columns = [(x[part].mean(), y[part].mean(), y[part].min(), y[part].max()) for part in parts]
    return _Binned(*np.array(columns).T)


def _span(values: FloatArray, axis: Axis) -> tuple[float, float]:
    whole = finite_range(values, axis.kind) or (0.0, 1.0)
    if not axis.cut:
        return whole
    finite = values[np.isfinite(values)]
    inner = finite_range(np.quantile(finite, [0.03, 0.99]), axis.kind) if finite.size else None
    return inner if inner and whole[1] - whole[0] > 3 * (inner[1] - inner[0]) else whole


def _vertical_scale(curves: Sequence[_Binned], references: Sequence[Reference], axis: Axis) -> Scale:
    drawn = np.concatenate([np.concatenate([curve.low, curve.high]) for curve in curves] or [np.zeros(0)])
    low, high = _span(drawn, axis)
    levels = [level.value for level in references if np.isfinite(level.value)]
    if axis.kind == "log":
        levels = [level for level in levels if level > 0]
        low, high = min([low, *levels]), max([high, *levels])
        return Scale(low / (high / low) ** 0.06, high * (high / low) ** 0.06, _HEIGHT - _BOTTOM, _TOP, "log")
    low, high = min([low, *levels]), max([high, *levels])
    margin = 0.06 * (high - low)
    return Scale(low - margin, high + margin, _HEIGHT - _BOTTOM, _TOP, axis.kind)


def _pieces(curve: _Binned, down: Scale) -> list[NDArray[np.intp]]:
    """Return the runs of neighbours that can be drawn, as indices."""
    shown = np.isfinite(curve.x) & np.isfinite(curve.y)
    if down.kind == "log":
        shown &= curve.y > 0
    indices = np.flatnonzero(shown)
    return np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1) if indices.size else []


def _points(x: FloatArray, y: FloatArray, across: Scale, down: Scale) -> str:
    return " ".join(f"{across(float(a)):.1f},{down.clipped(float(b)):.1f}" for a, b in zip(x, y, strict=True))


def _curve(series: Series, curve: _Binned, across: Scale, down: Scale) -> str:
    colour = TONES[series.tone]
    parts = []
    for piece in _pieces(curve, down):
        x, y = curve.x[piece], curve.y[piece]
        if not np.array_equal(curve.low, curve.high, equal_nan=True):
            edge = _points(np.concatenate([x, x[::-1]]), np.concatenate([curve.low[piece], curve.high[piece][::-1]]),
                           across, down)  # fmt: skip
            parts.append(f'<polygon points="{edge}" fill="{colour}" fill-opacity="0.16"/>')
        line = f'fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"'
        parts.append(f'<polyline points="{_points(x, y, across, down)}" {line}/>')
        if series.marked or len(piece) == 1:
            for a, b in zip(x, y, strict=True):
                place = f'cx="{across(float(a)):.1f}" cy="{down.clipped(float(b)):.1f}"'
                parts.append(f'<circle {place} r="3.4" fill="{colour}"><title>{a:g}: {b:.4g}</title></circle>')
    return "".join(parts)


def _legend(series: Sequence[Series]) -> str:
    spans = [
        f'<tspan dx="{10 if index else 0}" fill="{TONES[entry.tone]}">● {escape(entry.name)}</tspan>'
        for index, entry in enumerate(entry for entry in series if entry.name)
    ]
    return f'<text x="{_LEFT:g}" y="30" font-size="11">{"".join(spans)}</text>' if spans else ""


def _frame(across: Scale, down: Scale, across_axis: Axis, title: str) -> list[str]:
    parts = [f'<text x="2" y="13" font-size="12.5" font-weight="600" fill="{INK}">{escape(title)}</text>']
    for value in down.ticks(4):
        parts.append(line_at(_LEFT, down(value), _WIDTH - _RIGHT, down(value)))
        parts.append(text_at(_LEFT - 6, down(value) + 3.8, tick_label(value), "end"))
    reached = -np.inf
    for value in across_axis.ticks or across.ticks(5):
        label = tick_label(value)
        if across(value) - 3.3 * len(label) > reached:
            parts.append(text_at(across(value), _HEIGHT - _BOTTOM + 15, label, "middle"))
            reached = across(value) + 3.3 * len(label) + 5
    parts.append(text_at((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, across_axis.label, "middle"))
    return parts


def cursor_shifts(x: FloatArray) -> FloatArray:
    """Return how far right the cursor of a `line_chart` must move to stand at each place.

    Arguments:
        x: (n,) the places of the chart's curves, whose linear axis they span.

    Returns:
        (n,) shifts in units of the drawing.

    Example:
        >>> cursor_shifts(np.array([0.0, 5.0, 10.0]))
        array([  0., 148., 296.])
    """
    left, right = finite_range(x, "linear") or (0.0, 1.0)
    scale = Scale(left, right, 0.0, _WIDTH - _RIGHT - _LEFT - 8)
    return np.array([scale(float(place)) for place in x])


def line_chart(
    title: str,
    series: Sequence[Series],
    across: Axis = Axis(),
    down: Axis = Axis(),
    references: Sequence[Reference] = (),
    cursor: bool = False,
) -> str:
    """Draw curves over a common axis; a curve of many points becomes its mean and the band it scatters in.

    Arguments:
        title: what the values are, with their unit.
        series: the curves.
        across: the horizontal axis.
        down: the vertical axis.
        references: levels to draw across.
        cursor: add an upright line of class "cursor" at the left end, for a page to move by `cursor_shifts`.

    Returns:
        One `<svg>` element.

    Example:
        >>> line_chart("loss", [Series("", np.arange(3.0), np.ones(3))]).count("<polyline")
        1
    """
    curves = [_binned(entry) for entry in series]
    places = np.concatenate([np.asarray(entry.x, dtype=float) for entry in series] or [np.zeros(0)])
    left, right = finite_range(places, across.kind) or (0.0, 1.0)
    horizontal = Scale(left, right, _LEFT + 4, _WIDTH - _RIGHT - 4, across.kind)
    vertical = _vertical_scale(curves, references, down)
    parts = [*_frame(horizontal, vertical, across, title), _legend(series)]
    for level in references:
        if np.isfinite(level.value) and (down.kind != "log" or level.value > 0):
            y = vertical.clipped(level.value)
            parts.append(line_at(_LEFT, y, _WIDTH - _RIGHT, y, TONES[level.tone], "5 4"))
            parts.append(text_at(_WIDTH - _RIGHT, y - 4, level.name, "end", 10.5, TONES[level.tone]))
    parts += [_curve(entry, curve, horizontal, vertical) for entry, curve in zip(series, curves, strict=True)]
    if cursor:
        parts.append(f'<g class="cursor">{line_at(_LEFT + 4, _TOP, _LEFT + 4, _HEIGHT - _BOTTOM, INK)}</g>')
    return drawing(_WIDTH, _HEIGHT, f"{title}, {across.label}", parts)


def ranking_bars(title: str, bars: Sequence[Bar], lowest: float = 0.5, highest: float = 1.0) -> str:
    """Draw values with their intervals, group under group, on one axis.

    Arguments:
        title: what the values are.
        bars: the values, those of one group beside each other.
        lowest: where the axis begins, unless a value lies below.
        highest: where it ends.

    Returns:
        One `<svg>` element; its height grows with the number of bars.

    Example:
        >>> ranking_bars("AUROC", [Bar("noise", "energy", 0.9, 0.88, 0.92)]).count("<circle")
        1
    """
    lowest = min([lowest, *(bar.low for bar in bars if np.isfinite(bar.low))])
    scale = Scale(lowest, highest, 92.0, _WIDTH - 48, "linear")
    parts, y, group = [], 20.0, None
    for bar in bars:
        if bar.group != group:
            y += 24
            parts.append(text_at(2, y, bar.group, "start", 12, INK))
            group = bar.group
        y += 17
        parts += [line_at(scale(value), y - 8.5, scale(value), y + 8.5) for value in scale.ticks(6)]
        colour = TONES[bar.tone]
        parts.append(text_at(84, y + 4, bar.name, "end"))
        if not np.isfinite(bar.value):
            continue
        ends = f'x1="{scale.clipped(bar.low):.1f}" x2="{scale.clipped(bar.high):.1f}"'
        parts.append(line_at(scale.start, y, scale.clipped(bar.value), y, colour))
        parts.append(f'<line {ends} y1="{y:g}" y2="{y:g}" stroke="{colour}" stroke-width="6" stroke-opacity="0.3"/>')
        parts.append(f'<circle cx="{scale.clipped(bar.value):.1f}" cy="{y:g}" r="3.4" fill="{colour}"/>')
        parts.append(text_at(_WIDTH - 2, y + 4, f"{bar.value:.3f}", "end", 11, INK))
    rules = [text_at(scale(value), y + 24, tick_label(value), "middle") for value in scale.ticks(6)]
    head = f'<text x="2" y="13" font-size="12.5" font-weight="600" fill="{INK}">{escape(title)}</text>'
    return drawing(_WIDTH, y + 30, title, [head, *rules, *parts])


def share_bars(
    title: str,
    shares: Sequence[float],
    names: Sequence[str],
    tone: Tone = "vaebm",
    level: Sequence[float] | None = None,
    highest: float | None = None,
) -> str:
    """Draw how often each class occurs.

    Arguments:
        title: whose shares these are.
        shares: (K,) the share of each class.
        names: (K,) what each class is called.
        tone: whose colour the bars take.
        level: (K,) shares to compare with, drawn as a dash over each bar; equal shares if there are none.
        highest: the share at the top of the drawing, for drawings to be compared; the largest one if not given.

    Returns:
        One `<svg>` element.

    Raises:
        ValueError: if the numbers of shares, names and levels differ.

    Example:
        >>> share_bars("VAE", [0.4, 0.6], ["0", "1"]).count("<rect")
        2
    """
    count = len(shares)
    compared = [1.0 / max(count, 1)] * count if level is None else list(level)
    if len(names) != count or len(compared) != count:
        raise ValueError(f"shares, names and level must be equally many: {count}, {len(names)}, {len(compared)}")
    width, height, foot = 240.0, 124.0, 106.0
    top = max([*shares, *compared, 1e-9]) if highest is None else highest
    scale = Scale(0.0, top * 1.05, foot, 24.0)
    step = (width - 4) / max(count, 1)
    parts = [f'<text x="2" y="13" font-size="12.5" font-weight="600" fill="{INK}">{escape(title)}</text>']
    for index, (share, name, expected) in enumerate(zip(shares, names, compared, strict=True)):
        x, top = 2 + index * step, scale.clipped(share)
        size = f'x="{x + step * 0.12:.1f}" y="{top:.1f}" width="{step * 0.76:.1f}" height="{foot - top:.1f}"'
        parts.append(f'<rect {size} rx="1.5" fill="{TONES[tone]}"><title>{escape(name)}: {share:.3f}</title></rect>')
        parts.append(line_at(x + 1, scale(expected), x + step - 1, scale(expected), INK))
        parts.append(text_at(x + step / 2, foot + 14, name, "middle"))
    return drawing(width, height, f"{title}: share of each class", [*parts, line_at(2, foot, width - 2, foot, SOFT)])
