r"""Checkpoints in the layout of the published NVAE and VAEBM: their settings and tensors, by the names of this package.

The settings come from the ``args`` that lie beside the tensors, the sizes from the tensors themselves. What differs
there, and is turned here:

* batch norm and swish are one module, ``se``, ``skip`` and ``_ops`` name the parts of a cell;
* convolutions without weight normalisation appear twice, as ``weight`` and as its alias ``weight_normalized``, which
  wins;
* weight normalisation is W = exp(s) · v / (|v| + 1e-5); the energy network's becomes g · v / |v|.

The pickle is read with an allow-list: tensors, plain containers and ``argparse.Namespace``. Nothing in a file runs.
Tensors stay views of what the file holds, and their values aren't looked at, until their shapes are known to fit.

References:
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebm.checkpoint.errors import CheckpointError
from vaebm.checkpoint.foreign import read_pickle

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ALIAS", "Published", "PublishedTensors", "read_content", "read_tensors", "shown"]

MOST_NAMED, LONGEST_SHOWN = 5, 100
ALIAS, COUNTER = ".weight_normalized", ".num_batches_tracked"


@dataclass(frozen=True)
class Published:
    """A network of a published checkpoint.

    Arguments:
        arguments: The arguments of the class that it becomes.
        tensors: Its tensors, by the names of that class.
        names: What each of them is called in the file.
        path: The file.
        settings: What else the file says of its training, plain values only.
        spares: Second copies of some of them that aren't used, by the names of that class: what each is called in the
            file, and the tensor.
    """

    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    names: dict[str, str]
    path: Path
    settings: dict[str, Any] = field(default_factory=dict)
    spares: dict[str, tuple[str, Tensor]] = field(default_factory=dict)

    def _named(self) -> list[tuple[str, str, Tensor]]:
        used = [(name, self.names[name], value) for name, value in self.tensors.items()]
        return used + [(name, *spare) for name, spare in self.spares.items()]

    def check_shapes(self, expected: Mapping[str, Sequence[int]]) -> None:
        """Checks that each tensor has the shape that the class expects.

        Arguments:
            expected: The shapes by the names of the class.

        Raises:
            CheckpointError: If one has another shape; the line names it as the file does.
        """
        wrong = [
            f"{name} has shape {tuple(value.shape)}, expected {tuple(expected[own])}"
            for own, name, value in self._named()
            if own in expected and tuple(value.shape) != tuple(expected[own])
        ]
        if wrong:
            more = f" (and {len(wrong) - 1} more tensors)" if len(wrong) > 1 else ""
            raise CheckpointError(f"{self.path}: {wrong[0]} by its settings{more}")

    def check_values(self) -> None:
        """Checks that all numbers are finite; for after the shapes.

        Raises:
            CheckpointError: If some aren't; the line names the tensor as the file does.
        """
        for _, name, value in self._named():
            if not bool(value.isfinite().all()):
                raise CheckpointError(
                    f"{self.path}: {name} holds values that aren't finite: the training of this model diverged"
                )


class PublishedTensors:
    """The tensors of a file by their names there; notes which were taken, and which were missing."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        self.path, self.tensors = path, tensors
        self.taken: set[str] = set()
        self.missing: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def take(self, name: str, shape: Sequence[int] | None = None) -> Tensor | None:
        """Returns a tensor, or None, and notes that it is missing.

        Arguments:
            name: Which one.
            shape: The shape that it must have, where that is known already.

        Raises:
            CheckpointError: If it has another shape.
        """
        self.taken.add(name)
        if name not in self.tensors:
            self.missing.append(name)
            return None
        if shape is not None:
            self.check_shape(name, shape)
        return self.tensors[name]

    def check_shape(self, name: str, expected: Sequence[int]) -> None:
        """Checks the shape of a tensor that has to be there.

        Raises:
            CheckpointError: If it has another one.
        """
        found = tuple(self.tensors[name].shape)
        if found != tuple(expected):
            raise CheckpointError(f"{self.path}: {name} has shape {found}, expected {tuple(expected)}")

    def check_all_used(self) -> None:
        """Checks that the tensors are exactly those that were taken.

        Raises:
            CheckpointError: If some are missing, or some are too many.
        """
        extra = [name for name in self.tensors if name not in self.taken]
        problems = [f"lacks {_list(self.missing)}"] * bool(self.missing)
        problems += [f"has {_list(extra)} too many"] * bool(extra)
        if problems:
            raise CheckpointError(
                f"{self.path} {', and '.join(problems)}: expected the published layout of its settings"
            )

    def shape(self, name: str, dimensions: str) -> tuple[int, ...]:
        """Returns the shape of a tensor that has to be there, to tell sizes by.

        Arguments:
            name: Which one.
            dimensions: What its dimensions are, with commas between them.

        Raises:
            CheckpointError: If there is no such tensor, or it has more or fewer dimensions.
        """
        if name not in self.tensors:
            raise CheckpointError(f"{self.path} has no tensor {name}: expected a checkpoint in the published layout")
        found = tuple(self.tensors[name].shape)
        if len(found) != len(dimensions.split(",")):
            raise CheckpointError(f"{self.path}: {name} has shape {found}, expected ({dimensions})")
        return found


