"""Pieces of HTML: images as data URIs, figures, sections. Everything that is text is escaped here."""

import base64
from collections.abc import Iterable
from html import escape

from vaebm.plots import image_grid, png_bytes
from vaebm.plots.arrays import UInt8Array

_WIDEST_GRID = 680
_MOST_PIXELS = 1_200_000


def png_image(picture: UInt8Array, alt: str, classes: str = "") -> str:
    """Return an `<img>` that holds its picture.

    Arguments:
        picture: uint8 (H, W, 3) or (H, W).
        alt: what it shows, in words.
        classes: CSS classes.

    Returns:
        The element.
    """
    data = base64.b64encode(png_bytes(picture)).decode("ascii")
    height, width = picture.shape[:2]
    marked = f' class="{escape(classes)}"' if classes else ""
    source = f'src="data:image/png;base64,{data}"'
    return f'<img{marked} {source} alt="{escape(alt)}" width="{width}" height="{height}">'


def grid_image(images: UInt8Array, columns: int, alt: str, most: int = 64) -> str:
    """Return a grid of images as one `<img>`, enlarged so that small images stay sharp.

    Arguments:
        images: uint8 (N, C, H, W).
        columns: images in a row.
        alt: what they are, in words.
        most: at most so many are shown, and fewer where they are large.

    Returns:
        The element.
    """
    fitting = max(columns, _MOST_PIXELS // (images.shape[2] * images.shape[3]) // columns * columns)
    scale = max(1, _WIDEST_GRID // (columns * (images.shape[3] + 1)))
    return png_image(image_grid(images[: min(most, fitting)], columns, max(2, scale // 2), scale), alt)


def figure(body: str, caption: str = "", classes: str = "") -> str:
    """Return a `<figure>`.

    Arguments:
        body: HTML.
        caption: HTML; "" for none.
        classes: CSS classes.

    Returns:
        The element.
    """
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="{escape(classes)}">{body}{below}</figure>'


def paragraphs(*texts: str) -> str:
    """Return one `<p>` for each text that is not empty, escaped.

    Example:
        >>> paragraphs("a < b", "")
        '<p>a &lt; b</p>'
    """
    return "".join(f"<p>{escape(text)}</p>" for text in texts if text)


def bullets(texts: Iterable[str]) -> str:
    """Return a list of the texts, escaped; "" if there are none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def details(summary: str, body: str) -> str:
    """Return a part that opens on request; the summary is escaped, the body is HTML."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"
