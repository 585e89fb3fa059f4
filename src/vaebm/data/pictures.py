"""One picture: from a file, or from the bytes of one, to grey or colour values.

Palettes become colours, transparency is laid over white, CMYK and YCbCr become RGB, and a turned photograph is set
upright. Grey of 16 bits keeps them (uint16); grey of 32 bits (int32, uint32, float32) is given as it is, and its range
must be stated. Everything else has 8 bits: of 16-bit colours, of grey of 16 bits with alpha and of 16-bit CMYK the
decoders of Pillow give the upper byte only. Colour profiles are not applied. Of a JPEG of a phone that holds several
pictures (MPO), the first one is read.

The size in the header is looked at before anything is decoded, so that a small file can't fill the memory.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vaebm.data.errors import DataError

__all__ = ["IMAGE_SUFFIXES", "MOST_PIXELS", "Content", "Picture", "read_picture", "shape_of_picture"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".pgm", ".ppm")
MOST_PIXELS = 2**26
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM")
_KINDS = "png, jpg, webp, tif, bmp, pgm or ppm"
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT, _ORIENTATION = 258, 262, 339, 274

Content = Path | bytes | NDArray[Any]
Result = TypeVar("Result")


class Picture(NamedTuple):
    """The values of one picture, and what they were stored as.

    Arguments:
        pixels: (H, W) if grey, (H, W, 3) if colour; uint8 or uint16, or other numbers whose range must be stated.
        format: PNG, JPEG, …
        mode: What the file holds: L (grey), RGB, P (palette), RGBA, LA, 1, CMYK, I;16 …
        num_bits: The bits of a value in the file, which may be more than are read.
    """

    pixels: NDArray[Any]
    format: str
    mode: str
    num_bits: int


def read_picture(content: Content, name: str) -> Picture:
    """Read one picture.

    Arguments:
        content: A file, the bytes of one, or values (H, W) or (H, W, C) that are given as they are.
        name: What the picture is, for messages.

    Returns:
        Its values.

    Raises:
        DataError: If it is missing, damaged, too large, none at all, of several pages, or of an unknown kind.
    """
    if isinstance(content, np.ndarray):
        return Picture(content, "array", str(content.dtype), 8 * content.dtype.itemsize)
    return _with_opened(content, name, _decode)


def shape_of_picture(content: Content, name: str) -> tuple[int, int, int]:
    """Return the shape (C, H, W) that a picture will have, by its header alone.

    Raises:
        DataError: If it is missing, too large, or none at all.
    """
    if isinstance(content, np.ndarray):
        return content.shape[2] if content.ndim == 3 else 1, content.shape[0], content.shape[1]
    return _with_opened(content, name, _shape)


def _with_opened(content: Path | bytes, name: str, use: Callable[[Any, str], Result]) -> Result:
    if isinstance(content, bytes) and not content:
        raise DataError(f"{name}: holds no bytes: expected a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(content if isinstance(content, Path) else io.BytesIO(content), formats=_FORMATS) as image:
                _check_kind(image, name)
                return use(image, name)
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"{name}: there is no such file: expected an image") from None
    except PermissionError:
        raise DataError(f"{name}: may not be read: expected a file with permission to read") from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: is not an image, whatever its name: expected {_KINDS}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{name}: {_TOO_LARGE}") from None
    # A damaged file makes decoders fail in more ways than can be listed.
    except Exception as error:
        raise DataError(f"{name}: cannot be read ({error}): the file is damaged, replace it or take it out") from None


_TOO_LARGE = f"has more than {MOST_PIXELS} pixels, which only a decompression bomb needs here: make it smaller"


def _check_kind(image: Any, name: str) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise DataError(f"{name}: is {image.height}x{image.width} (height x width), it {_TOO_LARGE}")
    # Phones and cameras store a preview or a map of distances behind the photograph.
    if image.format != "MPO" and getattr(image, "n_frames", 1) != 1:
        raise DataError(f"{name}: holds {image.n_frames} frames or pages: expected one image in a file")
    if image.mode not in (*_GREY_MODES, *_COLOUR_MODES) and not image.mode.startswith("I;16"):
        raise DataError(f"{name}: is of mode {image.mode}: expected grey or colours: convert it to RGB")


def _shape(image: Any, name: str) -> tuple[int, int, int]:
    height, width = image.height, image.width
    # In a PNG, the orientation may stand behind the pixels; a TIFF is turned already.
    if image.format in ("JPEG", "MPO", "WEBP") and image.getexif().get(_ORIENTATION, 1) >= 5:
        height, width = width, height
    return 3 if image.mode in _COLOUR_MODES and not _is_grey_in_colours(image) else 1, height, width


def _decode(image: Any, name: str) -> Picture:
    tags = dict(getattr(image, "tag_v2", {}))
    num_bits, kind = _num_bits(image, tags), "JPEG" if image.format == "MPO" else image.format
    # Pillow has another mode for the same in PGM files.
    mode = "I;16" if kind == "PPM" and image.mode == "I" else image.mode
    is_grey = _is_grey_in_colours(image)
    with _silence() if "libtiff" in str(getattr(image, "tile", "")) else nullcontext():
        image.load()
    pixels = _values(ImageOps.exif_transpose(image), kind, tags)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError(f"{name}: holds values that are NaN or infinite: expected numbers")
    return Picture(pixels[:, :, 0] if is_grey else pixels, kind, "LA" if is_grey else mode, num_bits)


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps libtiff, which knows no exceptions, from writing what is wrong to standard error itself."""
    try:
        kept = os.dup(2)
    except OSError:
        # There is no standard error at all.
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def _is_grey_in_colours(image: Any) -> bool:
    # Pillow reads grey of 16 bits with alpha as colours.
    return "LA;16" in str(getattr(image, "tile", ""))


