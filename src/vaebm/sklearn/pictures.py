"""From the arrays that scikit-learn passes around to bytes (N, C, H, W).

A row of a table is a flattened picture only to who knows its shape; a number is a grey level only to who knows which
ones are black and white. Both are stated, or follow from the array's own axes and type; nothing is guessed from values.

With black b and white w, a value v becomes the byte round(255 (v − b) / (w − b)), the same that
``vaebm.data.Preprocessing`` makes of a file with this range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebm.data import DataError
from vaebm.recipes import ConfigError

__all__ = ["RowLayout", "arrange", "is_positive", "row_layout", "to_levels"]

_CHANNELS = (1, 3)
# Sums in float32 overshoot a range by a few units in the last place.
_SLACK = 1e-5
_RANGES = {"bool": (0.0, 1.0), "uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}


@dataclass(frozen=True)
class RowLayout:
    """How a picture is flattened to a row.

    Arguments:
        shape: The shape (C, H, W) of the picture.
        is_channels_last: Whether the row runs through the channels of a pixel first, as flattened (H, W, C) does.
    """

    shape: tuple[int, int, int]
    is_channels_last: bool

    @property
    def num_values(self) -> int:
        """The length of a row."""
        return math.prod(self.shape)


def row_layout(image_shape: Sequence[int]) -> RowLayout:
    """Reads a stated shape.

    Arguments:
        image_shape: (H, W), (C, H, W) or (H, W, C), with C of 1 or 3, H and W from 8 to 128.

    Raises:
        ConfigError: If it is none of these.

    Example:
        >>> row_layout((28, 28)).shape, row_layout((32, 32, 3))
        ((1, 28, 28), RowLayout(shape=(3, 32, 32), is_channels_last=True))
    """
    try:
        sizes = tuple(int(size) for size in image_shape)
        is_whole = all(size == given for size, given in zip(sizes, image_shape, strict=True))
    except (TypeError, ValueError):
        sizes, is_whole = (), False
    shape = (1, *sizes) if len(sizes) == 2 else sizes
    is_last = len(shape) == 3 and shape[0] not in _CHANNELS and shape[2] in _CHANNELS
    if is_last:
        shape = (shape[2], shape[0], shape[1])
    if not is_whole or len(shape) != 3 or shape[0] not in _CHANNELS or not all(8 <= size <= 128 for size in shape[1:]):
        raise ConfigError(
            f"image_shape is {image_shape!r}: expected (H, W), (C, H, W) or (H, W, C) with 1 or 3 channels C, "
            "height and width from 8 to 128"
        )
    return RowLayout((shape[0], shape[1], shape[2]), is_last)


def arrange(values: NDArray[Any], stated: RowLayout | None, expected: tuple[int, int, int] | None) -> NDArray[Any]:
    """Brings an array to the axes (N, C, H, W).

    Arguments:
        values: Pictures (N, H, W), (N, C, H, W), (N, H, W, C), or flattened ones (N, C·H·W).
        stated: How they are flattened; None if the user hasn't said.
        expected: The shape (C, H, W) that each must have; None if any will do.

    Raises:
        DataError: If there are no such pictures, or flattened ones whose shape nobody stated.
    """
    pictures = _unflattened(values, stated, expected) if values.ndim == 2 else _channels_first(values)
    wanted = expected or (stated.shape if stated else None)
    found = pictures.shape[1:]
    if wanted is not None and found != wanted:
        raise DataError(f"X holds pictures (C, H, W) of {found}: expected {wanted}, give pictures of that shape")
    if not all(8 <= size <= 128 for size in found[1:]):
        raise DataError(f"X holds pictures (C, H, W) of {found}: expected height and width from 8 to 128")
    return pictures


def to_levels(values: NDArray[Any], value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Maps grey levels to bytes.

    Arguments:
        values: Finite numbers of any shape.
        value_range: Which of them are black and white; None: that of the type, which is [0, 1] for floating point,
            0..255 for uint8, 0..65535 for uint16.

    Raises:
        ConfigError: If the range is no pair of a lower and a higher number.
        DataError: If values lie outside, or no range is stated for a type that has none.

    Example:
        >>> to_levels(np.array([0, 8, 16]), (0, 16))
        array([  0, 128, 255], dtype=uint8)
    """
    if value_range is None:
        black, white = _range_of(values)
    else:
        black, white = _checked(value_range)
    if values.dtype == np.uint8 and (black, white) == _RANGES["uint8"]:
        return values
    low, high = float(values.min()), float(values.max())
    slack = _SLACK * (white - black) if values.dtype.kind == "f" else 0.0
    if low < black - slack or high > white + slack:
        stated = "value_range is" if value_range is not None else f"{values.dtype} is expected in"
        raise DataError(
            f"X holds values from {low:.6g} to {high:.6g}, {stated} [{black:g}, {white:g}]: set value_range to the "
            "values of black and white, or clip X (MinMaxScaler(clip=True) does)"
        )
    levels = (values.astype(np.float64) - black) * (255 / (white - black))
    return np.rint(np.clip(levels.astype(np.float32), 0, 255)).astype(np.uint8)


def is_positive(value_range: tuple[float, float] | None) -> bool:
    """Whether floating-point pictures of this range hold no negative values."""
    try:
        return value_range is None or _checked(value_range)[0] >= 0
    except ConfigError:
        # A parameter may be anything until ``fit``.
        return False


def _range_of(values: NDArray[Any]) -> tuple[float, float]:
    if values.dtype.kind == "f":
        return 0.0, 1.0
    if values.dtype.name not in _RANGES:
        raise DataError(
            f"X holds {values.dtype}, whose black and white aren't known: set value_range, for example (0, 255)"
        )
    return _RANGES[values.dtype.name]


def _checked(value_range: tuple[float, float]) -> tuple[float, float]:
    try:
        black, white = (float(value) for value in value_range)
    except (TypeError, ValueError):
        black = white = math.nan
    if not (black < white and math.isfinite(white - black)):
        raise ConfigError(
            f"value_range is {value_range!r}: expected None or (black, white), a lower and a higher value"
        )
    return black, white


def _unflattened(values: NDArray[Any], stated: RowLayout | None, expected: tuple[int, int, int] | None) -> NDArray[Any]:
    if stated is None and expected is not None and expected[0] == 1:
        # With one channel there is one way to flatten.
        stated = RowLayout(expected, is_channels_last=False)
    if stated is None:
        raise DataError(
            f"X has shape {values.shape}, which looks like flattened pictures: set image_shape, for example "
            f"image_shape=(28, 28), or give (n, H, W), (n, C, H, W) or (n, H, W, C)"
        )
    if values.shape[1] != stated.num_values:
        channels, height, width = stated.shape
        raise DataError(
            f"X has {values.shape[1]} feature(s): expected {stated.num_values}, "
            f"{channels} x {height} x {width} as image_shape says"
        )
    channels, height, width = stated.shape
    if stated.is_channels_last:
        return values.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return values.reshape(-1, channels, height, width)


def _channels_first(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 3 and values.shape[2] not in _CHANNELS:
        return values[:, None]
    if values.ndim == 4 and values.shape[1] in _CHANNELS:
        return values
    if values.ndim == 4 and values.shape[3] in _CHANNELS:
        return values.transpose(0, 3, 1, 2)
    raise DataError(
        f"X has shape {values.shape}: expected pictures (n, H, W), (n, C, H, W) or (n, H, W, C) with 1 or 3 channels, "
        "or flattened ones (n, features) with image_shape set"
    )
