"""Images by name or by path.

A source is a name (`mnist`, bundled; `digits`, scikit-learn's 8x8 ones) or the path of an npz, npy or idx file, of a
folder of idx files or of a folder of images. A name goes before a path: write `./mnist` for a folder of that name.
"""

import difflib
import os
from pathlib import Path

import numpy as np

from vaebm.data.arrays import PoolAndTest, find_idx_files, read_array_file, read_idx_folder
from vaebm.data.checks import check_images
from vaebm.data.errors import DataError
from vaebm.data.folders import IMAGE_SUFFIXES, list_image_files, read_image_files, read_image_folder
from vaebm.data.images import ImageSet
from vaebm.data.splits import Splits, make_splits

__all__ = ["DATA_SETS", "load_images", "load_splits"]

DATA_SETS = ("mnist", "digits")
_MNIST = Path(__file__).parent / "bundled" / "mnist"


def load_splits(source: str, seed: int = 0) -> Splits:
    """Load training, selection, calibration and test images.

    MNIST is split 50,000 / 5,000 / 5,000 / 10,000 and digits 1,097 / 200 / 200 / 300. Of other sources with test
    images, a twelfth of the rest goes to selection and to calibration each; of those without, a tenth each, and a
    sixth to the test. The first two get at most 5,000 and the test at most 10,000.

    Arguments:
        source: A name or a path, see the top of this module.
        seed: Which split; the same one for every run, unless asked otherwise.

    Returns:
        The four parts.

    Raises:
        DataError: If there is no such source, or it is damaged, too small or wrong in kind.

    Example:
        >>> splits = load_splits("digits")
        >>> [len(part) for part in splits], splits.test.shape
        ([1097, 200, 200, 300], (1, 8, 8))
    """
    if source == "digits":
        return make_splits(_read_digits(), None, num_selection=200, num_calibration=200, num_test=300, seed=seed)
    pool, test = read_idx_folder(_MNIST) if source == "mnist" else _read(_existing_path(source))
    if pool is None:
        raise DataError(f"{source}: holds test images only: expected images to train on")
    if test is None and len(pool) == 1:
        raise DataError(f"{source}: holds one image: expected a data set, of at least 10")
    if test is not None:
        num_held = min(len(pool) // 12, 5_000)
        return make_splits(pool, test, num_selection=num_held, num_calibration=num_held, seed=seed)
    num_held, num_test = min(len(pool) // 10, 5_000), min(len(pool) // 6, 10_000)
    return make_splits(pool, None, num_selection=num_held, num_calibration=num_held, num_test=num_test, seed=seed)


def load_images(source: str, expected_shape: tuple[int, int, int] | None = None) -> ImageSet:
    """Load images to be scored, all of them and in their order.

    Arguments:
        source: A path as for `load_splits`, or one image file; of arrays with both, the test images are taken. A name
            stands for its test split.
        expected_shape: The shape (C, H, W) that each must have, or None.

    Returns:
        The images; with paths, if each comes from a file of its own.

    Raises:
        DataError: If there is no such source, or it is damaged or wrong in kind or shape.

    Example:
        >>> len(load_images("digits", expected_shape=(1, 8, 8)))
        300
    """
    if source in DATA_SETS:
        images = load_splits(source).test
    else:
        path = _existing_path(source)
        if path.is_dir() and not find_idx_files(path):
            images = read_image_files(list_image_files(path), path.name)
        else:
            pool, test = _read(path)
            images = _either(test, pool)
    check_images(images.images, source, expected_shape)
    return images


def _read(path: Path) -> PoolAndTest:
    if path.is_dir():
        return read_idx_folder(path) if find_idx_files(path) else read_image_folder(path)
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return PoolAndTest(read_image_files([path], path.name), None)
    if suffix in (".npz", ".npy", ".gz") or "idx" in path.name.lower():
        return read_array_file(path)
    raise DataError(
        f"{path}: is of no known kind: expected npz, npy, idx, a folder, or an image ({' '.join(IMAGE_SUFFIXES)})"
    )


def _either(first: ImageSet | None, second: ImageSet | None) -> ImageSet:
    chosen = second if first is None else first
    assert chosen is not None, "a source holds images for one purpose at least"
    return chosen


def _existing_path(source: str) -> Path:
    path = Path(os.path.expanduser(source))
    if source and os.path.exists(path):
        if not os.access(path, os.R_OK):
            raise DataError(f"{source}: may not be read: expected a file or folder with permission to read")
        return path
    if os.sep in source or path.suffix:
        raise DataError(f"{source}: there is no such file or folder: check the path")
    nearest = difflib.get_close_matches(source.lower(), DATA_SETS, n=1, cutoff=0.4)
    hint = f": did you mean {nearest[0]!r}?" if nearest else ""
    raise DataError(
        f"unknown data set {source!r}: expected {', '.join(DATA_SETS)} or the path of a file or folder{hint}"
    )


def _read_digits() -> ImageSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    # 17 levels, 0..16, spread over the bytes.
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return ImageSet(images[:, None], digits.target.astype(np.int64), "digits")
