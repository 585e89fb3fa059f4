"""The few pieces of SVG that the curves are made of: scales, ticks, text.

A drawing carries its colours as CSS variables with a fallback, `var(--tone-vae, #…)`: on its own it is a light figure,
inside a page it takes the colours of the page, dark or light. Nothing in it refers to anything outside of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["linear", "log", "log1p"]
Tone = Literal["vae", "vaebm", "real", "other"]

TONES: dict[str, str] = {
    "vae": "var(--tone-vae, #c05a12)",
    "vaebm": "var(--tone-vaebm, #0b7a75)",
    "real": "var(--tone-real, #6b7280)",
    "other": "var(--tone-other, #6d4bb3)",
}
INK = "var(--ink, #24262b)"
SOFT = "var(--ink-soft, #676c76)"
RULE = "var(--rule, #d9d9d4)"


@dataclass(frozen=True)
class Scale:
    """A map from values to places in the drawing.

    Arguments:
        low: the value at `start`.
        high: the value at `end`, above low.
        start: where low lies, in units of the drawing.
        end: where high lies.
        kind: "linear", "log" (values above 0) or "log1p" (log(1 + value), values from 0).

    Example:
        >>> Scale(0.0, 10.0, 100.0, 200.0)(5.0)
        150.0
    """

    low: float
    high: float
    start: float
    end: float
    kind: Kind = "linear"

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        low, high, here = (self._bend(number) for number in (self.low, self.high, value))
        return float(self.start + (self.end - self.start) * (here - low) / (high - low))

    def clipped(self, value: float) -> float:
        """Return the place of a value, or of the end of the scale that it lies beyond."""
        return self(min(max(value, self.low), self.high))

    def _bend(self, value: float) -> float:
        if self.kind == "log":
            return float(np.log(value))
        return float(np.log1p(value)) if self.kind == "log1p" else value

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values inside of the scale, about as many as asked for."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        if self.kind == "linear":
            places = MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        else:
            decades = np.log10(self.high / max(self.low, 1.0 if self.kind == "log1p" else self.low))
            subs = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0)
            places = LogLocator(subs=subs).tick_values(max(self.low, 1e-300), self.high)
        margin = 1e-9 * abs(self.high - self.low)
        return [float(place) for place in places if self.low - margin <= place <= self.high + margin]


def finite_range(values: Sequence[float] | NDArray[np.floating[Any]], kind: Kind) -> tuple[float, float] | None:
    """Return the smallest and the largest value that a scale can show, a little apart; None if there is none.

    Example:
        >>> finite_range([1.0, float("nan"), 3.0], "linear")
        (1.0, 3.0)
    """
    array = np.asarray(values, dtype=float)
    array = array[np.isfinite(array)]
    if kind != "linear":
        array = array[array > 0] if kind == "log" else array[array >= 0]
    if array.size == 0:
        return None
    low, high = float(array.min()), float(array.max())
    if high - low <= 1e-12 * max(abs(high), 1e-12):
        widen = abs(low) * 0.1 or 1.0
        return (low - widen, high + widen) if kind == "linear" else (low / 2, high * 2 + 1e-12)
    return low, high


def tick_label(value: float) -> str:
    """Write a tick value as short as it can be told.

    Example:
        >>> tick_label(-2000000.0), tick_label(0.25), tick_label(12000.0)
        ('−2M', '0.25', '12k')
    """
    size = abs(value)
    if size >= 1e6:
        text = f"{size / 1e6:.3g}M"
    elif size >= 1e4:
        text = f"{size / 1e3:.3g}k"
    else:
        text = f"{size:.4g}"
    return f"−{text}" if value < 0 and float(size) != 0 else text


def text_at(x: float, y: float, text: str, anchor: str = "start", size: float = 11, fill: str = SOFT) -> str:
    """Return one line of text; everything in it is escaped."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}" fill="{fill}">{escape(text)}</text>'
    )


def line_at(x1: float, y1: float, x2: float, y2: float, stroke: str = RULE, dash: str = "") -> str:
    """Return one straight thin line."""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"{dashes}/>'


def drawing(width: float, height: float, description: str, parts: Sequence[str]) -> str:
    """Put the parts into one SVG element that says in words what it shows.

    Example:
        >>> drawing(10, 5, "a < b", []).startswith('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 5"')
        True
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(description)}" font-family="var(--sans, system-ui, sans-serif)">'
        + "".join(parts)
        + "</svg>"
    )
