"""Images by name or by path.

A source is a name (`mnist`, bundled; `stacked_mnist`, made of it; `digits`, scikit-learn's 8x8 ones), the path of an
npz, npy, idx or parquet file, of one image, of a folder of images, idx or parquet files, or the name of a data set on
the hub.

* A bundled name goes before a path: write `./mnist` for a folder of that name.
* A path that is there goes before a hub name: write `hub:owner/name` for a data set called like a folder.
* What isn't there is a hub name if it is two words with one stroke between them, `owner/name`, and there is no folder
  `owner`; else it is a wrong path.
"""

import difflib
import os
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaebm.data.arrays import find_idx_files, list_array, read_array_file, read_idx_folder
from vaebm.data.checks import check_images
from vaebm.data.errors import DataError
from vaebm.data.folders import has_images, list_files, list_image_files, list_image_folder
from vaebm.data.gathering import PictureList, PoolAndTest, gather
from vaebm.data.images import ImageSet
from vaebm.data.pictures import IMAGE_SUFFIXES
from vaebm.data.preprocessing import Preprocessing
from vaebm.data.splits import Splits, make_splits
from vaebm.data.stacking import stack_splits
from vaebm.data.tables import find_parquet_files, list_hub, list_parquet_file, list_parquet_files

__all__ = ["DATA_SETS", "list_source", "load_images", "load_splits", "split_counts"]

DATA_SETS = ("mnist", "stacked_mnist", "digits")
_MNIST = Path(__file__).parent / "bundled" / "mnist"
_FEWEST = 12
_HUB = "hub:"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILE_SUFFIXES = (*IMAGE_SUFFIXES, ".npz", ".npy", ".gz", ".parquet")


def load_splits(source: str, seed: int = 0, preprocessing: Preprocessing | None = None, strict: bool = False) -> Splits:
    """Load training, selection, calibration and test images.

    MNIST is split 50,000 / 5,000 / 5,000 / 10,000, digits 1,097 / 200 / 200 / 300, and StackedMNIST has 100,000 / 5,000
    / 5,000 / 10,000 images, each of digits of the same part of MNIST. Of other sources, a twelfth goes to selection and
    a sixth to calibration, at most 5,000 each; and a sixth to the test, at most 10,000, unless they have test images of
    their own.

    Arguments:
        source: A name or a path, see the top of this module.
        seed: Which split; the same one for every run, unless asked otherwise.
        preprocessing: How pictures are brought to one form; by default they must have one.
        strict: Whether a picture that can't be read ends it all; otherwise it is skipped.

    Returns:
        The four parts, and what was skipped.

    Raises:
        DataError: If there is no such source, or it is damaged, too small or wrong in kind.

    Example:
        >>> splits = load_splits("digits")
        >>> [len(part) for part in splits], splits.test.shape
        ([1097, 200, 200, 300], (1, 8, 8))
    """
    chosen = preprocessing or Preprocessing()
    if source == "stacked_mnist":
        parts = stack_splits(load_splits("mnist", seed), seed)
        return Splits(*(_preprocessed(part, chosen) for part in parts))
    listed = list_source(source)
    if listed.pool is None:
        raise DataError(f"{source}: holds test images only: expected images to train on")
    pool = gather(listed.pool, chosen, strict)
    test = None if listed.test is None else gather(listed.test, chosen, strict)
    counts = split_counts(source, len(pool), test is not None)
    return make_splits(pool, test, *counts, seed=seed)


def _preprocessed(part: ImageSet, preprocessing: Preprocessing) -> ImageSet:
    return replace(part, images=check_images(part.images, part.name, None, preprocessing))


