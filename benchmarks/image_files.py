"""The npz files that benchmarks read, from the files in which the data sets were published.

    python benchmarks/image_files.py mnist FOLDER data          # the four idx files, gzip or not
    python benchmarks/image_files.py fashion FOLDER data        # those of Fashion-MNIST
    python benchmarks/image_files.py cifar10 FOLDER data        # CIFAR-10's "binary version", unpacked

writes ``data/NAME.npz`` with ``train_x``, ``train_y``, ``test_x`` and ``test_y``, uint8, in the published order. A
split is an order of the images, so that models know theirs by a hash; what comes out here is compared with the hash of
the arrays behind the committed results.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from endings import ended
from vaebm.data import DataError, read_idx

PARTS = ("train_x", "train_y", "test_x", "test_y")
IDX = {"train_x": "train-images-idx3-ubyte", "train_y": "train-labels-idx1-ubyte",
       "test_x": "t10k-images-idx3-ubyte", "test_y": "t10k-labels-idx1-ubyte"}  # fmt: skip
CIFAR = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
RECORD, SIDE = 1 + 3 * 32 * 32, 32
SHA256 = {
    "mnist": "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
    "fashion": "ca3ab2a37f845e1b8ae23cab1b51749a3011ba3bf1d9016176d75cbaabac376f",
    "cifar10": "80387ddb9a0edf3fc4a964ee3770296169bb26a651050df20035579673099660",
}
Arrays: TypeAlias = Mapping[str, NDArray[Any]]


def of_idx(folder: Path) -> Arrays:
    """Reads the four idx files of a folder.

    Raises:
        DataError: If one is missing or damaged.
    """
    plain = {part: folder / name for part, name in IDX.items()}
    return {part: read_idx(path if path.exists() else path.with_name(f"{path.name}.gz"))
            for part, path in plain.items()}  # fmt: skip


def of_cifar(folder: Path) -> Arrays:
    """Reads the batches of CIFAR-10's binary version: records of a label and the planes red, green and blue.

    Raises:
        DataError: If one is missing or damaged.
    """
    found: dict[str, NDArray[Any]] = {}
    for split, names in CIFAR.items():
        parts = []
        for name in names:
            path = folder / name
            if not path.is_file():
                raise DataError(f"{path}: there is no such file: expected the batches of CIFAR-10's binary version")
            if not path.stat().st_size or path.stat().st_size % RECORD:
                raise DataError(f"{path}: has {path.stat().st_size:,} bytes: expected records of {RECORD:,}")
            parts.append(np.fromfile(path, dtype=np.uint8).reshape(-1, RECORD))
        records = np.concatenate(parts)
        found[f"{split}_y"] = records[:, 0]
        found[f"{split}_x"] = records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return found


def digest_of(arrays: Arrays) -> str:
    """Returns the SHA-256 of the bytes of all arrays."""
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(arrays[part].astype(np.uint8).tobytes())
    return digest.hexdigest()


def write(name: str, arrays: Arrays, folder: Path) -> str:
    """Writes the arrays into a folder, and says whether they are those of the committed results."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{name}.npz", **{part: arrays[part] for part in PARTS}, allow_pickle=False)
    told = (
        "as in the committed results"
        if digest_of(arrays) == SHA256[name]
        else "NOT those of the committed results: figures will differ"
    )
    return f"{folder / name}.npz: {len(arrays['train_x']):,} and {len(arrays['test_x']):,} images, {told}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=tuple(SHA256))
    parser.add_argument("source", type=Path, help="the folder with the published files")
    parser.add_argument("output", type=Path, help="the folder for NAME.npz")
    options = parser.parse_args(arguments)
    read = of_cifar if options.name == "cifar10" else of_idx
    print(write(options.name, read(options.source), options.output))


if __name__ == "__main__":
    sys.exit(ended(main))
