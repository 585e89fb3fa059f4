"""Images in files: one file, or a folder of them.

The simple case: png, jpg, webp, bmp and tif files with 8 bits, grey or RGB, all of one size and one kind, in the order
of their paths. Sub-folders name the classes; sub-folders `train` and `test` name the splits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vaebm.data.arrays import PoolAndTest
from vaebm.data.errors import DataError
from vaebm.data.images import ImageSet

__all__ = ["IMAGE_SUFFIXES", "list_image_files", "read_image_files", "read_image_folder"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


def read_image_folder(folder: Path) -> PoolAndTest:
    """Read the images of a folder, to be split.

    Arguments:
        folder: Images in it or in its sub-folders; hidden files, and files that are no images by their suffix, are
            left out.

    Returns:
        The pool; and the test set if the sub-folders are `train` and `test`.

    Raises:
        DataError: If there is no image, a file is damaged or of another kind, or sizes differ.
    """
    parts = {path.name: path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    if set(parts) != {"train", "test"} or any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir()):
        files = list_image_files(folder)
        return PoolAndTest(read_image_files(files, folder.name, _labels(files, folder, _classes(files, folder))), None)
    train, test = list_image_files(parts["train"]), list_image_files(parts["test"])
    classes = sorted({*_classes(train, parts["train"]), *_classes(test, parts["test"])})
    return PoolAndTest(
        read_image_files(train, folder.name, _labels(train, parts["train"], classes)),
        read_image_files(test, f"{folder.name} test", _labels(test, parts["test"], classes)),
    )


def list_image_files(folder: Path) -> list[Path]:
    """List the image files of a folder and its sub-folders.

    Arguments:
        folder: Hidden files, and files that are no images by their suffix, are left out.

    Returns:
        The files, in the order of their paths.

    Raises:
        DataError: If there is none.
    """
    visible = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    images = [path for path in visible if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        found = "is empty" if not visible else f"holds {len(visible)} files and no image among them"
        raise DataError(f"{folder}: {found}: expected files that end in {' '.join(IMAGE_SUFFIXES)}")
    return sorted(images, key=lambda path: path.relative_to(folder).as_posix())


def read_image_files(files: Sequence[Path], name: str, labels: NDArray[np.int64] | None = None) -> ImageSet:
    """Read image files of one size and one kind.

    Arguments:
        files: N files.
        name: What the images are.
        labels: Class labels, (N,), or None.

    Returns:
        The images with their paths, in the order given.

    Raises:
        DataError: If a file is missing, damaged or of another kind, or sizes or channels differ.
    """
    images: list[NDArray[np.uint8]] = []
    for file in files:
        image = _read_image(file)
        if images and image.shape != images[0].shape:
            raise DataError(
                f"{file}: is {_describe(image)}, but {files[0]} is {_describe(images[0])}: "
                "expected images of one size and one kind"
            )
        images.append(image)
    if not images:
        raise DataError(f"{name}: no image files were given: expected at least one")
    return ImageSet(np.stack(images), labels, name, tuple(map(str, files)))


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


def _read_image(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _check_kind(image, path)
            pixels = np.asarray(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file: expected an image") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: is not an image, whatever its name: expected png, jpg, webp, bmp or tif") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: is too large ({error}): expected small images") from None
    # A damaged file makes decoders fail in more ways than can be listed.
    except Exception as error:
        raise DataError(f"{path}: cannot be read ({error}): the file is damaged, replace it or take it out") from None
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _check_kind(image: Any, path: Path) -> None:
    if getattr(image, "n_frames", 1) != 1:
        raise DataError(f"{path}: holds {image.n_frames} frames or pages: expected one image in a file")
    # Pillow cuts 16-bit colours to 8 bits and says so only in the name of its decoder.
    num_bits = "16-bit " if ";16" in f"{image.mode}{getattr(image, 'tile', '')}" else ""
    if num_bits or image.mode not in ("L", "RGB"):
        raise DataError(f"{path}: is of {num_bits}mode {image.mode}: expected 8-bit grey (L) or RGB: convert it")


def _describe(image: NDArray[np.uint8]) -> str:
    channels, height, width = image.shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
