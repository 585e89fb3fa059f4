"""Fingerprints: is this file, or this set of tensors, byte for byte the one that was meant?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vaebm.checkpoint.errors import CheckpointError, one_line
from vaebm.checkpoint.json_text import to_text

if TYPE_CHECKING:
    from torch import Tensor


def file_sha256(path: str | Path) -> str:
    """Computes the SHA-256 of a file, without loading it whole.

    Arguments:
        path: the file.

    Returns:
        64 hexadecimal digits.

    Raises:
        CheckpointError: the file is missing or unreadable.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {one_line(error)}; check the path") from error


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Computes one SHA-256 over named tensors: equal if and only if names, types, shapes and all bits are equal.

    Arguments:
        tensors: named dense tensors of any shape, type and device; their order does not matter.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> import torch
        >>> weights = {"a": torch.ones(2), "b": torch.zeros(3)}
        >>> tensors_sha256(weights) == tensors_sha256({"b": torch.zeros(3), "a": torch.ones(2)})
        True
        >>> tensors_sha256(weights) == tensors_sha256({"a": torch.ones(2, 1), "b": torch.zeros(3)})
        False
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(to_text([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
