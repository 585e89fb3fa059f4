"""Tensors of other programs' files, read without executing anything in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

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

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"cannot read {path}: {one_line(error)}; expected tensors saved by torch") from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds no tensors by name: expected a state_dict saved by torch")
    return content