def read_content(path: Path) -> dict[str, Any]:
    """Reads a pickle of tensors, plain values and an ``argparse.Namespace``, and of nothing else.

    Raises:
        CheckpointError: If there is no such file, or it holds anything else.
    """
    expected = "a file of torch.save with tensors, plain values and an argparse.Namespace, and nothing else"
    content = read_pickle(path, expected, [argparse.Namespace])
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}: expected a checkpoint in the published layout")
    return content


def read_tensors(path: Path, content: Mapping[str, Any], key: str) -> PublishedTensors:
    """Returns the tensors that stand under a key of a file's content.

    Raises:
        CheckpointError: If there are none, or something else is among them, or two have one name.
    """
    import torch

    found = content.get(key)
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path} has no {key!r}: expected a checkpoint in the published layout")
    tensors: dict[str, Tensor] = {}
    for name, value in found.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{path}: {key} has the name {shown(name)}: expected tensors by name")
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{path}: {key}[{shown(name)}] is no tensor: expected tensors by name")
        short = name.removeprefix("module.")
        if short in tensors:
            raise CheckpointError(
                f"{path}: {key} has both {_printable(short)} and module.{_printable(short)}: expected one"
            )
        # Attributes that a file gives to a tensor stay behind, whatever they are called.
        tensors[short] = torch.Tensor.detach(value)
        _check_kind(path, short, tensors[short])
    _check_extent(path, tensors)
    return PublishedTensors(path, tensors)


def shown(value: Any) -> str:
    """Returns a value of a file for the line of an error: printable, and not too long.

    Example:
        >>> shown("a\\nb"), len(shown("a" * 1000))
        ("'a\\\\nb'", 100)
    """
    if not isinstance(value, str | int | float | None):
        return f"a {type(value).__name__}"
    text = ascii(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


def _check_kind(path: Path, name: str, value: Tensor) -> None:
    import torch

    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    allowed = (*floats, torch.int64, torch.int32) if name.endswith(COUNTER) else floats
    if value.is_nested:
        raise CheckpointError(f"{path}: {_printable(name)} is several tensors in one: expected floating-point numbers")
    is_stored, is_dense = value.device.type == "cpu", value.layout is torch.strided
    if not (is_stored and is_dense and value.dtype in allowed):
        kind = str(value.device if not is_stored else value.dtype if is_dense else value.layout)
        found = f"is of type {kind.removeprefix('torch.')} and shape {tuple(value.shape)}"
        raise CheckpointError(f"{path}: {_printable(name)} {found}: expected floating-point numbers")


def _check_extent(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Checks that tensors aren't larger than what is stored: a view can repeat one number any number of times."""
    storages = [value.untyped_storage() for value in tensors.values()]
    stored = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    sizes = {name: value.numel() * value.element_size() for name, value in tensors.items()}
    if sum(size for name, size in sizes.items() if not name.endswith(ALIAS)) > stored:
        largest = max(sizes, key=lambda name: sizes[name])
        raise CheckpointError(
            f"{path}: its tensors are of more numbers than it holds, {_printable(largest)} has shape "
            f"{tuple(tensors[largest].shape)}: expected each number to be stored"
        )


def _printable(name: str) -> str:
    return name if name.isprintable() and len(name) <= LONGEST_SHOWN else shown(name)


def _list(names: Sequence[str]) -> str:
    few = ", ".join(_printable(name) for name in names[:MOST_NAMED])
    return few + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
