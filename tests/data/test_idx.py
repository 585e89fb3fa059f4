import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from vaebm.data import DataError, read_idx

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx_bytes(array: np.ndarray, entry_type: int = 0x08) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, entry_type, array.ndim, *array.shape)
    return header + array.astype(TYPES[entry_type]).tobytes()


@pytest.mark.parametrize("entry_type", TYPES)
@pytest.mark.parametrize("is_compressed", [False, True])
def test_every_type_is_read(tmp_path: Path, entry_type: int, is_compressed: bool) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    content = idx_bytes(array, entry_type)
    path = tmp_path / "entries"
    path.write_bytes(gzip.compress(content) if is_compressed else content)
    read = read_idx(path)
    assert read.dtype == np.dtype(TYPES[entry_type]).newbyteorder("=")
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)
    read += 1  # the array is the caller's own, not a view of read-only bytes


WHOLE = idx_bytes(np.arange(12).reshape(3, 2, 2))
BAD = {
    "empty": (b"", "is not an idx file"),
    "text": (b"label,image\n", "is not an idx file.*6c 61 62 65"),
    "no axes": (b"\0\0\x08\0", "is not an idx file"),
    "unknown type": (b"\0\0\x0a\x01" + WHOLE[4:], "is not an idx file"),
    "half a header": (WHOLE[:9], "ends within its header"),
    "cut short": (WHOLE[:-1], r"cut short: its header promises \(3, 2, 2\)"),
    "too long": (WHOLE + b"\0", "goes on behind"),
    "cut gzip": (gzip.compress(WHOLE)[:-12], "cannot be read"),
    "wrong checksum": (gzip.compress(WHOLE)[:-6] + b"abcdef", "cannot be read"),
    "huge claim": (b"\0\0\x08\x03" + b"\xff" * 12, "cut short"),
    "huge claim in gzip": (gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12), "cut short"),
}


@pytest.mark.parametrize("name", BAD)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    path = tmp_path / "bad-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_idx(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)
