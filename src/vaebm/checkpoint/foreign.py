"""Tensors of other programs' files, read without executing anything in them.

Whatever is wrong with a file ends in one line: torch's reader meets a text or a damaged file with errors of any kind.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebm.checkpoint.errors import CheckpointError, one_line

if TYPE_CHECKING:
    from torch import Tensor


def read_torch_file(path: str | Path) -> dict[str, Tensor]:
    """Reads the tensors of a file that ``torch.save`` wrote; only tensors and plain containers are taken.

    Arguments:
        path: The file.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        CheckpointError: If the file is missing or damaged, or holds anything but named tensors.
    """
    import torch

    content = read_pickle(path, "tensors saved by torch")
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise CheckpointError(f"{path} holds no tensors by name: expected a state_dict saved by torch")
    return content


def read_pickle(path: str | Path, expected: str, allowed: Sequence[type] = ()) -> Any:
    """Reads what ``torch.save`` wrote, of tensors, plain containers and some classes, and of nothing else.

    Arguments:
        path: The file.
        expected: What the file should hold, for the line of an error.
        allowed: The classes that may be in it besides.

    Returns:
        The content, tensors on the CPU.

    Raises:
        CheckpointError: If the file is missing, damaged, of another kind, or holds anything else.
    """
    import torch

    try:
        if not Path(path).is_file():
            raise CheckpointError(f"there is no file {path}")
        _check_archive(Path(path))
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    # Of a file of something else, bytes are taken for instructions of a pickle: each kind of error comes up.
    except Exception as error:
        raise CheckpointError(f"cannot read {path} ({_reason(error)}): expected {expected}") from error


def _check_archive(path: Path) -> None:
    """Checks the sums in a zip archive, which torch passes over, before it is read."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        # A small file that unpacks to a large one fills the memory.
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise CheckpointError(f"{path} is compressed: expected a file as torch.save writes it, which isn't")
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged ({damaged!r:.100} isn't what was written): get it anew")


def _reason(error: Exception) -> str:
    """Returns why a file can't be used; torch's own words end with the advice to execute it."""
    if isinstance(error, EOFError):
        return "it is empty, or cut off"
    if isinstance(error, OSError) and error.strerror:
        return one_line(error)
    if "encrypted" in str(error):
        return "it is encrypted"
    if "PytorchStreamReader" in str(error):
        return "it is cut off, or damaged"
    named = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    return f"it holds {named[1]:.100}, which isn't executed" if named else "it is damaged, or a file of something else"
