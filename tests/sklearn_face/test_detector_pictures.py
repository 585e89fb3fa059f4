"""Layouts and ranges of the arrays that a detector takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vaebm.data import DataError, Preprocessing
from vaebm.recipes import ConfigError
from vaebm.sklearn.pictures import RowLayout, arrange, is_positive, row_layout, to_levels

PICTURES = np.arange(2 * 3 * 8 * 9).reshape(2, 3, 8, 9)
CHANNELS_LAST = PICTURES.transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((8, 9), RowLayout((1, 8, 9), False)),
        ([1, 8, 9], RowLayout((1, 8, 9), False)),
        (np.array([3, 8, 9]), RowLayout((3, 8, 9), False)),
        ((8, 9, 3), RowLayout((3, 8, 9), True)),
        ((8, 9, 1), RowLayout((1, 8, 9), True)),
    ],
)
def test_a_stated_shape_is_read(given: Any, expected: RowLayout) -> None:
    assert row_layout(given) == expected


@pytest.mark.parametrize(
    "given", [64, (8,), (7, 8), (8, 129), (2, 8, 8), (8, 8, 4), (8.5, 8), "88", (1, 1, 8, 8), None]
)
def test_what_is_no_shape_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"image_shape is .*: expected \(H, W\)"):
        row_layout(given)


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        (PICTURES, None),
        (CHANNELS_LAST, None),
        (PICTURES.reshape(2, -1), (3, 8, 9)),
        (CHANNELS_LAST.reshape(2, -1), (8, 9, 3)),
        (CHANNELS_LAST, (3, 8, 9)),
    ],
)
def test_all_layouts_of_one_picture_are_the_same(values: NDArray[Any], shape: tuple[int, ...] | None) -> None:
    stated = None if shape is None else row_layout(shape)
    np.testing.assert_array_equal(arrange(values, stated, None), PICTURES)


def test_grey_pictures_need_no_axis_of_channels() -> None:
    grey = PICTURES[:, 0]
    np.testing.assert_array_equal(arrange(grey, None, None), PICTURES[:, :1])
    # Once the shape is known, one channel can be flattened in one way only.
    np.testing.assert_array_equal(arrange(grey.reshape(2, -1), None, (1, 8, 9)), PICTURES[:, :1])


@pytest.mark.parametrize(
    ("values", "shape", "expected", "message"),
    [
        (np.zeros((2, 64)), None, None, "looks like flattened pictures: set image_shape"),
        (np.zeros((2, 192)), None, (3, 8, 8), "looks like flattened pictures: set image_shape"),
        (np.zeros((2, 63)), (8, 8), None, r"X has 63 feature\(s\): expected 64, 1 x 8 x 8"),
        (np.zeros((2, 8, 9)), (8, 8), None, r"of \(1, 8, 9\): expected \(1, 8, 8\)"),
        (np.zeros((2, 8, 9)), None, (1, 8, 8), r"of \(1, 8, 9\): expected \(1, 8, 8\)"),
        (np.zeros((8, 8, 3)), None, None, r"shape \(8, 8, 3\): expected pictures \(n, H, W\)"),
        (np.zeros((2, 8, 8, 4)), None, None, "with 1 or 3 channels"),
        (np.zeros((2, 7, 8)), None, None, "height and width from 8 to 128"),
        (np.zeros((2, 8, 8, 8, 8)), None, None, r"expected pictures \(n, H, W\)"),
    ],
)
def test_other_arrays_are_refused(
    values: NDArray[Any],
    shape: tuple[int, ...] | None,
    expected: tuple[int, int, int] | None,
    message: str,
) -> None:
    with pytest.raises(DataError, match=message):
        arrange(values, None if shape is None else row_layout(shape), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64", "bool"])
def test_black_and_white_of_a_type(dtype: str) -> None:
    white = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    np.testing.assert_array_equal(to_levels(np.array([0, white]).astype(dtype), None), [0, 255])


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_the_bytes_are_those_of_a_file_with_this_range(dtype: str) -> None:
    values = np.arange(12, 12 + 64).reshape(8, 8).astype(dtype)
    expected = Preprocessing(value_range=(10, 80)).apply(values, "a picture")
    np.testing.assert_array_equal(to_levels(values, (10, 80)), expected[0])


def test_one_picture_has_the_same_bytes_in_each_type() -> None:
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_levels(levels / 255, None), levels)
    np.testing.assert_array_equal(to_levels((levels / 255).astype(np.float32), None), levels)
    np.testing.assert_array_equal(to_levels(levels.astype(np.int64), (0, 255)), levels)
    np.testing.assert_array_equal(to_levels(levels.astype(np.uint16) * 257, None), levels)


@pytest.mark.parametrize(
    ("values", "value_range", "message"),
    [
        (np.array([0.0, 16.0]), None, r"values from 0 to 16, float64 is expected in \[0, 1\]: set value_range"),
        (np.array([-0.1, 0.9]), None, r"values from -0\.1 to 0\.9, float64"),
        (np.array([0.0, 17.0]), (0, 16), r"values from 0 to 17, value_range is \[0, 16\]"),
        (np.array([0, 200], np.uint8), (0, 16), r"values from 0 to 200, value_range is \[0, 16\]"),
        (np.array([0, 200]), None, r"X holds int64, whose black and white aren't known: set value_range"),
    ],
)
def test_values_outside_the_range_are_refused(
    values: NDArray[Any], value_range: tuple[float, float] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        to_levels(values, value_range)


def test_sums_in_float32_may_miss_the_range_by_a_little() -> None:
    np.testing.assert_array_equal(to_levels(np.array([-1e-6, 1 + 1e-6], np.float32), None), [0, 255])


@pytest.mark.parametrize("value_range", [(1, 0), (0, 0), (0, np.inf), (np.nan, 1), (0, 1, 2), "auto", 5])
def test_what_is_no_range_is_refused(value_range: Any) -> None:
    with pytest.raises(ConfigError, match=r"value_range is .*: expected None or"):
        to_levels(np.zeros(3), value_range)


def test_which_ranges_are_positive() -> None:
    assert is_positive(None)
    assert is_positive((0, 16))
    assert not is_positive((-1, 1))
    assert not is_positive("auto")  # type: ignore[arg-type]
