"""What becomes of a picture on its way to the networks: the same in training, scoring and for references.

In this order, in float32, with one rounding at the end:

1. Palettes become colours, alpha is laid over white, other colour spaces become RGB (`vaebm.data.pictures`).
2. Values are mapped from their range [low, high] to [0, 255] and clipped. The range is that of the type (0..255 with 8
   bits, 0..65535 with 16) unless another one is stated.
3. Grey becomes colour by repetition, colour becomes grey by 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).
4. The picture is stretched to the size, or its middle is cut out in the size's proportions first.
5. It is resized by bicubic interpolation with antialiasing: where it shrinks, the kernel grows by the same factor.

A picture that has the size, the channels and the whole range of 8 bits already is left as it is, byte by byte.

References:
    On Aliased Resizing and Surprising Subtleties in GAN Evaluation, https://arxiv.org/abs/2104.11222
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaebm.data.errors import DataError

__all__ = ["FITS", "Preprocessing"]

FITS = ("stretch", "crop")
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_SIZES = range(8, 257)


@dataclass(frozen=True)
class Preprocessing:
    """How pictures are brought to one size, one number of channels and 8 bits.

    Arguments:
        image_size: The height and width that pictures are brought to, or None: all have one size, and keep it.
        channels: 1 or 3, or None: all have the same, and keep it.
        fit: ``stretch`` keeps every pixel and not the proportions, ``crop`` keeps proportions and cuts off the margin.
        value_range: The values (low, high) that become black and white, or None: the range of the type.

    Raises:
        DataError: If a value can't be used.

    Example:
        >>> grey = Preprocessing(image_size=(8, 8), channels=1)
        >>> grey.apply(np.full((20, 30, 3), 200, dtype=np.uint8), "a picture").shape
        (1, 8, 8)
        >>> Preprocessing(value_range=(0, 1023)).apply(np.full((8, 8), 1023, dtype=np.uint16), "a scan").max()
        np.uint8(255)
    """

    image_size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "stretch"
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_pair(self.image_size, "image size", "a height and a width from 8 to 256")
        _check_pair(self.value_range, "value range", "a lower and a higher value")
        if self.image_size is not None and any(size not in _SIZES for size in self.image_size):
            height, width = self.image_size
            raise DataError(f"image size {height}x{width}: expected a height and a width from 8 to 256")
        if self.channels not in (None, 1, 3):
            raise DataError(f"{self.channels} channels: expected 1 (grey) or 3 (colour)")
        if self.fit not in FITS:
            raise DataError(f"fit {self.fit!r}: expected one of {', '.join(FITS)}")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            low, high = self.value_range
            raise DataError(f"value range {low:g} to {high:g}: expected a lower and a higher value")

    def apply(self, pixels: NDArray[Any], name: str) -> NDArray[np.uint8]:
        """Brings one picture to the form that the networks take.

        Arguments:
            pixels: uint8 or uint16, or any other numbers with a stated range; (H, W) or (H, W, C) with C of 1 or 3.
            name: What it is, for the message.

        Returns:
            uint8, (C, H, W).

        Raises:
            DataError: If the picture has another form, or numbers whose range is neither stated nor that of a type.
        """
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.size == 0:
            raise DataError(f"{name}: has shape {pixels.shape}: expected a picture (H, W) or (H, W, 1 or 3)")
        channels = self.channels or pixels.shape[2]
        size = self.image_size or (pixels.shape[0], pixels.shape[1])
        is_done = pixels.dtype == np.uint8 and self.value_range in (None, (0, 255))
        if is_done and pixels.shape == (*size, channels):
            return np.ascontiguousarray(pixels.transpose(2, 0, 1))
        values = _with_channels(self._to_levels(pixels, name), channels)
        if self.fit == "crop":
            values = _middle(values, size)
        planes = [_resized(values[:, :, index], size) for index in range(channels)]
        levels: NDArray[np.uint8] = np.rint(np.clip(np.stack(planes), 0, 255)).astype(np.uint8)
        return levels

    def _to_levels(self, pixels: NDArray[Any], name: str) -> NDArray[np.float32]:
        whole = {np.dtype(np.uint8): (0, 255), np.dtype(np.uint16): (0, 65535)}
        known = self.value_range or whole.get(pixels.dtype)
        if known is None:
            raise DataError(
                f"{name}: holds {pixels.dtype}, whose black and white aren't known: state them, --value-range 0,4095"
            )
        low, high = known
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise DataError(f"{name}: holds values that are NaN or infinite: expected numbers")
        if pixels.dtype == np.uint8 and high > 255:
            raise DataError(
                f"{name}: has 8 bits, but black and white are {low:g} and {high:g}: expected pictures of as many bits "
                "as those that the range was stated for"
            )
        if pixels.dtype == np.uint8 and known == (0, 255):
            return pixels.astype(np.float32)
        # float32 has too few digits for numbers beyond 2^24, and is half as large.
        values: NDArray[Any] = pixels.astype(np.float32 if pixels.dtype in whole else np.float64)
        # In place, since photographs are large.
        values -= low
        values *= 255 / (high - low)
        return np.clip(values, 0, 255, out=values).astype(np.float32, copy=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as they are stored with a model."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Reads what ``to_dict`` returned.

        Raises:
            DataError: If a key is unknown or a value can't be used.
        """
        unknown = set(values) - {item.name for item in fields(cls)}
        if unknown:
            raise DataError(f"preprocessing has an unknown key {sorted(unknown)[0]!r}: was vaebm newer there?")
        try:
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**given)
        except (TypeError, ValueError, IndexError) as error:
            raise DataError(f"preprocessing can't be used ({error}): was vaebm newer there?") from error


def _check_pair(values: object, name: str, expected: str) -> None:
    if values is None:
        return
    if not isinstance(values, tuple | list) or len(values) != 2 or not all(isinstance(value, Real) for value in values):
        given = list(values) if isinstance(values, tuple) else values
        raise DataError(f"{name} {given!r}: expected two numbers, {expected}")


def _with_channels(values: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    if values.shape[2] == channels:
        return values
    return np.repeat(values, 3, axis=2) if channels == 3 else (values @ _GREY)[:, :, None]


def _middle(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    height, width = values.shape[:2]
    scale = min(height / size[0], width / size[1])
    kept = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    return values[top : top + kept[0], left : left + kept[1]]


def _resized(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    if plane.shape == size:
        return plane
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC), dtype=np.float32)
