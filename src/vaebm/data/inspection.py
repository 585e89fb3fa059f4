"""What a source of pictures holds, before anything is made of it.

Every picture is read once. Quantiles of values are exact for 8 and 16 bits, by counting; of other numbers they are
those of 1,000 values of each picture. Two pictures are the same if size, type and every value are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vaebm.data.errors import DataError
from vaebm.data.gathering import Entry, PictureList
from vaebm.data.images import Skipped
from vaebm.data.pictures import Picture, read_picture
from vaebm.data.preprocessing import Preprocessing
from vaebm.data.sources import list_source, split_counts

__all__ = ["Inspection", "Values", "inspect_source"]

_TAILS = (0.001, 0.999)
_VALUES_OF_EACH = 1_000
_COUNTED = {np.dtype(np.uint8): 256, np.dtype(np.uint16): 65_536}


@dataclass
class Values:
    """The values of pictures of one type, in the units of the files.

    Arguments:
        num_pictures: How many pictures are of this type.
        lowest: The lowest value.
        highest: The highest value.
    """

    num_pictures: int = 0
    lowest: float = np.inf
    highest: float = -np.inf
    _counts: NDArray[np.int64] | None = None
    _drawn: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, pixels: NDArray[np.generic]) -> None:
        """Takes in one picture."""
        self.num_pictures += 1
        self.lowest = min(self.lowest, float(pixels.min()))
        self.highest = max(self.highest, float(pixels.max()))
        size = _COUNTED.get(pixels.dtype)
        flat = pixels.ravel()
        if size is None:
            places = np.linspace(0, flat.size - 1, min(flat.size, _VALUES_OF_EACH)).astype(np.int64)
            self._drawn.append(flat[places].astype(np.float64))
        else:
            counts = np.bincount(flat, minlength=size)
            self._counts = counts if self._counts is None else self._counts + counts

    def tails(self) -> tuple[float, float]:
        """Returns the values below and above which one in a thousand lies."""
        if self._counts is None:
            low, high = np.quantile(np.concatenate(self._drawn), _TAILS)
            return float(low), float(high)
        shares = np.cumsum(self._counts) / self._counts.sum()
        low, high = np.searchsorted(shares, _TAILS)
        return float(low), float(high)

    def share_outside(self, low: float, high: float) -> float:
        """Returns the share of values outside of a range."""
        if self._counts is None:
            drawn = np.concatenate(self._drawn)
            return float(((drawn < low) | (drawn > high)).mean())
        levels = np.arange(len(self._counts))
        return float(self._counts[(levels < low) | (levels > high)].sum() / self._counts.sum())


@dataclass
class Inspection:
    """What a source holds.

    Arguments:
        source: Its name or path.
        preprocessing: What the pictures would be brought to.
        is_array: Whether they come from an array, not from files.
        num_pool: The pictures that can be read and will be split.
        num_test: The test pictures of its own that can be read, or None.
        formats: How many there are of PNG, JPEG, …
        sizes: … of each height and width.
        modes: … of each mode: L (grey), RGB, P (palette), RGBA …
        num_bits: … of each number of bits of a value in the file.
        channels: … with 1 and with 3 channels.
        num_grey_in_colour: … with three channels that are all equal.
        values: The values of each type of numbers.
        labels: The pictures of each label; empty where there are none.
        num_repeated: How many pictures are the same as an earlier one.
        num_repeated_in_test: … of the test pictures, the same as one of the pool.
        repeated: Some of them, each with the earlier one.
        skipped: What can't be read.
        problem: Why the pictures can't be brought to one form, or None.
        drawn: Some pictures as networks will see them, uint8 (C, H, W).
    """

    source: str
    preprocessing: Preprocessing
    is_array: bool = False
    num_pool: int = 0
    num_test: int | None = None
    formats: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    num_bits: Counter[int] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    num_grey_in_colour: int = 0
    values: dict[str, Values] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    num_repeated: int = 0
    num_repeated_in_test: int = 0
    repeated: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    problem: str | None = None
    drawn: list[NDArray[np.uint8]] = field(default_factory=list)

    @property
    def num_pictures(self) -> int:
        """How many pictures can be read."""
        return self.num_pool + (self.num_test or 0)

    def split(self) -> dict[str, int]:
        """Returns how many images each part of the split will have.

        Raises:
            DataError: If there are too few.
        """
        selection, calibration, test = split_counts(self.source, self.num_pool, self.num_test is not None)
        training = self.num_pool - selection - calibration - test
        test = test if self.num_test is None else self.num_test
        return {"training": training, "selection": selection, "calibration": calibration, "test": test}


def inspect_source(
    source: str, preprocessing: Preprocessing | None = None, strict: bool = False, num_drawn: int = 64
) -> Inspection:
    """Look at every picture of a source.

    Arguments:
        source: A name or a path, as for `load_splits`.
        preprocessing: What the pictures would be brought to.
        strict: Whether a picture that can't be read ends it all.
        num_drawn: The number of pictures to keep as networks will see them, evenly spread.

    Returns:
        What is there.

    Raises:
        DataError: If there is no such source, nothing in it can be read, or one picture can't and that is strict.

    Example:
        >>> found = inspect_source("digits")
        >>> found.num_pictures, dict(found.sizes), found.split()["training"]
        (1797, {(8, 8): 1797}, 1097)
    """
    listed = list_source(source)
    found = Inspection(source, preprocessing or Preprocessing())
    seen: dict[bytes, tuple[str, bool]] = {}
    drawing = _Drawing(found, num_drawn)
    for pictures, is_test in ((listed.pool, False), (listed.test, True)):
        if pictures is None:
            continue
        found.is_array = pictures.array is not None
        before = found.num_pictures
        for place, entry, picture in _read_all(pictures, found, strict):
            _count(found, picture)
            _compare(found, picture, entry.path, seen, is_test)
            drawing.offer(entry.path, picture)
            if pictures.labels is not None:
                label = int(pictures.labels[place])
                found.labels[pictures.label_names[label] if pictures.label_names else str(label)] += 1
            if is_test:
                found.num_test = (found.num_test or 0) + 1
            else:
                found.num_pool += 1
        if found.num_pictures == before:
            first = f": {found.skipped[0].path}: {found.skipped[0].reason}" if found.skipped else ""
            raise DataError(f"{pictures.place}: holds no picture that can be read{first}")
    found.drawn = drawing.chosen()
    return found


def _read_all(pictures: PictureList, found: Inspection, strict: bool) -> Iterator[tuple[int, Entry, Picture]]:
    for place, entry in enumerate(pictures.entries()):
        try:
            yield place, entry, read_picture(entry.content, entry.path)
        except DataError as error:
            if strict:
                raise
            found.skipped.append(Skipped(entry.path, str(error).removeprefix(f"{entry.path}: ")))


def _count(found: Inspection, picture: Picture) -> None:
    pixels = picture.pixels
    num_channels = pixels.shape[2] if pixels.ndim == 3 else 1
    found.formats[picture.format] += 1
    found.sizes[pixels.shape[0], pixels.shape[1]] += 1
    found.modes[picture.mode] += 1
    found.num_bits[picture.num_bits] += 1
    found.channels[num_channels] += 1
    found.num_grey_in_colour += num_channels == 3 and bool((pixels == pixels[:, :, :1]).all())
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        found.problem = found.problem or f"{found.source}: there are values that are NaN or infinite: expected numbers"
        pixels = pixels[np.isfinite(pixels)]
    if pixels.size:
        found.values.setdefault(str(pixels.dtype), Values()).add(pixels)


def _compare(
    found: Inspection, picture: Picture, path: str, seen: dict[bytes, tuple[str, bool]], is_test: bool
) -> None:
    pixels = np.ascontiguousarray(picture.pixels)
    digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    digest.update(pixels.tobytes())
    first, was_test = seen.setdefault(digest.digest(), (path, is_test))
    if first != path:
        found.num_repeated += 1
        found.num_repeated_in_test += is_test and not was_test
        found.repeated.append((path, first))


class _Drawing:
    """Keeps an even selection of pictures of unknown number: one of every 2^k, k growing as they come."""

    def __init__(self, found: Inspection, number: int) -> None:
        self._found, self._number = found, max(1, number)
        self._kept: list[NDArray[np.uint8]] = []
        self._stride, self._offered = 1, 0

    def offer(self, path: str, picture: Picture) -> None:
        """Takes a picture or not."""
        is_taken = self._offered % self._stride == 0
        self._offered += 1
        if not is_taken:
            return
        try:
            image = _applied(self._found, path, picture)
        except DataError as error:
            self._found.problem = self._found.problem or str(error)
            return
        self._kept.append(image)
        if len(self._kept) == 2 * self._number:
            self._kept = self._kept[::2]
            self._stride *= 2

    def chosen(self) -> list[NDArray[np.uint8]]:
        """Returns at most the number asked for, evenly spread."""
        places = np.linspace(0, len(self._kept) - 1, min(len(self._kept), self._number)).round()
        return [self._kept[int(place)] for place in places]


def _applied(found: Inspection, path: str, picture: Picture) -> NDArray[np.uint8]:
    chosen = found.preprocessing
    pixels = picture.pixels
    if found.is_array and chosen.value_range is None:
        unit = (0.0, 1.0) if pixels.dtype.kind == "f" else (0.0, 255.0)
        low, high = float(pixels.min()), float(pixels.max())
        if low < unit[0] - 1e-5 or high > unit[1] + 1e-5:
            raise DataError(f"{path}: values lie in {low:g}..{high:g}: expected integers in 0..255 or floats in [0, 1]")
        chosen = Preprocessing(chosen.image_size, chosen.channels, chosen.fit, unit)
    return chosen.apply(pixels, path)
