import re
from xml.etree import ElementTree

import numpy as np
import pytest

from vaebm.plots import Axis, Bar, Reference, Series, cursor_shifts, line_chart, ranking_bars, share_bars
from vaebm.plots.axes import Scale, finite_range, tick_label

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    assert not re.search(r"nan|inf\b|href|url\(", re.sub(r"<(text|title|tspan)[^>]*>[^<]*", "", svg))
    return ElementTree.fromstring(svg)


def points_of(svg: str, which: int = 0) -> np.ndarray:
    line = parsed(svg).findall(f"{SVG}polyline")[which]
    return np.array([[float(number) for number in pair.split(",")] for pair in line.attrib["points"].split()])


def texts_of(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in parsed(svg).iter(f"{SVG}text")]


def test_a_straight_line_is_drawn_straight_upwards() -> None:
    points = points_of(line_chart("y", [Series("", np.arange(11.0), 3 * np.arange(11.0))]))
    assert len(points) == 11
    assert np.allclose(np.diff(points[:, 0]), np.diff(points[:, 0])[0], atol=0.11)
    assert np.allclose(np.diff(points[:, 1]), np.diff(points[:, 1])[0], atol=0.11)
    assert points[-1, 1] < points[0, 1]


def test_a_power_law_is_straight_on_logarithmic_axes() -> None:
    x = np.array([1.0, 10.0, 100.0, 1000.0])
    points = points_of(line_chart("y", [Series("", x, x**-2)], Axis(kind="log"), Axis(kind="log")))
    slopes = np.diff(points[:, 1]) / np.diff(points[:, 0])
    assert np.allclose(slopes, slopes[0], rtol=0.01)


def test_zero_steps_have_a_place_beside_logarithmic_steps() -> None:
    steps = np.array([0.0, 15.0, 45.0, 450.0])
    curve = Series("", steps, np.array([427.0, 31.0, 27.0, 40.0]), marked=True)
    svg = line_chart("FD", [curve], Axis("steps", "log1p", tuple(steps)), Axis(kind="log"), [Reference(3.2, "floor")])
    assert {"0", "15", "45", "450", "floor", "steps", "FD"} <= set(texts_of(svg))
    assert [title.text for title in parsed(svg).iter(f"{SVG}title")] == ["0: 427", "15: 31", "45: 27", "450: 40"]
    dashed = next(line for line in parsed(svg).iter(f"{SVG}line") if "stroke-dasharray" in line.attrib)
    assert float(dashed.attrib["y1"]) > points_of(svg)[:, 1].max()


def test_values_that_are_not_finite_leave_a_gap() -> None:
    y = np.array([1.0, 2.0, np.nan, 4.0, np.inf, 3.0])
    svg = line_chart("y", [Series("", np.arange(6.0), y)])
    assert [len(points_of(svg, which)) for which in range(3)] == [2, 1, 1]
    assert parsed(line_chart("y", [Series("", np.arange(3.0), np.full(3, np.nan))])).find(f"{SVG}polyline") is None
    assert parsed(line_chart("nothing", [])).find(f"{SVG}polyline") is None


def test_many_points_become_a_mean_and_a_band() -> None:
    x = np.arange(3000.0)
    y = np.where(x % 2 == 0, 1.0, -1.0)
    svg = line_chart("y", [Series("noise", x, y)])
    assert len(points_of(svg)) == 160
    assert np.ptp(points_of(svg)[:, 1]) < 16
    band = parsed(svg).find(f"{SVG}polygon")
    assert band is not None
    heights = [float(pair.split(",")[1]) for pair in band.attrib["points"].split()]
    assert np.ptp(heights) > 100
    assert "● noise" in texts_of(svg)


def test_an_extreme_start_does_not_flatten_the_rest() -> None:
    x = np.arange(150.0)
    y = np.where(x < 2, -1e6, np.sin(x / 10))
    flat = np.ptp(points_of(line_chart("y", [Series("", x, y)]))[10:, 1])
    cut = points_of(line_chart("y", [Series("", x, y)], down=Axis(cut=True)))
    assert flat < 1
    assert np.ptp(cut[10:, 1]) > 80
    assert cut[0, 1] <= 216 - 34


def test_the_cursor_stands_at_the_points_of_the_curve() -> None:
    steps = np.array([0.0, 1.0, 4.0, 9.0, 45.0])
    svg = line_chart("E", [Series("", steps, steps)], cursor=True)
    cursor = parsed(svg).find(f"{SVG}g[@class='cursor']/{SVG}line")
    assert cursor is not None
    places = float(cursor.attrib["x1"]) + cursor_shifts(steps)
    assert np.allclose(places, points_of(svg)[:, 0], atol=0.06)


def test_bars_lie_in_the_order_of_their_values() -> None:
    bars = [
        Bar("noise", "energy", 0.3, 0.28, 0.33),
        Bar("noise", "joint", 0.99, 0.98, 1.0),
        Bar("grey", "joint", 0.7, 0.6, 0.8),
    ]
    svg = ranking_bars("AUROC", bars)
    places = [float(circle.attrib["cx"]) for circle in parsed(svg).iter(f"{SVG}circle")]
    assert places[0] < places[2] < places[1]
    assert {"noise", "grey", "energy", "joint", "0.300", "0.990", "0.700"} <= set(texts_of(svg))
    spans = [line for line in parsed(svg).iter(f"{SVG}line") if line.attrib.get("stroke-width") == "6"]
    ends = [(float(span.attrib["x1"]), float(span.attrib["x2"])) for span in spans]
    assert all(low < place < high for (low, high), place in zip(ends, places, strict=True))


def test_share_bars_are_as_high_as_their_shares() -> None:
    svg = share_bars("VAE", [0.1, 0.2, 0.7], ["a", "b", "<c>"], highest=0.8)
    heights = np.array([float(bar.attrib["height"]) for bar in parsed(svg).iter(f"{SVG}rect")])
    assert np.allclose(heights / heights.sum(), [0.1, 0.2, 0.7], atol=0.01)
    assert "<c>" in texts_of(svg)
    with pytest.raises(ValueError, match="equally many"):
        share_bars("VAE", [0.5, 0.5], ["a"])


def test_text_is_escaped_everywhere() -> None:
    evil = '<script>alert("x")</script>'
    series = Series(evil, np.arange(3.0), np.arange(3.0))
    svgs = [
        line_chart(evil, [series], Axis(evil), references=[Reference(1.0, evil)]),
        ranking_bars(evil, [Bar(evil, evil, 0.9, 0.8, 1.0)]),
        share_bars(evil, [1.0], [evil]),
    ]
    for svg in svgs:
        assert "<script" not in svg
        assert evil in texts_of(svg)


def test_scales_ticks_and_labels() -> None:
    assert Scale(1.0, 100.0, 0.0, 10.0, "log")(10.0) == pytest.approx(5.0)
    assert Scale(0.0, 99.0, 0.0, 10.0, "log1p")(9.0) == pytest.approx(5.0)
    assert Scale(0.0, 1.0, 0.0, 10.0).clipped(7.0) == 10.0
    assert Scale(0.0, 1.0, 0.0, 10.0).ticks(5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert Scale(3.0, 450.0, 0.0, 10.0, "log").ticks() == pytest.approx([3, 10, 30, 100, 300])
    assert finite_range([np.nan, np.inf], "linear") is None
    low, high = finite_range([5.0, 5.0], "linear") or (0.0, 0.0)
    assert low < 5.0 < high
    assert [tick_label(value) for value in (0.0, -1400.0, 0.001, 3e6)] == ["0", "−1400", "0.001", "3M"]
