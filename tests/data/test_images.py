import numpy as np
import pytest
import torch

from vaebm.data import DataError, ImageSet, to_float, to_uint8


def test_bytes_survive_the_way_through_floats() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    values = to_float(levels)
    assert values.dtype == torch.float32
    assert (values.min().item(), values.max().item()) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_uint8(values), levels)


def test_floats_come_back_within_half_a_level() -> None:
    values = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert (to_float(to_uint8(values)) - values).abs().max() <= 0.5 / 127.5 + 1e-6


def test_values_outside_are_clamped() -> None:
    np.testing.assert_array_equal(to_uint8(torch.tensor([-7.0, -1.001, 1.001, torch.inf])), [0, 0, 255, 255])


def test_arrays_and_tensors_give_the_same_and_stay_as_they_were() -> None:
    levels = np.arange(6, dtype=np.uint8)
    assert torch.equal(to_float(levels[::2]), to_float(torch.from_numpy(levels)[::2]))
    np.testing.assert_array_equal(levels, np.arange(6))


def test_half_precision_is_rounded_like_single() -> None:
    values = to_float(np.arange(256, dtype=np.uint8)).to(torch.bfloat16)
    np.testing.assert_array_equal(to_uint8(values), to_uint8(values.float()))


def test_conversion_refuses_what_has_no_byte() -> None:
    with pytest.raises(DataError, match="NaN"):
        to_uint8(torch.tensor([0.0, torch.nan]))
    with pytest.raises(DataError, match=r"torch\.int64.*expected floating point"):
        to_uint8(torch.arange(3))
    with pytest.raises(DataError, match=r"torch\.float32.*expected torch\.uint8"):
        to_float(torch.rand(3))


def test_take_keeps_images_labels_and_paths_together() -> None:
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    taken = ImageSet(images, np.arange(5) * 10, "five", tuple("abcde")).take([4, 0], name="two")
    assert taken.images.ravel().tolist() == [4, 0]
    assert taken.labels is not None
    assert taken.labels.tolist() == [40, 0]
    assert (taken.paths, taken.name, len(taken), taken.shape) == (("e", "a"), "two", 2, (1, 1, 1))
    bare = ImageSet(images, None, "five").take([1])
    assert (bare.labels, bare.paths, bare.name) == (None, None, "five")


def test_parts_that_do_not_fit_are_refused() -> None:
    images = np.zeros((3, 1, 2, 2), dtype=np.uint8)
    with pytest.raises(DataError, match="2 labels for 3 images"):
        ImageSet(images, np.arange(2), "three")
    with pytest.raises(DataError, match="1 paths for 3 images"):
        ImageSet(images, None, "three", ("a",))
    with pytest.raises(DataError, match="uint8 images"):
        ImageSet(images.astype(np.float32), None, "three")
    with pytest.raises(DataError, match="uint8 images"):
        ImageSet(images[0], None, "three")


def test_an_error_is_one_line() -> None:
    assert str(DataError("one\ntwo\r\nthree")) == "one two three"
    assert issubclass(DataError, ValueError)
