"""One stated path to one size: exact where nothing changes, antialiased where pictures shrink."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaebm.data import DataError, Preprocessing, load_images, load_splits

RANDOM = np.random.default_rng(0)


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width] / 40
    return np.rint(127 + 60 * np.sin(rows * 2) + 60 * np.cos(columns * 3)).astype(np.uint8)


def test_what_has_the_form_already_is_left_as_it_is() -> None:
    pixels = RANDOM.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for chosen in (Preprocessing(), Preprocessing((16, 16), 3, "crop", (0, 255))):
        np.testing.assert_array_equal(chosen.apply(pixels, "a picture"), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_shrinking_a_smooth_picture_is_near_the_mean_of_areas(factor: int) -> None:
    pixels = smooth(16 * factor, 24 * factor)
    means = pixels.reshape(16, factor, 24, factor).mean(axis=(1, 3))
    shrunk = Preprocessing((16, 24)).apply(pixels, "a picture")[0]
    # A bicubic kernel is narrower than the area at its edges and overshoots by a few levels.
    assert np.abs(shrunk - means).max() < 6
    assert np.abs(shrunk - means).mean() < 1


@pytest.mark.parametrize("period", [1, 2, 3])
def test_a_fine_chequerboard_becomes_grey_and_not_another_pattern(period: int) -> None:
    board = ((np.add.outer(np.arange(240) // period, np.arange(240) // period) % 2) * 255).astype(np.uint8)
    shrunk = Preprocessing((16, 16)).apply(board, "a board")[0].astype(int)
    # Every 15th pixel, without antialiasing, would be black or white.
    assert set(np.unique(board[::15, ::15])) <= {0, 255}
    assert np.abs(shrunk - 127.5).max() < 6


def test_growing_keeps_a_ramp() -> None:
    ramp = np.tile(np.arange(8, dtype=np.uint8) * 30, (8, 1))
    grown = Preprocessing((32, 32)).apply(ramp, "a ramp")[0]
    inner = (np.arange(32) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(grown[16, 8:24], 30 * inner[8:24], atol=0.51)


def test_grey_and_colour_by_the_stated_weights() -> None:
    pixels = RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    grey = Preprocessing(channels=1).apply(pixels, "a picture")[0]
    assert np.abs(grey - pixels @ [0.299, 0.587, 0.114]).max() <= 0.501
    equal = np.repeat(pixels[:, :, :1], 3, axis=2)
    np.testing.assert_array_equal(Preprocessing(channels=1).apply(equal, "a picture")[0], pixels[:, :, 0])
    np.testing.assert_array_equal(Preprocessing(channels=3).apply(pixels[:, :, 0], "a picture"), [pixels[:, :, 0]] * 3)


def test_crop_keeps_proportions_and_stretch_keeps_all() -> None:
    wide = np.zeros((16, 48), dtype=np.uint8)
    wide[:, 16:32] = 255
    assert (Preprocessing((16, 16), fit="crop").apply(wide, "a picture") == 255).all()
    stretched = Preprocessing((16, 16)).apply(wide, "a picture")[0].astype(float)
    assert stretched.mean() == pytest.approx(85, abs=2)
    assert stretched[:, :4].max() < 10


def test_sixteen_bits_and_stated_ranges_have_one_rounding() -> None:
    deep = RANDOM.integers(0, 65_536, (8, 8), dtype=np.uint16)
    np.testing.assert_array_equal(Preprocessing().apply(deep, "a scan")[0], np.rint(deep / 257))
    levels = Preprocessing(value_range=(1_000, 5_000)).apply(deep, "a scan")[0]
    np.testing.assert_array_equal(levels, np.rint(np.clip((deep.astype(float) - 1_000) * 255 / 4_000, 0, 255)))


def test_numbers_without_a_range_and_without_a_value_are_refused() -> None:
    with pytest.raises(DataError, match=r"a scan: holds float32, whose black and white aren't known"):
        Preprocessing().apply(np.zeros((8, 8), dtype=np.float32), "a scan")
    with pytest.raises(DataError, match="a scan: holds values that are NaN"):
        Preprocessing(value_range=(0, 1)).apply(np.full((8, 8), np.nan), "a scan")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": (7, 8)}, "image size 7x8"),
        ({"image_size": (8, 257)}, "from 8 to 256"),
        ({"channels": 2}, "2 channels"),
        ({"fit": "pad"}, "fit 'pad': expected one of stretch, crop"),
        ({"value_range": (5, 5)}, "value range 5 to 5"),
        ({"image_size": (8,)}, r"image size \[8\]: expected two numbers, a height and a width from 8 to 256"),
        ({"image_size": (8, 8, 3)}, r"image size \[8, 8, 3\]: expected two numbers"),
        ({"image_size": ()}, r"image size \[\]: expected two numbers"),
        ({"image_size": 32}, "image size 32: expected two numbers"),
        ({"value_range": (1,)}, r"value range \[1\]: expected two numbers, a lower and a higher value"),
        ({"value_range": (0, 1, 2)}, r"value range \[0, 1, 2\]: expected two numbers"),
        ({"value_range": ("0", "1")}, r"value range \['0', '1'\]: expected two numbers"),
    ],
)
def test_values_that_can_not_be_used(values: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Preprocessing(**values)  # type: ignore[arg-type]


def test_it_survives_storage() -> None:
    chosen = Preprocessing((32, 48), 1, "crop", (0.0, 4095.0))
    assert Preprocessing.from_dict(chosen.to_dict()) == chosen
    with pytest.raises(DataError, match="unknown key 'colour'"):
        Preprocessing.from_dict({"colour": 1})
    with pytest.raises(DataError, match=r"can't be used \(value range \[1\]: expected two numbers"):
        Preprocessing.from_dict({"value_range": [1]})


def test_files_and_arrays_go_the_same_way(tmp_path: Path) -> None:
    folder = tmp_path
    pixels = RANDOM.integers(0, 256, (20, 30, 40, 3), dtype=np.uint8)
    (folder / "files").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "files" / f"{index:02}.png")
    np.save(folder / "bytes.npy", pixels)
    np.save(folder / "floats.npy", (pixels / 255).transpose(0, 3, 1, 2))
    np.save(folder / "deep.npy", pixels.astype(np.uint16) * 257)
    chosen = Preprocessing((16, 16), 1, "crop")
    files = load_images(str(folder / "files"), preprocessing=chosen)
    assert files.shape == (1, 16, 16)
    for name, own in (("bytes", chosen), ("floats", chosen), ("deep", Preprocessing((16, 16), 1, "crop", (0, 65_535)))):
        np.testing.assert_array_equal(load_images(str(folder / f"{name}.npy"), preprocessing=own).images, files.images)
    splits = load_splits(str(folder / "files"), preprocessing=chosen)
    known = {image.tobytes() for image in files.images}
    assert {image.tobytes() for part in splits for image in part.images} == known
    assert splits.skipped == ()


def test_eight_bits_do_not_pass_for_sixteen() -> None:
    wide = Preprocessing(value_range=(300, 3000))
    with pytest.raises(DataError, match=r"x\.png: has 8 bits, but black and white are 300 and 3000"):
        wide.apply(np.full((8, 8), 200, np.uint8), "x.png")
    assert wide.apply(np.full((8, 8), 3000, np.uint16), "x.png").max() == 255
