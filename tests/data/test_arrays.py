import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaebm.data import DataError, Preprocessing, inspect_source, load_images, load_splits

RANDOM = np.random.default_rng(0)
TRAIN = RANDOM.integers(0, 256, (48, 8, 8), dtype=np.uint8)
TEST = RANDOM.integers(0, 256, (10, 8, 8), dtype=np.uint8)


def write_idx(path: Path, array: np.ndarray) -> None:
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def rows(images: np.ndarray) -> list[bytes]:
    return sorted(image.tobytes() for image in images)


def test_npz_with_a_test_set(tmp_path: Path) -> None:
    path = tmp_path / "toy.npz"
    np.savez(path, train_x=TRAIN, train_y=np.arange(48), test_x=TEST, test_y=np.arange(10, dtype=np.uint8))
    splits = load_splits(str(path))
    assert [len(part) for part in splits] == [36, 4, 8, 10]
    assert [part.name for part in splits] == ["toy training", "toy selection", "toy calibration", "toy test"]
    for part in splits[:3]:
        assert part.labels is not None
        np.testing.assert_array_equal(part.images[:, 0], TRAIN[part.labels])
    np.testing.assert_array_equal(splits.test.images[:, 0], TEST)
    np.testing.assert_array_equal(load_images(str(path)).images[:, 0], TEST)


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("train_x", "train_y")])
def test_npz_without_a_test_set(tmp_path: Path, keys: tuple[str, str]) -> None:
    path = tmp_path / "toy.npz"
    arrays: dict[str, Any] = {keys[0]: TRAIN / 255, keys[1]: np.arange(48)}
    np.savez_compressed(path, **arrays)
    splits = load_splits(str(path))
    assert [len(part) for part in splits] == [28, 4, 8, 8]
    assert rows(np.concatenate([part.images for part in splits])) == rows(TRAIN)
    scored = load_images(str(path))
    np.testing.assert_array_equal(scored.images[:, 0], TRAIN)
    assert scored.paths is None


def test_the_split_of_a_file_is_fixed_unless_asked_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "toy.npy"
    np.save(path, TRAIN)
    first, again, other = load_splits(str(path)), load_splits(str(path)), load_splits(str(path), seed=1)
    np.testing.assert_array_equal(first.test.images, again.test.images)
    assert rows(first.test.images) != rows(other.test.images)


