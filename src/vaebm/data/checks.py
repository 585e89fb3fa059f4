"""What an array must be to pass as images or labels.

Images are integers in 0..255 or floating point in [0, 1], the two habits of the field; nothing is guessed from other
ranges, since a wrong guess shows only in the samples. Axes are (N, H, W), (N, C, H, W) or (N, H, W, C) with C of 1 or
3; where the second axis is 1 or 3, it is C.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebm.data.errors import DataError
from vaebm.data.preprocessing import Preprocessing

__all__ = ["channels_first", "check_images", "check_labels"]

_CHANNELS = (1, 3)
# Resampling in float32 overshoots the range by a few units in the last place.
_FLOAT_SLACK = 1e-5


def check_images(
    images: NDArray[Any],
    name: str,
    expected_shape: tuple[int, int, int] | None = None,
    preprocessing: Preprocessing | None = None,
) -> NDArray[np.uint8]:
    """Check an array of images, and bring it to bytes, channels first.

    Arguments:
        images: Integers in 0..255, or floating point in [0, 1] (then x = round(255 v)), or numbers in the range that
            the preprocessing states; (N, H, W), (N, C, H, W) or (N, H, W, C).
        name: What the images are, for the message.
        expected_shape: The shape (C, H, W) that each must have in the end, or None.
        preprocessing: How they are brought to one size, one number of channels and 8 bits, or None.

    Returns:
        uint8, (N, C, H, W).

    Raises:
        DataError: If the type, the range, the axes, the channels or the shape are wrong, if there is a NaN, or no
            image.

    Example:
        >>> check_images(np.full((2, 8, 8), 0.2), "two grey images").shape
        (2, 1, 8, 8)
        >>> check_images(np.full((2, 8, 8), -0.2), "images")
        Traceback (most recent call last):
        ...
        vaebm.data.errors.DataError: images: values lie in [-0.2, -0.2]: expected floating point in [0, 1]: if they \