def split_counts(source: str, size: int, has_test: bool) -> tuple[int, int, int]:
    """Return how many images of a pool go to selection, calibration and test.

    Arguments:
        source: Where they come from: digits have counts of their own.
        size: The number of images in the pool.
        has_test: Whether there are test images besides.

    Raises:
        DataError: If there are too few.
    """
    if source == "digits":
        return 200, 200, 300
    if size < _FEWEST:
        held = "one image" if size == 1 else f"{size} images"
        raise DataError(f"{source}: holds {held}: expected a data set, of at least {_FEWEST}: give more images")
    return min(size // 12, 5_000), min(size // 6, 5_000), 0 if has_test else min(size // 6, 10_000)


def load_images(
    source: str,
    expected_shape: tuple[int, int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    strict: bool = False,
) -> ImageSet:
    """Load images to be scored, all of them and in their order.

    Arguments:
        source: A path as for `load_splits`, or one image file; of sources with both, the test images are taken, but
            all of a folder of images. A name stands for its test split.
        expected_shape: The shape (C, H, W) that each must have in the end, or None.
        preprocessing: How pictures are brought to one form; by default they must have one.
        strict: Whether a picture that can't be read ends it all; otherwise it is skipped.

    Returns:
        The images, and what was skipped; with paths, if each comes from a file or a row of its own.

    Raises:
        DataError: If there is no such source, or it is damaged or wrong in kind or shape.

    Example:
        >>> len(load_images("digits", expected_shape=(1, 8, 8)))
        300
    """
    chosen = preprocessing or Preprocessing()
    if source in DATA_SETS:
        test = list_source(source).test
        images = load_splits(source, preprocessing=chosen).test if test is None else gather(test, chosen)
        check_images(images.images, source, expected_shape)
        return images
    path = None if _is_hub_name(source) else _existing_path(source)
    if path is not None and path.is_dir() and not find_idx_files(path) and not _is_of_tables(path):
        pictures = list_files(list_image_files(path), path.name, str(path))
    else:
        pool, test = list_source(source)
        pictures = _either(test, pool)
    return gather(pictures, chosen, strict, expected_shape)


def list_source(source: str) -> PoolAndTest:
    """Find the pictures of a source, without reading them all.

    Arguments:
        source: As for `load_splits`.

    Returns:
        The pool, and the test pictures if it has any of its own.

    Raises:
        DataError: If there is no such source, or it is damaged or of no known kind.
    """
    if source == "digits":
        return PoolAndTest(_list_digits(), None)
    if source == "mnist":
        return read_idx_folder(_MNIST)
    if source == "stacked_mnist":
        return _list_stacked()
    if _is_hub_name(source):
        return list_hub(source.removeprefix(_HUB), source.startswith(_HUB))
    path = _existing_path(source)
    return _list_folder(path) if path.is_dir() else _list_file(path)


def _list_folder(folder: Path) -> PoolAndTest:
    if find_idx_files(folder):
        return read_idx_folder(folder)
    return list_parquet_files(folder) if _is_of_tables(folder) else list_image_folder(folder)


def _is_of_tables(folder: Path) -> bool:
    return not has_images(folder) and bool(find_parquet_files(folder))


def _list_file(path: Path) -> PoolAndTest:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return PoolAndTest(list_files([path], path.name, str(path)), None)
    if suffix == ".parquet":
        return PoolAndTest(list_parquet_file(path), None)
    if suffix in (".npz", ".npy", ".gz") or "idx" in path.name.lower():
        return read_array_file(path)
    raise DataError(
        f"{path}: is of no known kind: expected npz, npy, idx, parquet, a folder, or an image "
        f"({' '.join(IMAGE_SUFFIXES)})"
    )


def _either(first: PictureList | None, second: PictureList | None) -> PictureList:
    chosen = second if first is None else first
    assert chosen is not None, "a source holds images for one purpose at least"
    return chosen


def _is_hub_name(source: str) -> bool:
    if source.startswith(_HUB):
        return True
    owner = source.split("/", maxsplit=1)[0]
    return (
        bool(_HUB_NAME.fullmatch(source))
        and Path(source).suffix.lower() not in _FILE_SUFFIXES
        and not os.path.lexists(source)
        and not os.path.lexists(owner)
    )


def _existing_path(source: str) -> Path:
    path = Path(os.path.expanduser(source))
    if source and os.path.exists(path):
        if not os.access(path, os.R_OK):
            raise DataError(f"{source}: may not be read: expected a file or folder with permission to read")
        return path
    if os.sep in source or path.suffix:
        raise DataError(f"{source}: there is no such file or folder{_nearest_path(path)}: check the path")
    nearest = difflib.get_close_matches(source.lower(), DATA_SETS, n=1, cutoff=0.4)
    hint = f": did you mean {nearest[0]!r}?" if nearest else _nearest_path(path)
    raise DataError(
        f"unknown data set {source!r}: expected {', '.join(DATA_SETS)} or the path of a file or folder{hint}"
    )


def _nearest_path(path: Path) -> str:
    """Names what is most like the first part of a path that isn't there."""
    try:
        missing, folder = path, path.parent
        while not folder.exists() and folder != folder.parent:
            missing, folder = folder, folder.parent
        names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return ""
    nearest = difflib.get_close_matches(missing.name, sorted(names), n=1, cutoff=0.5)
    return f" (did you mean {folder / nearest[0]}?)" if nearest else ""


def _list_stacked() -> PoolAndTest:
    *parts, test = load_splits("stacked_mnist")
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    name = "stacked_mnist"
    return PoolAndTest(list_array(images, name, name, labels), list_array(test.images, test.name, name, test.labels))


def _list_digits() -> PictureList:
    rows = _read_digits()
    # 17 levels, 0..16, spread over the bytes.
    images = np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return list_array(images, "digits", "digits", rows[:, -1].astype(np.int64))


def _read_digits() -> NDArray[np.float64]:
    """Reads scikit-learn's digits, 64 pixels and the class a row: by its file if it lies where it used to, since the
    import of ``sklearn.datasets`` takes as long as that of torch."""
    found = find_spec("sklearn")
    if found and found.origin:
        path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.exists():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])
