"""Folders of image files.

Files are taken in the order of their paths; hidden ones, and those that are no images by their suffix, are left out.
Sub-folders name the classes; sub-folders `train` and `test`, and no image beside them, name the splits. Folders of
runs, which hold pictures that a model has drawn, are left out below the folder that is asked for.
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaebm.data.errors import DataError
from vaebm.data.gathering import Entry, PictureList, PoolAndTest
from vaebm.data.pictures import IMAGE_SUFFIXES

__all__ = ["has_images", "list_files", "list_image_files", "list_image_folder"]

_PARTS = ("train", "test")
_RUN_FILES = ("config.yaml", "provenance.json")


def list_image_folder(folder: Path) -> PoolAndTest:
    """List the pictures of a folder, to be split.

    Arguments:
        folder: Images in it or in its sub-folders.

    Returns:
        The pool; and the test pictures if the sub-folders are `train` and `test`.

    Raises:
        DataError: If there is no image.
    """
    parts = {path.name: path for path in folder.iterdir() if _is_part(path)}
    beside = [path for path in folder.iterdir() if _is_image(path) and not path.name.startswith(".")]
    if set(parts) != set(_PARTS) or beside:
        files = list_image_files(folder)
        return PoolAndTest(_listed(files, folder.name, folder, _classes(files, folder)), None)
    train, test = list_image_files(parts["train"]), list_image_files(parts["test"])
    classes = sorted({*_classes(train, parts["train"]), *_classes(test, parts["test"])})
    return PoolAndTest(
        _listed(train, folder.name, parts["train"], classes),
        _listed(test, f"{folder.name} test", parts["test"], classes),
    )


def list_image_files(folder: Path) -> list[Path]:
    """List the image files of a folder and its sub-folders.

    Arguments:
        folder: Hidden files, files that are no images by their suffix, and folders of runs in it are left out.

    Returns:
        The files, in the order of their paths.

    Raises:
        DataError: If there is none.
    """
    visible = list(_visible_files(folder, set()))
    images = [path for path in visible if _is_image(path)]
    if not images:
        found = "is empty" if not visible else f"holds {len(visible)} files and no image among them"
        raise DataError(f"{folder}: {found}: expected files that end in {' '.join(IMAGE_SUFFIXES)}")
    return sorted(images, key=lambda path: path.relative_to(folder).as_posix())


def has_images(folder: Path) -> bool:
    """Return whether there is an image file in a folder or its sub-folders."""
    return any(map(_is_image, _visible_files(folder, set())))


def _visible_files(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Goes through a folder and its sub-folders, linked ones too, each once."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except PermissionError:
        raise DataError(f"{folder}: may not be read: expected a folder with permission to read") from None
    for path in paths:
        if path.is_dir():
            if not _is_run(path):
                yield from _visible_files(path, seen)
        elif path.is_file() or path.is_symlink():
            # A link that leads nowhere is a picture that can't be read, not none.
            yield path


def _is_part(path: Path) -> bool:
    """Whether a folder names a split or a class: a `train` or `test` without images is a mistake to be told."""
    if not path.is_dir() or path.name.startswith(".") or _is_run(path):
        return False
    return path.name in _PARTS or has_images(path)


def _is_run(path: Path) -> bool:
    return all(os.path.isfile(path / name) for name in _RUN_FILES)


def list_files(files: Sequence[Path], name: str, place: str) -> PictureList:
    """List single files, without labels.

    Arguments:
        files: N files.
        name: What they are.
        place: Where they are, for messages.
    """
    return PictureList(name, place, partial(_entries, list(files)))


def _listed(files: list[Path], name: str, folder: Path, classes: list[str]) -> PictureList:
    labels = _labels(files, folder, classes)
    names = () if labels is None else tuple(classes)
    return PictureList(name, str(folder), partial(_entries, files), labels, names)


def _entries(files: list[Path]) -> Iterator[Entry]:
    return (Entry(str(file), file) for file in files)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _classes(files: list[Path], folder: Path) -> list[str]:
    return sorted({_class_of(file, folder) for file in files} - {""})


def _class_of(file: Path, folder: Path) -> str:
    parts = file.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""


def _labels(files: list[Path], folder: Path, classes: list[str]) -> NDArray[np.int64] | None:
    names = [_class_of(file, folder) for file in files]
    if "" in names:
        return None
    return np.array([classes.index(name) for name in names], dtype=np.int64)
