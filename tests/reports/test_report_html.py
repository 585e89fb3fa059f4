import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vaebm.reports import NearestImages, ReportContent, render_report

VOID = {"meta", "img", "br", "input", "link"}


class Page(HTMLParser):
    """Reads a page and refuses tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.stack):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def pictures(page: Page) -> list[Image.Image]:
    opened = []
    for attributes in page.attributes("img"):
        head, _, data = str(attributes["src"]).partition(",")
        assert head == "data:image/png;base64"
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        image.load()
        assert image.size == (int(str(attributes["width"])), int(str(attributes["height"])))
        opened.append(image)
    return opened


@pytest.fixture(scope="module")
def page(content: ReportContent) -> Page:
    return Page(render_report(content))


def test_every_section_is_there_and_linked(page: Page) -> None:
    anchors = [str(attributes["id"]) for attributes in page.attributes("section")]
    assert anchors == ["samples", "chain", "quality", "steps", "classes", "outliers", "p-values", "nearest",
                       "training", "measured", "limits", "details"]  # fmt: skip
    assert [link["href"] for link in page.attributes("a")] == [f"#{anchor}" for anchor in anchors]


def test_every_image_decodes_and_is_described(page: Page, content: ReportContent) -> None:
    images = pictures(page)
    assert len(images) == 3 + 2 + 6
    assert all(len(str(attributes["alt"])) > 10 for attributes in page.attributes("img"))
    assert all(attributes["aria-label"] for attributes in page.attributes("svg"))
    first = np.asarray(images[0])
    assert content.vae_samples is not None
    pixel, padding = 9, 4
    pitch = 8 * pixel + padding
    assert first.shape == (3 * pitch + padding, 8 * pitch + padding)
    fourth = first[padding:pitch, padding + 3 * pitch : 4 * pitch]
    assert np.array_equal(fourth[::pixel, ::pixel], content.vae_samples[3, 0])


def test_the_file_asks_for_nothing(content: ReportContent) -> None:
    text = render_report(content)
    assert "default-src 'none'" in text
    assert not re.search(
        r"https?://|//\w|@import|url\(", text.replace("http://www.w3.org/2000/svg", "").split("<img")[0]
    )
    assert not {"link", "iframe", "object", "video", "base"} & {tag for tag, _ in Page(text).tags}
    for _, attributes in Page(text).tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert str(attributes.get(name, "#")).startswith(("data:image/png;base64,", "#"))


def test_the_figures_are_those_of_the_evaluation(page: Page) -> None:
    assert "closes 95.9 % of the Fréchet distance" in page.text
    for figure in ("20.5", "1.74 ± 0.02", "0.505 [0.490, 0.520]", "no better than chance", "5.35 %", "+0.35",
                   "a" * 64, "b" * 64, "seed 3", "1.31", "version: 0.1.0", "chain_image: sampled",
                   "smallest, 20.5, after 40 steps (training used 15)"):  # fmt: skip
        assert figure in page.text, figure


def test_the_slider_has_a_frame_for_every_step(page: Page, content: ReportContent) -> None:
    player = next(attributes for attributes in page.attributes("div") if attributes.get("class") == "player")
    frames = json.loads(str(player["data-frames"]))
    assert content.chain_steps is not None
    assert [frame[0] for frame in frames] == list(content.chain_steps)
    slider = page.attributes("input")[0]
    assert (slider["min"], slider["max"]) == ("0", str(len(frames) - 1))
    film = pictures(page)[3]
    assert film.height % len(frames) == 0
    controls = next(attributes for attributes in page.attributes("div") if attributes.get("class") == "controls")
    assert "hidden" in controls


def test_without_scripts_the_film_plays_and_ends_at_the_last_frame(content: ReportContent) -> None:
    text = re.sub(r"<script>.*?</script>", "", render_report(content), flags=re.S)
    stops = re.search(r"@keyframes film\{(.*?)\}\}", text)
    assert stops is not None
    moves = [float(move) for move in re.findall(r"translateY\((-?[\d.]+)%\)", stops[1])]
    count = len(content.chain_steps) if content.chain_steps is not None else 0
    assert moves[:-1] == pytest.approx([-100 * index / count for index in range(count)], abs=1e-3)
    assert moves[-1] == moves[-2]
    assert "prefers-reduced-motion" in text


def test_text_from_outside_never_becomes_markup(content: ReportContent) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    row = {"judge": evil, "judge_sha256": evil, "what": evil, "frechet": 3.0, "shares": [0.5, 0.5], "closed": None}
    bad = replace(
        content, title=evil, summary=evil, config={evil: {evil: evil}}, provenance={evil: evil},
        evaluation={
            "n": 5, "seed": 0, "labels": [evil, evil], "quality": [row, {**row, "what": f"VAEBM {evil}"}],
            "steps_curve": [{"num_steps": n, "judge": evil, "frechet": 1.0 + n} for n in range(3)],
            "outliers": [{"set": evil, "score": evil, "auroc": {"value": 0.5, "low": 0.4, "high": 0.6}}],
            "p_values": [{"level": 0.1, "measured": 0.1, "n": 10}], "diagnostics": {evil: evil},
        },
    )  # fmt: skip
    page = Page(render_report(bad))
    assert len(page.attributes("script")) == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert len(pictures(page)) == 11
    assert page.text.count("alert(2)") > 10


def test_a_thousand_classes_are_told_of_in_words() -> None:
    shares = [0.0] * 3 + [0.001] * 996 + [0.004]
    rows = [{"judge": "j", "what": what, "frechet": 3.0, "shares": shares} for what in ("floor", "VAE", "VAEBM")]
    many = render_report(ReportContent("t", "s", evaluation={"quality": rows}))  # type: ignore[typeddict-item]
    few = [{**row, "shares": [0.4, 0.6]} for row in rows]
    drawn = render_report(ReportContent("t", "s", evaluation={"quality": few}))  # type: ignore[typeddict-item]
    assert "Which of 1000 classes judge j sees in each image." in many
    assert many.count("3 of 1000 classes are missing; the largest has a share of") == 3
    assert "The dash is the share among real images" not in many
    assert "The dash is the share among real images" in drawn


def test_missing_parts_are_left_out() -> None:
    page = Page(render_report(ReportContent("empty")))
    assert [attributes["id"] for attributes in page.attributes("section")] == ["limits"]
    assert page.attributes("script") == []
    assert "empty" in page.text


@pytest.mark.parametrize("part", ["quality", "steps_curve", "outliers", "p_values", "diagnostics", "n", "seed"])
def test_each_part_of_the_evaluation_may_be_missing_or_alone(content: ReportContent, part: str) -> None:
    rest = {key: value for key, value in content.evaluation.items() if key != part}
    for evaluation in (rest, {part: content.evaluation[part]}):  # type: ignore[literal-required]
        text = Page(render_report(replace(content, evaluation=evaluation))).text  # type: ignore[arg-type]
        assert ("1.74 ± 0.02" in text) == ("quality" in evaluation)
        assert ("False alarms" in text) == ("p_values" in evaluation)


def test_large_colour_images_and_long_chains_stay_small() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 3, 64, 64), dtype=np.uint8)
    steps = np.arange(60) ** 2
    content = ReportContent("colour", vae_samples=images[0], vaebm_samples=images[-1], chain_images=images,
                            chain_energies=np.ones((60, 8)), chain_steps=steps)  # fmt: skip
    page = Page(render_report(content))
    film = pictures(page)[2]
    assert film.height <= 8000
    assert film.mode == "RGB"
    player = next(attributes for attributes in page.attributes("div") if attributes.get("class") == "player")
    frames = json.loads(str(player["data-frames"]))
    assert (frames[0][0], frames[-1][0]) == (0, 59**2)


def test_arrays_must_belong_together(content: ReportContent) -> None:
    assert content.vae_samples is not None
    with pytest.raises(ValueError, match="same noise"):
        replace(content, vaebm_samples=content.vae_samples[:3])
    with pytest.raises(ValueError, match="do not fit"):
        replace(content, chain_steps=np.arange(3))
    with pytest.raises(ValueError, match="come with chain_energies"):
        replace(content, chain_energies=None)
    images = content.vae_samples
    with pytest.raises(ValueError, match=r"neighbours must be"):
        NearestImages(images[:2], images[:2], np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"distances must be"):
        NearestImages(images[:2], images[:2, None], np.zeros((2, 3)))
