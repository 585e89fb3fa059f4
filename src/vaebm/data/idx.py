"""The idx format: the one of the four MNIST files.

A file is a header, two zero bytes, one byte for the type of the entries, one for the number d of axes, d sizes as
32-bit big-endian integers, and then the entries in C order, big-endian. Files may be compressed with gzip.

Reference: LeCun, Cortes, Burges: The MNIST database of handwritten digits, http://yann.lecun.com/exdb/mnist.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vaebm.data.errors import DataError

__all__ = ["read_idx"]

_ENTRY_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# gzip cannot shrink data further, so that a larger claim in a header is refused before memory is taken for it.
_LARGEST_GZIP_RATIO = 1032


def read_idx(path: str | Path) -> NDArray[Any]:
    """Read an array from an idx file, compressed with gzip or not.

    Arguments:
        path: The file; compression is told by its content, not by its name.

    Returns:
        The array, in the type and the shape of its header, in native byte order.

    Raises:
        DataError: If the file is missing, is no idx file, is cut short, or goes on behind its end.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            is_compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            most = path.stat().st_size * (_LARGEST_GZIP_RATIO if is_compressed else 1)
            if is_compressed:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    return _read_array(unpacked, path, most)
            return _read_array(raw, path, most)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file: expected an idx file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}): expected a whole idx file, plain or gzip") from None


def _read_array(file: BinaryIO | gzip.GzipFile, path: Path, most: int) -> NDArray[Any]:
    header = file.read(4)
    if len(header) < 4 or header[:2] != b"\0\0" or header[2] not in _ENTRY_TYPES or header[3] == 0:
        raise DataError(
            f"{path}: is not an idx file: expected it to begin with 00 00 TYPE AXES, found {header.hex(' ')!r}"
        )
    sizes = file.read(4 * header[3])
    if len(sizes) < 4 * header[3]:
        raise DataError(f"{path}: ends within its header: the file is damaged, get it again")
    shape = struct.unpack(f">{header[3]}I", sizes)
    dtype = np.dtype(_ENTRY_TYPES[header[2]])
    num_bytes = math.prod(shape) * dtype.itemsize
    entries = file.read(num_bytes) if num_bytes <= most else b""
    if len(entries) < num_bytes:
        raise DataError(f"{path}: is cut short: its header promises {shape}: the file is damaged, get it again")
    if file.read(1):
        raise DataError(f"{path}: goes on behind the {shape} entries of its header: the file is damaged, get it again")
    return np.frombuffer(entries, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))