def _num_bits(image: Any, tags: dict[int, Any]) -> int:
    if _BITS_PER_SAMPLE in tags:
        return int(tags[_BITS_PER_SAMPLE][0])
    if image.format == "PPM":
        return 32 if image.mode == "F" else 16 if image.mode == "I" or _largest_of_ppm(image) > 255 else 8
    stored = re.search(r"[;](\d+)", f"{image.mode} {getattr(image, 'tile', '')}")
    return int(stored[1]) if stored else 1 if image.mode == "1" else 8


def _largest_of_ppm(image: Any) -> int:
    arguments = image.tile[0].args if image.tile else ()
    return int(arguments[1]) if isinstance(arguments, tuple) and len(arguments) == 2 else 255


def _values(image: Any, kind: str, tags: dict[int, Any]) -> NDArray[Any]:
    mode, transparency = image.mode, image.info.get("transparency")
    if mode.startswith("I;16") or (mode == "I" and kind == "PPM"):
        values = np.asarray(image).astype(np.uint16)
        if tags.get(_PHOTOMETRIC) == 0:
            # White is 0, which Pillow sees to with 8 bits only.
            values = (2 ** int(tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1 - values).astype(np.uint16)
        return values if transparency is None else np.where(values == transparency, np.uint16(65535), values)
    if mode in ("I", "F"):
        values = np.asarray(image)
        is_unsigned = mode == "I" and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1
        return values.view(np.uint32) if is_unsigned else values
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or transparency is not None:
        return _over_white(image)
    return np.asarray(image.convert("L" if mode in _GREY_MODES else "RGB"))


def _over_white(image: Any) -> NDArray[np.uint8]:
    values = np.asarray(image.convert("LA" if image.mode in _GREY_MODES else "RGBA")).astype(np.uint32)
    colours, alpha = values[..., :-1], values[..., -1:]
    laid = ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return laid[..., 0] if laid.shape[2] == 1 else laid
