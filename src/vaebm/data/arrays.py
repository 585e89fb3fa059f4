"""Images in arrays: npz, npy and idx files, and folders of the idx files that MNIST and its kin come in.

Nothing is ever unpickled. An npz file holds `train_x` and `test_x` (with `train_y`, `test_y`), or `images` or `x`
(with `labels` or `y`).
"""

import difflib
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebm.data.checks import channels_first, check_labels
from vaebm.data.errors import DataError
from vaebm.data.gathering import Entry, PictureList, PoolAndTest
from vaebm.data.idx import read_idx

__all__ = ["find_idx_files", "list_array", "read_array_file", "read_idx_folder"]

_LABELS_OF = {"train_x": "train_y", "test_x": "test_y", "images": "labels", "x": "y"}
_KEYS = (*_LABELS_OF, *_LABELS_OF.values())
_NUMPY_BEGINNINGS = (b"\x93NUM", b"PK\x03\x04", b"PK\x05\x06")
_IDX_NAME = re.compile(r"(?P<part>train|t10k|test)-images(?P<mark>[-.])idx3-ubyte(?P<packed>\.gz)?")


def read_array_file(path: Path) -> PoolAndTest:
    """Read images from one npz, npy or idx file.

    Arguments:
        path: The file; a suffix of npz or npy tells the first two, everything else is read as idx.

    Returns:
        The pool, and the test set if the file is an npz with `test_x`.

    Raises:
        DataError: If the file or an array in it is damaged or wrong, if it holds pickled objects, or a key is unknown.
    """
    if path.suffix.lower() not in (".npz", ".npy"):
        return PoolAndTest(list_array(read_idx(path), path.name, str(path)), None)
    content = _read_numpy(path)
    if isinstance(content, dict):
        return _sets_of_keys(content, path)
    return PoolAndTest(list_array(content, path.stem, str(path)), None)


def find_idx_files(folder: Path) -> dict[str, Path]:
    """Find the idx files of images in a folder, by their customary names.

    Arguments:
        folder: A folder with files such as `train-images-idx3-ubyte.gz` and `t10k-images-idx3-ubyte.gz`.

    Returns:
        The file of the pool as `train` and that of the test images as `test`, as far as they are there.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = _IDX_NAME.fullmatch(path.name)
        if match is not None:
            found.setdefault("train" if match["part"] == "train" else "test", path)
    return found


def read_idx_folder(folder: Path) -> PoolAndTest:
    """Read images and labels from the idx files of a folder.

    Arguments:
        folder: One in which `find_idx_files` finds something.

    Returns:
        The pool and the test set, as far as they are there, with labels where the file of labels is there.

    Raises:
        DataError: If a file is damaged, or images and labels do not fit together.
    """
    files = find_idx_files(folder)
    pool = _read_idx_pair(files["train"], folder.name) if "train" in files else None
    test = _read_idx_pair(files["test"], f"{folder.name} test") if "test" in files else None
    return PoolAndTest(pool, test)


def list_array(array: NDArray[Any], name: str, place: str, labels: NDArray[np.int64] | None = None) -> PictureList:
    """List the images of an array.

    Arguments:
        array: (N, H, W), (N, C, H, W) or (N, H, W, C), integers or floating point.
        name: What they are.
        place: Where they are, for messages.
        labels: int64, (N,), or None.

    Raises:
        DataError: If the type or the axes are others.
    """
    if array.dtype.kind not in "iuf":
        hint = ": if they are black and white, use images.astype('uint8') * 255" if array.dtype.kind == "b" else ""
        raise DataError(f"{place}: holds {array.dtype}: expected integers or floating point{hint}")
    ordered = channels_first(array, place)
    return PictureList(name, place, partial(_entries, ordered, place), labels, array=ordered)


def _entries(ordered: NDArray[Any], place: str) -> Iterator[Entry]:
    for index, image in enumerate(ordered):
        yield Entry(f"{place}[{index}]", image.transpose(1, 2, 0))


def _read_idx_pair(path: Path, name: str) -> PictureList:
    images = read_idx(path)
    labels_path = path.with_name(path.name.replace("-images", "-labels").replace("idx3", "idx1"))
    labels = None
    if labels_path.exists():
        labels = check_labels(read_idx(labels_path), len(images), str(labels_path))
    return list_array(images, name, str(path), labels)


def _read_numpy(path: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            if file.read(4) not in _NUMPY_BEGINNINGS:
                raise DataError(f"{path}: is no npz or npy file: expected one saved by numpy.savez or numpy.save")
            file.seek(0)
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return content
            _check_memory(sum(entry.file_size for entry in content.zip.infolist()), path)
            if list(content.keys()) == ["arr_0"]:
                return {"images": content["arr_0"]}
            _check_keys(list(content.keys()), path)
            return {key: content[key] for key in content}
    except DataError:
        raise
    # A damaged file makes the readers of zip and of numpy's header fail in more ways than can be listed.
    except Exception as error:
        reason = "it holds Python objects, which are never loaded" if "Object arrays" in str(error) else error
        raise DataError(f"{path}: cannot be read ({reason}): expected arrays of numbers, saved by numpy") from None


def _check_memory(num_bytes: int, path: Path) -> None:
    """A small file of zeros may unpack to more than there is room for."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        # Not told here: then the operating system refuses it, if anything does.
        return
    if num_bytes > memory:
        raise DataError(
            f"{path}: unpacks to {num_bytes / 1e9:.0f} GB, more than the memory of this machine: give fewer images"
        )


def _check_keys(keys: list[str], path: Path) -> None:
    for key in keys:
        if key not in _KEYS:
            nearest = difflib.get_close_matches(key.lower(), _KEYS, n=1)
            hint = f": did you mean {nearest[0]!r}?" if nearest else ""
            raise DataError(f"{path}: unknown key {key!r}: expected some of {', '.join(_KEYS)}{hint}")
    pools = [key for key in ("train_x", "images", "x") if key in keys]
    if len(pools) > 1:
        raise DataError(f"{path}: holds both {pools[0]!r} and {pools[1]!r}: expected one of them")
    for images_key, labels_key in _LABELS_OF.items():
        if labels_key in keys and images_key not in keys:
            raise DataError(f"{path}: holds labels {labels_key!r} without images {images_key!r}: expected both")
    if not keys:
        raise DataError(f"{path}: holds no array: expected some of {', '.join(_KEYS)}")


def _sets_of_keys(arrays: dict[str, NDArray[Any]], path: Path) -> PoolAndTest:
    pool, test = None, None
    for images_key, labels_key in _LABELS_OF.items():
        if images_key not in arrays:
            continue
        labels = None
        if labels_key in arrays:
            labels = check_labels(arrays[labels_key], len(np.atleast_1d(arrays[images_key])), f"{path}: {labels_key!r}")
        place = f"{path}: {images_key!r}"
        if images_key == "test_x":
            test = list_array(arrays[images_key], f"{path.stem} test", place, labels)
        else:
            pool = list_array(arrays[images_key], path.stem, place, labels)
    return PoolAndTest(pool, test)
