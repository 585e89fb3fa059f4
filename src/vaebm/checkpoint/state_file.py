"""One training state in one file: nested plain values and tensors, sealed with a SHA-256.

The file is what `torch.save` writes, followed by one line with the SHA-256 of it, because `torch.load` alone does not
notice a changed byte. It is read with `weights_only=True`, so that no code in it can run.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from vaebm.checkpoint.atomic import replace_file
from vaebm.checkpoint.errors import CheckpointError, one_line
from vaebm.checkpoint.pages import let_go

if TYPE_CHECKING:
    from torch import Tensor

SEAL = b"\nvaebm checkpoint sha256 "
SEAL_LENGTH = len(SEAL) + 64 + 1
CHUNK, PART, LARGE = 2**20, 2**26, 2**29


def save_state(path: str | Path, state: Mapping[str, Any], before: Callable[[], object] = lambda: None) -> None:
    """Writes a state, whole or not at all.

    Arguments:
        path: where the file shall be.
        state: nested dicts, lists and tuples of tensors, numbers, strings, booleans and None.
        before: what is done when the new content is on the disk, before it takes the place of the old one.

    Raises:
        CheckpointError: the file cannot be written; the old one is intact.
        TypeError: the state holds something that could not be read back; the message says where.
    """
    import torch

    storable = _storable(state, "state")

    def write(file: BinaryIO) -> None:
        hashing = _Hashing(file)
        has_sums = torch.serialization.get_crc32_options()
        # torch's own sum of a tensor reads all of it before a part is written, and the seal does the same.
        torch.serialization.set_crc32_options(has_sums and not _has_large(storable))
        try:
            torch.save(storable, cast(BinaryIO, hashing))
        except Exception as error:
            # torch goes on to close its archive, and tells of that.
            raise hashing.error or error from None
        finally:
            torch.serialization.set_crc32_options(has_sums)
        file.write(_seal(hashing.digest))

    replace_file(path, write, before)


class _Hashing:
    """Passes on what is written to a file, and takes its hash on the way: a state needn't be in memory twice."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash = file, hashlib.sha256()
        self.error: OSError | None = None

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> int:
        whole = memoryview(data).cast("B")
        try:
            for start in range(0, len(whole), PART):
                part = whole[start : start + PART]
                self._hash.update(part)
                self._file.write(part)
                if len(whole) > LARGE:
                    # Rows of a mapped file, which would stay in memory until the whole state is written.
                    let_go(part)
        except OSError as error:
            self.error = error
            raise
        return len(whole)

    def flush(self) -> None:
        self._file.flush()


def load_state(path: str | Path) -> dict[str, Any]:
    """Reads a state after checking every byte of it; no code in it can run.

    Arguments:
        path: a file that `save_state` wrote.

    Returns:
        The state, its tensors on the CPU. Those of more than 512 MiB stay in the file, and are read where they are
        used; they hold its space, even if it is replaced, until they are dropped.

    Raises:
        CheckpointError: the file is missing, damaged, truncated or altered, or holds more than plain values.
    """
    import torch

    _check_seal(Path(path))
    try:
        # Mapped, large tensors become resident only where they are read; elsewhere a mapped file can't be replaced.
        is_mapped = sys.platform == "linux"
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
    except Exception as error:  # torch raises many kinds here, and all mean that the content is not plain values
        raise CheckpointError(f"{path} is not a checkpoint of vaebm ({type(error).__name__}); remove it") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a checkpoint of vaebm (it holds a {type(state).__name__}); remove it")
    return cast(dict[str, Any], _without_file(state)) if is_mapped else state


def _without_file(value: Any) -> Any:
    """Returns a state whose tensors, but for large ones, are copies in memory."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.clone() if value.nbytes <= LARGE else value
    if isinstance(value, Mapping):
        return {name: _without_file(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_file(item) for item in value)
    return value


def _seal(digest: str) -> bytes:
    return SEAL + digest.encode() + b"\n"


def _check_seal(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            left = max(0, os.fstat(file.fileno()).st_size - SEAL_LENGTH)
            found = hashlib.sha256()
            while chunk := file.read(min(left, CHUNK)):
                found.update(chunk)
                left -= len(chunk)
            seal = file.read()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {one_line(error)}; check the path") from error
    if seal != _seal(found.hexdigest()):
        raise CheckpointError(f"{path} is damaged, truncated or altered; restore it from a copy, or start anew")


def _storable(value: Any, where: str) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return _compact(value.detach())
    if value is None or isinstance(value, bool):
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, Mapping):
        return {_storable(key, f"key of {where}"): _storable(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_storable(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    raise TypeError(f"{where} is a {type(value).__name__}; checkpoints hold tensors, numbers, strings, lists and dicts")


def _has_large(value: Any) -> bool:
    import torch

    if isinstance(value, torch.Tensor):
        return value.nbytes > LARGE
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return any(_has_large(item) for item in items)


def _compact(tensor: Tensor) -> Tensor:
    # torch.save writes the whole storage behind a view.
    is_view = tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()
    return tensor.clone() if is_view else tensor
