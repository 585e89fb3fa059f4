"""Pictures of any source, read one by one through one preprocessing.

Every reader gives a `PictureList`; `gather` makes images of it. What can't be read is left out and counted, or ends it
all if that is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaebm.data.checks import check_images
from vaebm.data.errors import DataError
from vaebm.data.images import ImageSet, Skipped
from vaebm.data.pictures import Content, read_picture, shape_of_picture
from vaebm.data.preprocessing import Preprocessing

__all__ = ["Entry", "PictureList", "PoolAndTest", "describe_shape", "gather"]

_LARGEST_SIDE = 128
_MOST_SIZES_NAMED = 4


class Entry(NamedTuple):
    """A picture that can be read.

    Arguments:
        path: Its file, or file and row.
        content: What ``read_picture`` takes.
    """

    path: str
    content: Content


@dataclass(frozen=True, eq=False)
class PictureList:
    """N pictures of a source, in a fixed order, not read yet.

    Arguments:
        name: What they are, for tables.
        place: Where they are, for messages.
        entries: Goes through them, as often as it is called.
        labels: int64, (N,), or None.
        label_names: What the labels 0, 1, … are called; empty where they have no names.
        array: All of them, (N, C, H, W), if they are in an array; they have no paths then.
    """

    name: str
    place: str
    entries: Callable[[], Iterator[Entry]]
    labels: NDArray[np.int64] | None = None
    label_names: tuple[str, ...] = ()
    array: NDArray[Any] | None = None


class PoolAndTest(NamedTuple):
    """What a source holds before it is split.

    Arguments:
        pool: Pictures to be split, or None.
        test: Test pictures of its own, or None.
    """

    pool: PictureList | None
    test: PictureList | None


def gather(
    pictures: PictureList,
    preprocessing: Preprocessing,
    strict: bool = False,
    expected_shape: tuple[int, int, int] | None = None,
) -> ImageSet:
    """Read pictures and bring them to one form.

    Arguments:
        pictures: Where they are.
        preprocessing: What becomes of each.
        strict: Whether one that can't be read ends it all; otherwise it is skipped.
        expected_shape: The shape (C, H, W) that a model takes, or None.

    Returns:
        The images in their order, with labels and paths, and what was skipped.

    Raises:
        DataError: If nothing can be read, a picture can't be read and that is strict, sizes or channels differ among
            pictures, or from the model's.
    """
    if pictures.array is not None:
        images = check_images(pictures.array, pictures.place, expected_shape, preprocessing)
        return ImageSet(images, pictures.labels, pictures.name)
    images_read: list[NDArray[np.uint8]] = []
    paths: list[str] = []
    places: list[int] = []
    skipped: list[Skipped] = []
    for place, (path, content) in enumerate(pictures.entries()):
        try:
            pixels = read_picture(content, path).pixels
        except DataError as error:
            if strict:
                raise
            skipped.append(Skipped(path, _without(path, str(error))))
            continue
        image = preprocessing.apply(pixels, path)
        _check_shape(image.shape, path, preprocessing, expected_shape)
        if images_read and image.shape != images_read[0].shape:
            raise DataError(_differing(pictures, (path, image.shape), (paths[0], images_read[0].shape)))
        images_read.append(image)
        paths.append(path)
        places.append(place)
    if not images_read:
        raise DataError(_nothing_read(pictures, skipped))
    labels = None if pictures.labels is None else pictures.labels[places]
    return ImageSet(np.stack(images_read), labels, pictures.name, tuple(paths), tuple(skipped))


def describe_shape(shape: tuple[int, ...]) -> str:
    """Return what an image of shape (C, H, W) is, in words.

    Example:
        >>> describe_shape((1, 28, 32))
        '28x32 grey'
    """
    channels, height, width = shape
    return f"{height}x{width} {'grey' if channels == 1 else 'RGB'}"


def _without(path: str, message: str) -> str:
    return message.removeprefix(f"{path}: ")


def _check_shape(
    shape: tuple[int, ...], path: str, preprocessing: Preprocessing, expected_shape: tuple[int, int, int] | None
) -> None:
    if expected_shape is not None and shape != tuple(expected_shape):
        raise DataError(
            f"{path}: is {describe_shape(shape)}, but the model takes {describe_shape(expected_shape)} (height x "
            f"width): {_options(shape, expected_shape)}"
        )
    if expected_shape is None and preprocessing.image_size is None and max(shape[1:]) > _LARGEST_SIDE:
        raise DataError(
            f"{path}: is {describe_shape(shape)} (height x width): expected sides of at most {_LARGEST_SIDE} pixels: "
            "bring the pictures to a size with --image-size 32"
        )


def _options(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    options = []
    if shape[1:] != tuple(wanted[1:]):
        height, width = wanted[1:]
        options.append(f"--image-size {height}" if height == width else f"--image-size {height}x{width}")
    if shape[0] != wanted[0]:
        options.append(f"--channels {wanted[0]}")
    return f"bring them to that, or train a model with {' '.join(options)}, which does so by itself"


def _differing(pictures: PictureList, other: tuple[str, tuple[int, ...]], first: tuple[str, tuple[int, ...]]) -> str:
    """Tells which sizes and channels there are, by headers alone, and what brings them to one."""
    shapes: Counter[tuple[int, int, int]] = Counter()
    for path, content in pictures.entries():
        try:
            shapes[shape_of_picture(content, path)] += 1
        except DataError:
            continue
    sizes, channels = Counter[str](), Counter[str]()
    for shape, count in shapes.items():
        sizes[f"{shape[1]}x{shape[2]}"] += count
        channels["grey" if shape[0] == 1 else "colour"] += count
    options = ["--image-size 32"] if other[1][1:] != first[1][1:] or len(sizes) > 1 else []
    options += ["--channels 1"] if other[1][0] != first[1][0] or len(channels) > 1 else []
    return (
        f"{other[0]}: is {describe_shape(other[1])}, but {first[0]} is {describe_shape(first[1])}: {pictures.place} "
        f"holds {_listed(sizes)} (height x width), {_listed(channels)}: bring them to one kind with {' '.join(options)}"
    )


def _listed(counts: Counter[str]) -> str:
    named = [f"{count} of {what}" for what, count in counts.most_common(_MOST_SIZES_NAMED)]
    left = len(counts) - len(named)
    return ", ".join(named) + (f" and {left} more" if left else "")


def _nothing_read(pictures: PictureList, skipped: list[Skipped]) -> str:
    if not skipped:
        return f"{pictures.place}: holds no picture: expected at least one"
    first = f"{skipped[0].path}: {skipped[0].reason}"
    if len(skipped) == 1:
        return first
    return f"{pictures.place}: none of {len(skipped)} pictures can be read, the first one: {first}"
