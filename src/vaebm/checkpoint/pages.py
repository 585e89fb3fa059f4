"""Pages of mapped files: written to the disk by the system anyway, so that a process needn't hold them."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

MAPS = Path("/proc/self/maps")


def let_go(data: memoryview) -> bool:
    """Takes the pages of a shared mapping of a file out of this process's memory; they are read again when needed.

    Only whole pages go. Other memory is left as it is: there, letting go would lose what it holds.

    Arguments:
        data: Bytes that lie within such a mapping, or elsewhere.

    Returns:
        Whether it was done: on Linux, within one shared mapping of a file.
    """
    import numpy as np

    if not len(data) or not MAPS.exists():
        return False
    first = np.frombuffer(data, np.uint8).ctypes.data
    end = first + len(data)
    if not _is_shared_file(first, end):
        return False
    first, end = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    advise = ctypes.CDLL(None, use_errno=True).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return end > first and advise(first, end - first, mmap.MADV_DONTNEED) == 0


def _is_shared_file(first: int, end: int) -> bool:
    for line in MAPS.read_text().splitlines():
        # from-to permissions offset device inode path
        bounds, permissions, *_, inode = line.split(maxsplit=5)[:5]
        start, stop = (int(bound, 16) for bound in bounds.split("-"))
        if start <= first and end <= stop:
            return permissions[3] == "s" and inode != "0"
    return False
