"""The page of scored images: one HTML file that needs nothing else, the oddest image first.

Each image stands beside its heat map and its nearest normal image, with every score and its p-value. Which of the
scores to trust is said by how well each notices defects that were made on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from vaebm.evaluation import Comparison
from vaebm.plots import heat_picture
from vaebm.plots.arrays import FloatArray, UInt8Array
from vaebm.reports.markup import paragraphs, png_image
from vaebm.reports.tables import Column, Table, format_value, html_table
from vaebm.reports.theme import STYLE

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MODEL_SCORES = ("joint", "energy", "ELBO")
_MEANINGS = {
    "joint": "ELBO − energy, the score of the decision; low = odd",
    "energy": "E(x), high = odd",
    "ELBO": "the VAE's bound on log p(x), low = odd",
    "complexity": "how far the size as a PNG file lies from that of normal images, in bits",
    "pixel statistics": "Mahalanobis distance of each channel's mean and standard deviation",
    "kNN, pixels": "distance to the fifth nearest normal image, pixel by pixel",
    "kNN, features": "the same on the features of an ImageNet network",
    "Mahalanobis, features": "Mahalanobis distance to the normal images' mean of these features",
}
_STYLE = """
.cards { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); }
.card { padding: 1rem; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; min-width: 0; }
.card.odd { border-left: 5px solid var(--tone-vae); }
.card h3 { margin: 0 0 .6rem; font-size: .85rem; overflow-wrap: anywhere; }
.card h3 b { color: var(--tone-vae); }
.three { display: grid; grid-template-columns: repeat(3, 1fr); gap: .6rem; margin-bottom: .5rem; }
.three figure { margin: 0; } .three img { width: 100%; image-rendering: pixelated; }
.three figcaption { font-size: .75rem; }
.card table { width: 100%; font-size: .8rem; } .card th, .card td { padding: .2rem .5rem .2rem 0; }
.card tbody th[scope=row] { background: var(--card); }
"""


@dataclass(frozen=True)
class ImageRow:
    """A scored image.

    Arguments:
        path: Its name.
        is_outlier: The decision.
        scores: Values by name of the score.
        p_values: p-values by name of the score, where there are any.
    """

    path: str
    is_outlier: bool
    scores: Mapping[str, float]
    p_values: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class ScorePage:
    """What a page of scored images shows.

    Arguments:
        model: The model's folder.
        source: Where the images come from.
        rate: The false-positive rate of the decision.
        num_images: How many were scored.
        num_outliers: How many of them are called outliers.
        rows: The images that are shown, the oddest first.
        images: uint8, (n, C, H, W).
        heat: Their heat maps, (n, H, W).
        heat_level: The heat that hardly any normal image exceeds; brightest in the maps unless an image has more.
        nearest: Their nearest normal images, uint8, (n, C, H, W).
        comparison: How well scores notice defects, or None.
        notes: Sentences on where normal images come from, and what is missing.
    """

    model: str
    source: str
    rate: float
    num_images: int
    num_outliers: int
    rows: Sequence[ImageRow]
    images: UInt8Array
    heat: FloatArray
    heat_level: float
    nearest: UInt8Array
    comparison: Comparison | None = None
    notes: Sequence[str] = field(default_factory=tuple)


def recommendation(comparison: Comparison) -> str:
    """Says in a sentence which score to trust, and how sure that is.

    Arguments:
        comparison: How well scores notice defects.

    Returns:
        The sentence.
    """
    best = comparison.auroc[comparison.best]["mean"]
    num_kinds = len(comparison.auroc[comparison.best]) - 1
    kinds = f"{num_kinds} kind{'s' if num_kinds > 1 else ''} of defects"
    said = (
        f"Trust {comparison.best}: over {kinds} of {comparison.num_images} normal images its mean AUROC is "
        f"{best.value:.3f} [{best.low:.3f}, {best.high:.3f}]"
    )
    if comparison.runner_up:
        second = comparison.auroc[comparison.runner_up]["mean"].value
        said += (
            f", that of the next, {comparison.runner_up}, {second:.3f}; in {100 * comparison.confidence:.0f} % of "
            f"{comparison.num_bootstrap} resamples it's the best again"
        )
    if comparison.confidence < 0.95:
        said += f", which is no clear lead: look at {comparison.runner_up} too"
    return said + "."


def render_scores(page: ScorePage) -> str:
    """Writes the page.

    Arguments:
        page: What it shows.

    Returns:
        A whole HTML document that refers to nothing outside of itself.
    """
    title = f"{page.num_outliers:,} of {page.num_images:,} images are outliers"
    lede = (
        f"{page.source}, scored by {page.model}. An image is called an outlier where at most {100 * page.rate:g} % of "
        "normal images look as odd (p-value of the joint)."
    )
    sections = [("trust", "Which score should you trust?", _trust(page)), ("images", "The images", _images(page)),
                ("method", "How to read this", _method(page))]  # fmt: skip
    links = "".join(f'<a href="#{anchor}">{escape(head)}</a>' for anchor, head, _ in sections)
    body = "".join(f'<section id="{anchor}"><h2>{escape(head)}</h2>{text}</section>' for anchor, head, text in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{_STYLE}</style></head>\n"
        f'<body><header><p class="eyebrow">{escape(page.source)}</p><h1>{escape(title)}</h1>'
        f'<p class="lede">{escape(lede)}</p><nav aria-label="Sections">{links}</nav></header>\n'
        f"<main>{body}</main>\n<footer>Made by vaebm. This file needs nothing but itself.</footer></body></html>\n"
    )


def _trust(page: ScorePage) -> str:
    if page.comparison is None:
        return paragraphs("There are too few normal images to tell.", *page.notes)
    found = page.comparison
    kinds = list(found.auroc[found.best])
    columns = [Column("score", "score"), *(Column(kind, kind, "interval", better="high") for kind in kinds)]
    order = sorted(found.auroc, key=lambda score: -found.auroc[score]["mean"].value)
    tones = {score: "vaebm" if score in MODEL_SCORES else "" for score in order}
    rows = [{"score": score, "tone": tones[score], **found.auroc[score]} for score in order]
    caption = f"AUROC on defects of {found.num_images} normal images, with 95 % bootstrap intervals"
    hint = (
        "These defects are synthetic, and the choice was made on the same images that it's measured on. Where you have "
        "images of your real defects, trust those."
    )
    table = Table(caption, columns, rows, tone="tone")
    return paragraphs(recommendation(found)) + html_table(table) + paragraphs(hint, *page.notes)


def _images(page: ScorePage) -> str:
    left = page.num_images - len(page.rows)
    more = f"The {len(page.rows)} oddest have a picture here; the other {left:,} are in the csv file." if left else ""
    cards = "".join(_card(page, index) for index in range(len(page.rows)))
    return paragraphs("Ordered by p-value, ties by score. " + more) + f'<div class="cards">{cards}</div>'


def _card(page: ScorePage, index: int) -> str:
    row, heat = page.rows[index], page.heat[index]
    pictures = (
        (_picture(page.images[index]), "image"),
        (heat_picture(heat, max(page.heat_level, float(heat.max()), 1e-12)), "heat"),
        (_picture(page.nearest[index]), "nearest normal"),
    )
    three = "".join(
        f"<figure>{png_image(picture, f'{what} of {row.path}')}<figcaption>{what}</figcaption></figure>"
        for picture, what in pictures
    )
    lines = "".join(
        f'<tr><th scope="row" title="{escape(_MEANINGS.get(name, ""))}">{escape(name)}</th>'
        f'<td class="number">{format_value(value, "digits").replace("-", "−")}</td>'
        f'<td class="number">{_chance(row.p_values.get(name), page.rate)}</td></tr>'
        for name, value in row.scores.items()
    )
    verdict = "<b>outlier</b>" if row.is_outlier else "normal"
    return (
        f'<article class="card{" odd" if row.is_outlier else ""}"><h3>{escape(row.path)}: {verdict}, '
        f'p = {row.p_values["joint"]:.4f}</h3><div class="three">{three}</div>'
        f'<table><thead><tr><th scope="col">score</th><th scope="col" class="number">value</th>'
        f'<th scope="col" class="number">p-value</th></tr></thead><tbody>{lines}</tbody></table></article>'
    )


def _chance(p_value: float | None, rate: float) -> str:
    if p_value is None:
        return "–"
    return f"<b>{p_value:.4f}</b>" if p_value <= rate else f"{p_value:.4f}"


def _picture(image: UInt8Array) -> UInt8Array:
    picture: UInt8Array = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    return picture


def _method(page: ScorePage) -> str:
    entries = [
        ("p-values", "(1 + #{normal scores at least as odd}) / (n + 1), of images that neither trained nor chose the "
         "model. Each score has its own; bold is at most the false-positive rate. Only that of the joint decides."),
        ("Heat", "The absolute gradient of the joint by the pixels, summed over channels and smoothed by a Gaussian of "
         "a twentieth of the shorter side. Where a small change would change the score most; dark maps are those of "
         f"normal images. Brightest is a heat of {page.heat_level:.3g} nats for each unit of the range, which 95 % of "
         "normal images stay below, or the image's own highest."),
        ("Nearest normal image", "The decoder's mean after a short climb up the model's log-density, from the image's "
         "own place in latent noise and tied to it. What can't be mended by so short a climb looks smeared."),
        *((name, _MEANINGS[name] + ".") for name in (page.rows[0].scores if page.rows else ()) if name in _MEANINGS),
    ]  # fmt: skip
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in entries) + "</dl>"
