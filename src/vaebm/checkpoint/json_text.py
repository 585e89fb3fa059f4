"""JSON in which no number is lost.

JSON has no name for nan and the infinities, and a run that diverges must show them. They are written as the strings
"nan", "inf" and "-inf", and these three strings are read back as numbers, at any depth.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaebm.checkpoint.errors import CheckpointError, one_line

NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_text(value: object, indent: int | None = None) -> str:
    """Writes a value as standard JSON, with non-finite numbers as strings.

    Arguments:
        value: nested mappings, lists, tuples, strings, numbers, paths, and arrays or tensors of any rank.
        indent: spaces for each level, or None for a single line.

    Returns:
        JSON text without a newline at the end.

    Raises:
        TypeError: the value holds something else.

    Example:
        >>> to_text({"loss": float("nan"), "steps": (1, 2)})
        '{"loss": "nan", "steps": [1, 2]}'
    """
    return json.dumps(_to_plain(value), indent=indent, allow_nan=False)


def from_text(text: str) -> Any:
    """Reads what `to_text` wrote, with non-finite numbers as numbers.

    Arguments:
        text: JSON text.

    Returns:
        Nested dicts, lists, strings and numbers.

    Raises:
        ValueError: the text is not JSON.

    Example:
        >>> from_text('{"loss": "-inf", "name": "energy"}')
        {'loss': -inf, 'name': 'energy'}
    """
    return _from_plain(json.loads(text))


def read_json(path: str | Path) -> Any:
    """Reads a JSON file that this package wrote.

    Arguments:
        path: the file.

    Returns:
        Nested dicts, lists, strings and numbers.

    Raises:
        CheckpointError: the file is missing, unreadable or not JSON.
    """
    try:
        return from_text(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {one_line(error)}; check the path") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({one_line(error)}); restore it from a copy") from error


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return _to_plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _from_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_plain(item) for item in value]
    return NON_FINITE.get(value, value) if isinstance(value, str) else value