def test_npy_of_colours_with_channels_last(tmp_path: Path) -> None:
    path = tmp_path / "toy.npy"
    colours = RANDOM.integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
    np.save(path, colours)
    np.testing.assert_array_equal(load_images(str(path)).images, colours.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("names", [("train", "t10k", "-", ".gz"), ("train", "test", ".", "")])
def test_idx_folder(tmp_path: Path, names: tuple[str, str, str, str]) -> None:
    train, test, mark, packed = names
    write_idx(tmp_path / f"{train}-images{mark}idx3-ubyte{packed}", TRAIN)
    write_idx(tmp_path / f"{train}-labels{mark}idx1-ubyte{packed}", np.arange(48, dtype=np.uint8))
    write_idx(tmp_path / f"{test}-images{mark}idx3-ubyte{packed}", TEST)
    splits = load_splits(str(tmp_path))
    assert [len(part) for part in splits] == [36, 4, 8, 10]
    assert splits.test.labels is None
    assert splits.training.labels is not None
    np.testing.assert_array_equal(splits.training.images[:, 0], TRAIN[splits.training.labels])
    np.testing.assert_array_equal(load_images(str(tmp_path)).images[:, 0], TEST)


def test_one_idx_file(tmp_path: Path) -> None:
    path = tmp_path / "some-idx3-ubyte.gz"
    write_idx(path, TRAIN)
    np.testing.assert_array_equal(load_images(str(path)).images[:, 0], TRAIN)
    assert [len(part) for part in load_splits(str(path))] == [28, 4, 8, 8]


def test_idx_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", TRAIN)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(47, dtype=np.uint8))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte: labels have shape \(47,\): expected \(48,\)"):
        load_splits(str(tmp_path))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"train_X": TRAIN}, "unknown key 'train_X'.*did you mean 'train_x'"),
    "strange key": ({"zebra": TRAIN}, r"unknown key 'zebra': expected some of .*labels, y$"),
    "extra key": ({"images": TRAIN, "ids": np.arange(48)}, "unknown key 'ids'"),
    "two pools": ({"images": TRAIN, "x": TRAIN}, "holds both 'images' and 'x'"),
    "labels alone": ({"images": TRAIN, "train_y": np.arange(48)}, "labels 'train_y' without images 'train_x'"),
    "nothing": ({}, "holds no array"),
    "test only": ({"test_x": TEST}, "holds test images only"),
    "nan": ({"x": np.full((20, 8, 8), np.nan)}, "'x': 1280 of 1280 values are NaN"),
    "range": ({"x": TRAIN.astype(np.float32)}, r"'x': values lie in \[0, 255\]"),
    "rank": ({"x": TRAIN[0, 0]}, r"'x': has shape \(8,\)"),
    "empty": ({"x": TRAIN[:0]}, "'x': has shape .* empty"),
    "labels": ({"x": TRAIN, "y": np.ones(48)}, "'y': labels are float64"),
    "sizes": ({"train_x": TRAIN, "test_x": TEST[:, :7]}, r"test images are \(1, 7, 8\), the others \(1, 8, 8\)"),
    "a number": ({"x": np.array(5), "y": np.arange(1)}, r"'x': has shape \(\)"),
    "too few": ({"x": TRAIN[:9]}, "holds 9 images: expected a data set, of at least 12"),
    "one": ({"x": TRAIN[:1]}, "holds one image: expected a data set"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_npz_is_one_line_that_names_the_file(tmp_path: Path, name: str) -> None:
    arrays, message = BAD[name]
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load_splits(str(path))
    assert "bad" in str(caught.value)
    assert "\n" not in str(caught.value)


OTHERS = {
    "bool": (TRAIN > 127, r"holds bool: expected integers or floating point: .*astype\('uint8'\) \* 255"),
    "words": (np.full((24, 8, 8), "a"), "holds <U1: expected integers or floating point$"),
    "bytes": (np.full((24, 8, 8), b"a"), r"holds \|S1: expected integers"),
    "dates": (np.zeros((24, 8, 8), "datetime64[s]"), r"holds datetime64\[s\]: expected integers"),
    "times": (np.zeros((24, 8, 8), "timedelta64[s]"), r"holds timedelta64\[s\]: expected integers"),
    "complex": (TRAIN.astype(np.complex64), "holds complex64: expected integers"),
    "records": (np.zeros((24, 8, 8), [("a", "u1")]), "holds .*: expected integers"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_arrays_of_other_types_are_refused_before_their_values_are_looked_at(tmp_path: Path, name: str) -> None:
    array, message = OTHERS[name]
    path = tmp_path / "other.npy"
    np.save(path, array)
    for chosen in (None, Preprocessing(value_range=(0, 1))):
        for load in (inspect_source, load_images):
            with pytest.raises(DataError, match=message) as caught:
                load(str(path), preprocessing=chosen)
            assert str(caught.value).startswith(f"{path}: ")
        with pytest.raises(DataError, match=message):
            load_splits(str(path), preprocessing=chosen)


class Trap:
    """Whoever unpickles it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_nothing_is_unpickled(tmp_path: Path, suffix: str) -> None:
    path, trace = tmp_path / f"objects{suffix}", tmp_path / "trace"
    objects = np.array([Trap(trace)], dtype=object)
    if suffix == ".npz":
        np.savez(path, images=objects)
    else:
        np.save(path, objects)
    with pytest.raises(DataError, match="Python objects, which are never loaded"):
        load_images(str(path))
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_damaged_numpy_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    for content in (b"", b"not an array", b"\x80\x04N."):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is no npz or npy file"):
            load_images(str(path))
    if suffix == ".npz":
        np.savez(path, images=TRAIN)
    else:
        np.save(path, TRAIN)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        load_images(str(path))
