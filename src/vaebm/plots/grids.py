"""Many images as one picture, and pictures as PNG and GIF bytes.

Everything here takes arrays and returns arrays or bytes; writing them to a file is the caller's business.
Images are uint8 (N, C, H, W) with one or three channels, pictures are uint8 (H, W, 3).
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vaebm.plots.arrays import UInt8Array

_MOST_PALETTE_FRAMES = 12
# The strongest, 9, takes nine times as long for two percent less.
_COMPRESSION = 6


def check_pictures(images: UInt8Array, name: str, rank: int) -> None:
    """Refuse anything but uint8 images with one or three channels, given as (…, C, H, W).

    Arguments:
        images: the array to look at.
        name: what the message calls it.
        rank: the number of axes, the last three being (C, H, W).

    Raises:
        ValueError: if dtype, rank or channels are others, or if there is nothing in it.
    """
    if images.dtype != np.uint8:
        raise ValueError(f"{name} must be uint8, got {images.dtype}: convert with to_uint8 first")
    if images.ndim != rank or images.shape[-3] not in (1, 3):
        raise ValueError(f"{name} must have {rank} axes ending in (1 or 3, H, W), got {images.shape}")
    if images.size == 0:
        raise ValueError(f"{name} is empty, shape {images.shape}: give at least one image")


def image_grid(images: UInt8Array, columns: int, padding: int = 2, scale: int = 1, background: int = 112) -> UInt8Array:
    """Lay images out row by row, with a frame around each.

    Arguments:
        images: uint8 (N, C, H, W), one or three channels.
        columns: images in a row; never more than N are laid out.
        padding: width of the frame in pixels of the result.
        scale: each pixel becomes a square of scale × scale.
        background: grey level of the frame and of the empty places in the last row.

    Returns:
        uint8 (rows·(H·scale + padding) + padding, columns·(W·scale + padding) + padding, 3).

    Raises:
        ValueError: if the images are not uint8 (N, 1 or 3, H, W), or columns or scale is below one.

    Example:
        >>> image_grid(np.zeros((3, 1, 8, 8), np.uint8), columns=2, padding=1).shape
        (19, 19, 3)
    """
    check_pictures(images, "images", rank=4)
    if columns < 1 or scale < 1 or padding < 0:
        raise ValueError(f"columns and scale must be at least 1 and padding 0, got {columns}, {scale}, {padding}")
    columns = min(columns, len(images))
    tiles = np.broadcast_to(images, (len(images), 3, *images.shape[2:])).transpose(0, 2, 3, 1)
    tiles = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = tiles.shape[1] + padding, tiles.shape[2] + padding
    rows = -(-len(tiles) // columns)
    grid = np.full((rows * height + padding, columns * width + padding, 3), background, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = padding + index // columns * height, padding + index % columns * width
        grid[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return grid


def _as_picture(array: UInt8Array, keeps_channels: bool = False) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"a picture must be uint8 (H, W) or (H, W, 3), got {array.dtype} {array.shape}")
    if array.ndim == 3 and not keeps_channels and bool((array == array[..., :1]).all()):
        array = array[..., 0]
    return Image.fromarray(np.ascontiguousarray(array))


def png_bytes(array: UInt8Array, keeps_channels: bool = False, compression: int = _COMPRESSION) -> bytes:
    """Encode a picture as PNG; a picture without colour is stored with one channel.

    Arguments:
        array: uint8 (H, W) or (H, W, 3).
        keeps_channels: Whether a picture without colour keeps its three channels.
        compression: How hard zlib tries, from 0 to 9.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: if the array is no such picture.

    Example:
        >>> png_bytes(np.zeros((4, 4), np.uint8))[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    _as_picture(array, keeps_channels).save(buffer, format="PNG", compress_level=compression)
    return buffer.getvalue()


def _shared_palette(pictures: Sequence[Image.Image]) -> Image.Image:
    places = np.linspace(0, len(pictures) - 1, min(len(pictures), _MOST_PALETTE_FRAMES)).round()
    chosen = [pictures[int(place)] for place in places]
    strip = Image.new("RGB", (sum(picture.width for picture in chosen), chosen[0].height))
    left = 0
    for picture in chosen:
        strip.paste(picture, (left, 0))
        left += picture.width
    return strip.quantize(256)


def gif_bytes(frames: Sequence[UInt8Array], milliseconds: int, last_milliseconds: int | None = None) -> bytes:
    """Encode pictures as a GIF that repeats for ever.

    All frames share one palette, so that nothing flickers; frames without colour keep every grey level. Equal
    neighbours are stored once and shown longer.

    Arguments:
        frames: T pictures, uint8 (H, W) or (H, W, 3), all of one size.
        milliseconds: how long a frame stays.
        last_milliseconds: how long the last one stays, if not as long as the others.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: if there is no frame or the sizes differ.

    Example:
        >>> gif_bytes([np.full((4, 4), level, np.uint8) for level in (0, 255)], 100)[:6]
        b'GIF89a'
    """
    pictures = [_as_picture(frame) for frame in frames]
    if not pictures or any(picture.size != pictures[0].size for picture in pictures):
        raise ValueError(f"a GIF needs frames of one size, got {sorted({picture.size for picture in pictures})}")
    if any(picture.mode == "RGB" for picture in pictures):
        colours = [picture.convert("RGB") for picture in pictures]
        palette = _shared_palette(colours)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in colours]
    durations = [milliseconds] * len(pictures)
    durations[-1] = milliseconds if last_milliseconds is None else last_milliseconds
    buffer = io.BytesIO()
    pictures[0].save(buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return buffer.getvalue()
