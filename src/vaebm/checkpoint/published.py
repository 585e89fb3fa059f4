r"""Checkpoints in the layout of the published NVAE and VAEBM: their settings and tensors, by the names of this package.

The settings come from the ``args`` that lie beside the tensors, the sizes from the tensors themselves. What differs
there, and is turned here:

* batch norm and swish are one module, ``se``, ``skip`` and ``_ops`` name the parts of a cell;
* convolutions without weight normalisation appear twice, as ``weight`` and as its alias ``weight_normalized``, which
  wins;
* weight normalisation is W = exp(s) · v / (|v| + 1e-5); the energy network's becomes g · v / |v|.

The pickle is read with an allow-list: tensors, plain containers and ``argparse.Namespace``. Nothing in a file runs.

References:
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebm.checkpoint.errors import CheckpointError, one_line

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Published", "PublishedTensors", "read_content", "read_tensors"]

MOST_NAMED = 5


@dataclass(frozen=True)
class Published:
    """A network of a published checkpoint.

    Arguments:
        arguments: The arguments of the class that it becomes.
        tensors: Its tensors, by the names of that class.
        names: What each of them is called in the file.
        path: The file.
        settings: What else the file says of its training, plain values only.
    """

    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    names: dict[str, str]
    path: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def check_shapes(self, expected: Mapping[str, Sequence[int]]) -> None:
        """Checks that each tensor has the shape that the class expects.

        Arguments:
            expected: The shapes by the names of the class.

        Raises:
            CheckpointError: If one has another shape; the line names it as the file does.
        """
        wrong = [
            f"{self.names[name]} has shape {tuple(value.shape)}, expected {tuple(expected[name])}"
            for name, value in self.tensors.items()
            if name in expected and tuple(value.shape) != tuple(expected[name])
        ]
        if wrong:
            more = f" (and {len(wrong) - 1} more tensors)" if len(wrong) > 1 else ""
            raise CheckpointError(f"{self.path}: {wrong[0]} by its settings{more}")


class PublishedTensors:
    """The tensors of a file by their names there; notes which were taken, and which were missing."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        self.path, self.tensors = path, tensors
        self.taken: set[str] = set()
        self.missing: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def take(self, name: str) -> Tensor | None:
        """Returns a tensor, or None, and notes that it is missing."""
        self.taken.add(name)
        if name not in self.tensors:
            self.missing.append(name)
            return None
        # A copy: parameters of equal shape are views of one storage.
        return self.tensors[name].detach().clone()

    def check_all_used(self) -> None:
        """Checks that the tensors are exactly those that were taken.

        Raises:
            CheckpointError: If some are missing, or some are too many.
        """
        extra = [name for name in self.tensors if name not in self.taken]
        problems = [f"lacks {_named(self.missing)}"] * bool(self.missing)
        problems += [f"has {_named(extra)} too many"] * bool(extra)
        if problems:
            raise CheckpointError(
                f"{self.path} {', and '.join(problems)}: expected the published layout of its settings"
            )

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor that has to be there, to tell sizes by."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.path} has no tensor {name}: expected a checkpoint in the published layout")
        return tuple(self.tensors[name].shape)


def read_content(path: Path) -> dict[str, Any]:
    """Reads a pickle of tensors, plain values and an ``argparse.Namespace``, and of nothing else.

    Raises:
        CheckpointError: If there is no such file, or it holds anything else.
    """
    import torch

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path} is damaged ({damaged} isn't what was written): get it anew")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {path}") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} can't be used ({_reason(error)}): expected a file of torch.save with tensors, plain values and an "
            "argparse.Namespace, and nothing else"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}: expected a checkpoint in the published layout")
    return content


def read_tensors(path: Path, content: Mapping[str, Any], key: str) -> PublishedTensors:
    """Returns the tensors that stand under a key of a file's content.

    Raises:
        CheckpointError: If there are none, or something else is among them, or one holds values that aren't finite.
    """
    import torch

    found = content.get(key)
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path} has no {key!r}: expected a checkpoint in the published layout")
    wrong = [name for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if wrong:
        raise CheckpointError(f"{path}: {key}[{wrong[0]!r}] is no tensor: expected tensors by name")
    bad = [name for name, value in found.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        raise CheckpointError(f"{path}: {bad[0]} holds values that aren't finite: the training of this model diverged")
    return PublishedTensors(path, {name.removeprefix("module."): value for name, value in found.items()})


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def _reason(error: Exception) -> str:
    """Returns why a file can't be used; torch's own words end with the advice to execute it."""
    if isinstance(error, EOFError):
        return "it is empty, or cut off"
    if "PytorchStreamReader" in str(error):
        return "it is cut off, or damaged"
    if not isinstance(error, pickle.UnpicklingError):
        return one_line(error)[:200]
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"it holds {named[1]}, which isn't executed" if named else "it is damaged, or a file of something else"
