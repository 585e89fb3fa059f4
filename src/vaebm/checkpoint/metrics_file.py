"""Figures of a run in a file, one JSON object a line, which a crash at any moment leaves readable.

A line that was cut off is passed over, and written over by the next one. What is handed to the system stays if the
process is killed; `sync_rows` makes it stay if the machine is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaebm.checkpoint.atomic import sync_folder, write_bytes
from vaebm.checkpoint.errors import CheckpointError, one_line
from vaebm.checkpoint.json_text import from_text, to_text


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Adds one line, handed to the system at once; nan and infinities are kept.

    Arguments:
        path: the file.
        row: names and numbers (or short strings).

    Raises:
        CheckpointError: the file cannot be written.
    """
    line = to_text(row).encode() + b"\n"
    try:
        path.touch()
        with open(path, "r+b") as file:
            _cut_unfinished_line(file)
            file.write(line)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {one_line(error)}; check the disk space") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads all lines; a last line that a crash cut off is left out.

    Arguments:
        path: the file; without it there are none.

    Raises:
        CheckpointError: a line is damaged; the message names it.
    """
    if not path.exists():
        return []
    lines = read_text(path).split("\n")[:-1]
    return [_read_row(path, number, line) for number, line in enumerate(lines, start=1)]


def keep_rows(path: Path, count: int) -> int:
    """Drops the lines after the first few.

    Arguments:
        path: the file.
        count: how many lines stay.

    Returns:
        How many there are then: fewer, if some were lost.

    Raises:
        CheckpointError: the file cannot be read or written; it is left as it was.
    """
    rows = read_rows(path)[:count]
    write_bytes(path, "".join(to_text(row) + "\n" for row in rows).encode())
    return len(rows)


def sync_rows(path: Path) -> None:
    """Forces the lines to the disk.

    Arguments:
        path: the file; it needn't be there.

    Raises:
        CheckpointError: they cannot be written.
    """
    try:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {one_line(error)}; check the disk space") from error


def read_text(path: Path) -> str:
    """Reads a text file.

    Arguments:
        path: the file.

    Raises:
        CheckpointError: it is missing or not text.
    """
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {one_line(error)}; check the path") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is damaged (not UTF-8 text); restore it from a copy") from error


def _cut_unfinished_line(file: io.BufferedRandom) -> None:
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)


def _read_row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = from_text(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise CheckpointError(f"{path} is damaged in line {number} (not a JSON object); remove the line")
    return row
