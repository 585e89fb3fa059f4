from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vaebm.data import DataError, check_images, check_labels

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (5, 8, 9), dtype=np.uint8)
COLOURS = RANDOM.integers(0, 256, (5, 3, 8, 9), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64])
def test_integers_pass_unchanged(dtype: type[np.integer[Any]]) -> None:
    checked = check_images(BYTES.astype(dtype), "images")
    assert checked.dtype == np.uint8
    np.testing.assert_array_equal(checked[:, 0], BYTES)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_the_unit_range_give_their_bytes(dtype: type[np.floating[Any]]) -> None:
    np.testing.assert_array_equal(check_images((BYTES / 255).astype(dtype), "images")[:, 0], BYTES)


def test_floats_are_rounded_to_the_nearest_level() -> None:
    values = np.array([0.0, 0.4, 0.6, 254.4, 254.6, 255.0]).reshape(1, 3, 2) / 255
    assert check_images(values, "images").ravel().tolist() == [0, 0, 1, 254, 255, 255]


def test_channels_come_first_wherever_they_were() -> None:
    np.testing.assert_array_equal(check_images(COLOURS, "images"), COLOURS)
    last = check_images(np.ascontiguousarray(COLOURS.transpose(0, 2, 3, 1)), "images")
    np.testing.assert_array_equal(last, COLOURS)
    assert last.flags.c_contiguous
    np.testing.assert_array_equal(check_images(BYTES[..., None], "images"), check_images(BYTES[:, None], "images"))


def test_the_expected_shape_is_in_the_message() -> None:
    assert check_images(COLOURS, "images", expected_shape=(3, 8, 9)).shape == (5, 3, 8, 9)
    with pytest.raises(DataError, match="images are 3x8x9, expected 1x28x28"):
        check_images(COLOURS, "images", expected_shape=(1, 28, 28))


def with_value(value: float) -> NDArray[np.float64]:
    images = np.full((2, 4, 4), 0.5)
    images[1, 2, 3] = value
    return images


BAD: dict[str, tuple[Any, str]] = {
    "list": ([[0.5]], "is a list: expected a numpy array"),
    "one image": (BYTES[0], r"looks like one image.*images\[None\]"),
    "one colour image": (COLOURS[0].transpose(1, 2, 0), "looks like one image"),
    "a vector": (BYTES.ravel(), r"has shape \(360,\)"),
    "five axes": (BYTES[None, None], "has shape"),
    "no image": (BYTES[:0], "empty: expected at least one image"),
    "no height": (BYTES[:, :0], "empty"),
    "four channels": (np.zeros((2, 4, 8, 8), dtype=np.uint8), "with 1 or 3 channels C.*alpha"),
    "two channels last": (np.zeros((2, 8, 8, 2), dtype=np.uint8), "with 1 or 3 channels C"),
    "nan": (with_value(np.nan), "1 of 32 values are NaN or infinite"),
    "infinite": (with_value(-np.inf), "1 of 32 values are NaN or infinite"),
    "signed range": (with_value(-0.5), r"\[-0\.5, 0\.5\].*\(images \+ 1\) / 2"),
    "byte range in floats": (with_value(254.0), r"\[0\.5, 254\].*astype\('uint8'\)"),
    "wild floats": (with_value(-300.0), r"\[-300, 0\.5\]: expected floating point in \[0, 1\]$"),
    "sixteen bits": (BYTES.astype(np.uint16) * 257, r"0\.\.\d+.*images // 257"),
    "negative integers": (BYTES.astype(np.int16) - 1, r"-1\.\.\d+: expected integers in 0\.\.255$"),
    "booleans": (BYTES > 9, "holds bool"),
    "complex": (BYTES.astype(complex), "holds complex128"),
    "objects": (BYTES.astype(object), "holds object"),
    "text": (BYTES.astype(str), "holds <U"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_one_line_that_names_them(name: str) -> None:
    images, message = BAD[name]
    with pytest.raises(DataError, match=message) as caught:
        check_images(images, "file.npz: 'x'")
    assert str(caught.value).startswith("file.npz: 'x': ")
    assert "\n" not in str(caught.value)


def test_rounding_beyond_the_range_passes() -> None:
    assert check_images(with_value(1 + 1e-6), "images").max() == 255
    assert check_images(with_value(-1e-6), "images").min() == 0


def test_labels_become_int64() -> None:
    labels = check_labels(np.array([3, 0, 9], dtype=np.uint8), 3, "labels")
    assert labels.dtype == np.int64
    assert labels.tolist() == [3, 0, 9]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], "labels are list"),
        (np.array([1.0, 2.0]), "labels are float64: expected integers"),
        (np.array([[1, 0], [0, 1]]), r"shape \(2, 2\): expected \(2,\)"),
        (np.array([1, 2, 3]), r"shape \(3,\): expected \(2,\)"),
        (np.array([0, -1]), "go down to -1"),
    ],
)
def test_bad_labels_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_labels(labels, 2, "labels")