lie in [-1, 1], use (images + 1) / 2
    """
    ordered = channels_first(images, name)
    if preprocessing is None or preprocessing == Preprocessing():
        _check_shape(ordered, name, expected_shape)
        return np.ascontiguousarray(_to_bytes(ordered, name))
    processed = _processed(ordered, name, preprocessing, is_of_model=expected_shape is not None)
    _check_shape(processed, name, expected_shape)
    return processed


def check_labels(labels: NDArray[Any], num_images: int, name: str) -> NDArray[np.int64]:
    """Check an array of class labels.

    Arguments:
        labels: Integers from 0 on, (N,).
        num_images: The N expected.
        name: What the labels are, for the message.

    Returns:
        int64, (N,).

    Raises:
        DataError: If the type, the axes, the length or the range are wrong.

    Example:
        >>> check_labels(np.array([3, 1], dtype=np.uint8), num_images=2, name="labels")
        array([3, 1])
    """
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        found = labels.dtype if isinstance(labels, np.ndarray) else type(labels).__name__
        raise DataError(f"{name}: labels are {found}: expected integers, one for each image")
    if labels.shape != (num_images,):
        raise DataError(f"{name}: labels have shape {labels.shape}: expected ({num_images},), one for each image")
    if num_images and int(labels.min()) < 0:
        raise DataError(f"{name}: labels go down to {labels.min()}: expected integers from 0 on")
    return labels.astype(np.int64)


def channels_first(images: NDArray[Any], name: str) -> NDArray[Any]:
    """Check the axes of an array of images, and return it as (N, C, H, W).

    Raises:
        DataError: If it is no array, or has other axes.
    """
    if not isinstance(images, np.ndarray):
        raise DataError(f"{name}: is a {type(images).__name__}: expected a numpy array of images")
    shape = images.shape
    if images.ndim == 2 or (images.ndim == 3 and shape[2] in _CHANNELS):
        raise DataError(
            f"{name}: has shape {shape}, which looks like one image or flattened ones: expected (N, H, W): "
            "use images[None], or images.reshape(N, H, W)"
        )
    if images.ndim not in (3, 4):
        raise DataError(f"{name}: has shape {shape}: expected (N, H, W), (N, C, H, W) or (N, H, W, C)")
    if images.size == 0:
        raise DataError(f"{name}: has shape {shape}, which is empty: expected at least one image")
    if images.ndim == 3:
        return images[:, None]
    if shape[1] in _CHANNELS:
        return images
    if shape[3] in _CHANNELS:
        return images.transpose(0, 3, 1, 2)
    raise DataError(
        f"{name}: has shape {shape}: expected (N, C, H, W) or (N, H, W, C) with 1 or 3 channels C: "
        "leave out alpha and other channels"
    )


def _check_shape(images: NDArray[Any], name: str, expected_shape: tuple[int, int, int] | None) -> None:
    if expected_shape is not None and images.shape[1:] != tuple(expected_shape):
        raise DataError(
            f"{name}: images are {_product(images.shape[1:])}, expected {_product(expected_shape)} "
            "(channels x height x width), which is what the model takes: give images of that shape"
        )


def _processed(images: NDArray[Any], name: str, preprocessing: Preprocessing, is_of_model: bool) -> NDArray[np.uint8]:
    if preprocessing.value_range is not None:
        # A model's range is that of its training images: what lies beyond is black or white, as in files.
        stated = None if is_of_model else preprocessing.value_range
        _check_stated_range(images, name, stated)
    elif images.dtype.kind == "f":
        _check_finite(images, name, "in [0, 1]")
        _check_unit_range(images, name)
        preprocessing = replace(preprocessing, value_range=(0.0, 1.0))
    else:
        images = _to_bytes(images, name)
    # One after the other: floating point of all of them at once may be too much.
    return np.stack([preprocessing.apply(image.transpose(1, 2, 0), name) for image in images])


def _check_stated_range(images: NDArray[Any], name: str, stated: tuple[float, float] | None) -> None:
    if images.dtype.kind not in "iuf":
        raise DataError(f"{name}: holds {images.dtype}: expected integers or floating point")
    _check_finite(images, name, "numbers" if stated is None else f"in [{stated[0]:g}, {stated[1]:g}]")
    if stated is None:
        return
    low, high = stated
    lowest, highest = images.min(), images.max()
    if lowest < low or highest > high:
        raise DataError(
            f"{name}: values lie in [{lowest:g}, {highest:g}], outside of the stated value range [{low:g}, {high:g}]: "
            f"state the range that holds them, --value-range={lowest:g},{highest:g}, or clip them before"
        )


def _to_bytes(images: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iuf":
        raise DataError(f"{name}: holds {images.dtype}: expected integers in 0..255 or floating point in [0, 1]")
    if images.dtype.kind == "f":
        _check_finite(images, name, "in [0, 1]")
        return _float_to_bytes(images, name)
    low, high = int(images.min()), int(images.max())
    if low < 0 or high > 255:
        hint = (
            ": if they have 16 bits, use images // 257, or --value-range 0,65535" if low >= 0 and high <= 65535 else ""
        )
        raise DataError(f"{name}: values lie in {low}..{high}: expected integers in 0..255{hint}")
    return images.astype(np.uint8)


def _check_finite(images: NDArray[Any], name: str, expected: str) -> None:
    num_bad = images.size - int(np.isfinite(images).sum())
    if num_bad:
        raise DataError(f"{name}: {num_bad} of {images.size} values are NaN or infinite: expected numbers {expected}")


def _check_unit_range(images: NDArray[Any], name: str) -> None:
    low, high = float(images.min()), float(images.max())
    if low < -_FLOAT_SLACK or high > 1 + _FLOAT_SLACK:
        hint = ""
        if -1 <= low < 0 and high <= 1:
            hint = ": if they lie in [-1, 1], use (images + 1) / 2"
        elif low >= 0 and high <= 255:
            hint = ": if they lie in 0..255, use images.round().astype('uint8'), or --value-range 0,255"
        raise DataError(f"{name}: values lie in [{low:.6g}, {high:.6g}]: expected floating point in [0, 1]{hint}")


def _float_to_bytes(images: NDArray[Any], name: str) -> NDArray[np.uint8]:
    _check_unit_range(images, name)
    # float16 has too few digits for 255 levels times the value.
    values = np.clip(images.astype(np.promote_types(images.dtype, np.float32)), 0, 1)
    levels: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
    return levels


def _product(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
