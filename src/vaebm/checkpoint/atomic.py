"""Writes that happen whole or not at all.

The new content goes to a hidden file in the same folder, is forced to the disk, and takes the place of the old file in
one step (`os.replace`). Whatever happens before that step, power cut and SIGKILL included, leaves the old file as it
was; at worst a hidden `.NAME.*.tmp` stays behind, which nothing reads.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from vaebm.checkpoint.errors import CheckpointError, one_line
from vaebm.checkpoint.json_text import to_text


def replace_file(
    path: str | Path, write: Callable[[BinaryIO], object], before: Callable[[], object] = lambda: None
) -> None:
    """Lets a function write a file that then takes the place of the old one in one step.

    Arguments:
        path: where the file shall be; its folder is made if need be.
        write: writes the content into an open binary file.
        before: what is done between the writing and the replacement.

    Raises:
        CheckpointError: the file cannot be written; the old one is intact.
    """
    path = Path(path)
    temporary = temporary_sibling(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        before()
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {one_line(error)}; check space and rights") from error
    finally:
        remove_quietly(temporary)


def link_file(path: str | Path, other: str | Path) -> None:
    """Gives a file a second name, in the place of what had that name before; the content isn't copied.

    Arguments:
        path: the file.
        other: its second name, on the same disk; where a disk has no such links nothing happens.
    """
    temporary = temporary_sibling(Path(other))
    try:
        os.link(path, temporary)
        os.replace(temporary, other)
    except OSError:
        return
    finally:
        remove_quietly(temporary)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes bytes to a file, whole or not at all.

    Arguments:
        path: where the file shall be; its folder is made if need be.
        data: the whole content.

    Raises:
        CheckpointError: the file cannot be written; the old one is intact.
    """
    replace_file(path, lambda file: file.write(data))


def write_json(path: str | Path, obj: object) -> None:
    """Writes a value as indented JSON, whole or not at all; non-finite numbers become "nan", "inf", "-inf".

    Arguments:
        path: where the file shall be; its folder is made if need be.
        obj: nested mappings, lists, strings, numbers, paths, arrays or tensors.

    Raises:
        CheckpointError: the file cannot be written; the old one is intact.
        TypeError: the value holds something that JSON cannot.
    """
    write_bytes(path, (to_text(obj, indent=2) + "\n").encode())


def temporary_sibling(path: Path) -> Path:
    """Names a hidden file or folder beside a path that no other process uses.

    Arguments:
        path: the file or folder that the new one shall replace.

    Returns:
        A path in the same folder, hence on the same disk, so that a rename is one step.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def remove_quietly(path: Path) -> None:
    """Removes a file if it is there, without complaint if that fails: an error on the way here says more.

    Arguments:
        path: the file.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def sync_folder(folder: Path) -> None:
    """Forces the names in a folder to the disk, so that a rename outlives a power cut (POSIX only).

    Arguments:
        folder: the folder in which something was renamed.
    """
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
