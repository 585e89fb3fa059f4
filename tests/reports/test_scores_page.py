"""The page of scored images: well-formed, escaped, and honest about its lead."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import torch

from vaebm.evaluation import Comparison, compare_scores
from vaebm.reports.scores import ImageRow, ScorePage, recommendation, render_scores


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in {"meta", "img", "br"}:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def compared(lead: float) -> Comparison:
    generator = torch.Generator().manual_seed(0)
    normal = {name: torch.randn(50, generator=generator) for name in ("joint", "complexity")}
    spoilt = {"joint": torch.randn(50, generator=generator) + lead, "complexity": torch.randn(50, generator=generator)}
    return compare_scores(normal, {"scratch": spoilt}, generator=generator)


def page(channels: int = 1, comparison: Comparison | None = None) -> str:
    rows = [ImageRow("<b>odd</b>.png", True, {"joint": -3.0, "energy": 1.0}, {"joint": 0.01}),
            ImageRow("normal.png", False, {"joint": 5.0, "energy": -1.0}, {"joint": 0.6, "energy": 0.5})]  # fmt: skip
    images = np.random.default_rng(0).integers(0, 256, (2, channels, 9, 12), dtype=np.uint8)
    heat = np.abs(np.random.default_rng(1).normal(size=(2, 9, 12)))
    return render_scores(
        ScorePage("RUN", "folder", 0.05, 7, 1, rows, images, heat, 1.0, images[::-1], comparison, ["A note."])
    )


def test_the_page_closes_what_it_opens_and_escapes_names() -> None:
    for text in (page(), page(3, compared(2.0))):
        assert Tags(text).stack == []
        assert "<b>odd</b>.png" not in text
        assert "&lt;b&gt;odd&lt;/b&gt;.png" in text
        assert text.count("<img") == 6
        assert text.count('class="card odd"') == 1
        assert "the other 5 are in the csv" in text
        assert "A note." in text


def test_a_missing_p_value_is_a_dash() -> None:
    assert "–</td>" in page()


def test_a_lead_that_is_not_clear_is_said_to_be_so() -> None:
    clear, narrow = recommendation(compared(4.0)), recommendation(compared(0.1))
    assert clear.startswith("Trust joint: over 1 kind of defects of 50")
    assert "no clear lead" not in clear
    assert "no clear lead" in narrow
    assert "too few normal images" in page()
