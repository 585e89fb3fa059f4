"""Rows of numbers in a file of their own, read and written one by one: none of them stays in memory.

It is scratch space of one process, not a record: what outlives the process goes into a checkpoint.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class RowFile:
    """Rows (N, width) in a file; the space is taken when it is made.

    Arguments:
        path: The file; made, or emptied if it is there.
        count: The number of rows N.
        width: Their width.
        dtype: Their type, float32 or float16.

    Raises:
        OSError: If the file can't be made, or there is no space for it.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rows = RowFile(f"{folder}/rows.bin", 4, 2, torch.float16)
        ...     rows.write(torch.tensor([3]), torch.ones(1, 2))
        ...     rows.read(torch.tensor([0, 3])).tolist()
        ...     rows.close()
        [[0.0, 0.0], [1.0, 1.0]]
    """

    def __init__(self, path: str | Path, count: int, width: int, dtype: torch.dtype) -> None:
        self.shape, self.dtype, self._path = (count, width), dtype, Path(path)
        self._size = width * dtype.itemsize
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115  # open until ``close``
        try:
            _reserve(self._file.fileno(), count * self._size)
        except OSError:
            self.close()
            raise

    def read(self, places: Tensor) -> Tensor:
        """Returns copies of the rows (n, width) at places (n,)."""
        import torch

        rows = torch.empty(len(places), self.shape[1], dtype=self.dtype)
        for row, place in zip(rows, places.tolist(), strict=True):
            row.copy_(torch.frombuffer(bytearray(self._at(place)), dtype=self.dtype))
        return rows

    def _at(self, place: int) -> bytes:
        content = os.pread(self._file.fileno(), self._size, place * self._size)
        if len(content) != self._size:
            raise OSError(errno.EIO, f"{self._path} was cut off while it was in use")
        return content

    def write(self, places: Tensor, rows: Tensor) -> None:
        """Puts rows (n, width) to places (n,)."""
        for row, place in zip(rows.to(self.dtype), places.tolist(), strict=True):
            written = os.pwrite(self._file.fileno(), row.numpy().tobytes(), place * self._size)
            if written != self._size:
                raise OSError(errno.EIO, f"{self._path} took {written} of {self._size} bytes")

    def first(self, count: int) -> Tensor:
        """Returns the first rows (count, width), mapped, not copied: they change with the next writing."""
        import torch

        if not count:
            return torch.zeros(0, self.shape[1], dtype=self.dtype)
        size = count * self.shape[1]
        return torch.from_file(str(self._path), shared=True, size=size, dtype=self.dtype).view(count, -1)

    def close(self) -> None:
        """Closes the file and removes it."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)
