"""The model folder: what is needed to use a trained model, and nothing else.

| file | content |
|---|---|
| `config.json` | what the model is: the values from which it is built |
| `model.safetensors` | its tensors, in the types in which they were handed over |
| `calibration.json` | scores of the calibration split, for p-values (optional) |
| `README.md` | the model card |
| `manifest.json` | size and SHA-256 of each of the others |

A folder is written whole or not at all: under another name first, then renamed. An older one steps aside under the name
`.NAME.previous` until the new one is in place; if the process dies between these two renames, that older one is read.
Reading checks every byte against the manifest, and the manifest against its own normal form. No pickle is involved.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebm.checkpoint.atomic import sync_folder, temporary_sibling, write_bytes
from vaebm.checkpoint.errors import CheckpointError, one_line
from vaebm.checkpoint.json_text import from_text, to_text

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, TENSORS, CALIBRATION, CARD = "config.json", "model.safetensors", "calibration.json", "README.md"
MANIFEST = "manifest.json"
REQUIRED = (CONFIG, TENSORS, CARD)
KNOWN = frozenset({*REQUIRED, CALIBRATION, MANIFEST})
FORMAT = 1
REMEDY = "save, copy or download the model again"


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A model as it lies on a disk: values and tensors, no classes.

    Arguments:
        config: what the model is; nested dicts, lists, strings and numbers (tuples come back as lists).
        tensors: named tensors; float16 and bfloat16 stay what they are.
        calibration: scores of the calibration split, or None.
        card: the model card, in Markdown.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    calibration: dict[str, Any] | None = None
    card: str = field(default="")


def save_model_folder(folder: str | Path, stored: StoredModel) -> Path:
    """Writes a model folder whole or not at all; an older one is kept until the new one is there.

    Arguments:
        folder: where it shall be; absent, empty, or an older model folder, which is replaced.
        stored: what to write.

    Returns:
        The absolute path of the folder.

    Raises:
        CheckpointError: the folder holds other files, or cannot be written; it is left as it was.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as root:
        ...     folder = save_model_folder(f"{root}/model", StoredModel({"width": 8}, {"weight": torch.ones(2)}))
        ...     load_model_folder(folder).config
        {'width': 8}
    """
    target = Path(os.path.expanduser(folder)).resolve()
    contents = _encode(stored)
    staging = temporary_sibling(target)
    try:
        _refuse_other_content(target)
        staging.mkdir(parents=True)
        for name, data in contents.items():
            write_bytes(staging / name, data)
        _swap(staging, target)
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {one_line(error)}; check space and rights") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def load_model_folder(folder: str | Path) -> StoredModel:
    """Reads a model folder after checking every byte of it but the card's; nothing in it is ever executed.

    Arguments:
        folder: a folder that `save_model_folder` wrote.

    Returns:
        The model as it was stored, its tensors on the CPU.

    Raises:
        CheckpointError: a file is missing, damaged, truncated or altered; the message names it.
    """
    path = find_model_folder(folder)
    if path is None:
        raise CheckpointError(f"{folder} is not a model folder ({MANIFEST} is missing); {REMEDY}")
    manifest = _read_manifest(path / MANIFEST)
    _refuse_unlisted(path, manifest)
    contents = {name: _read(path / name) for name in manifest}
    for name, entry in manifest.items():
        if name != CARD:
            _check(path / name, contents[name], entry)
    return StoredModel(
        config=_decode_object(path / CONFIG, contents[CONFIG]),
        tensors=_decode_tensors(path / TENSORS, contents[TENSORS]),
        calibration=_decode_object(path / CALIBRATION, contents[CALIBRATION]) if CALIBRATION in contents else None,
        card=contents[CARD].decode(errors="replace"),
    )


def find_model_folder(folder: str | Path) -> Path | None:
    """Finds the model folder at a path, or the older one that a process left aside when it died while replacing it.

    Arguments:
        folder: where a model folder may be.

    Returns:
        The folder to read, or None if there is none.

    Raises:
        CheckpointError: the path cannot be looked at.
    """
    path = Path(os.path.expanduser(folder))
    try:
        place = path if path.exists() else previous_folder(path)
        return place if (place / MANIFEST).is_file() else None
    except OSError as error:
        raise CheckpointError(f"cannot read {folder}: {one_line(error)}; check the path") from error


def previous_folder(folder: Path) -> Path:
    """Names the place where an older model folder waits while a new one takes its name.

    Arguments:
        folder: a model folder.

    Returns:
        A hidden folder beside it.
    """
    folder = folder.resolve()
    return folder.parent / f".{folder.name}.previous"


def _encode(stored: StoredModel) -> dict[str, bytes]:
    from safetensors.torch import save

    # safetensors refuses tensors that share memory (tied weights), hence the copies.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in stored.tensors.items()}
    contents = {
        CONFIG: (to_text(stored.config, indent=2) + "\n").encode(),
        TENSORS: save(tensors, metadata={"format": "pt"}),
        CARD: stored.card.encode(),
    }
    if stored.calibration is not None:
        contents[CALIBRATION] = (to_text(stored.calibration, indent=2) + "\n").encode()
    sealed = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in contents.items()}
    # People and hubs edit cards, which change no number.
    entries = {**sealed, CARD: {}}
    return {**contents, MANIFEST: _manifest_bytes(entries)}


def _manifest_bytes(entries: Mapping[str, object]) -> bytes:
    manifest = {"format": "vaebm model folder", "format_version": FORMAT, "files": entries}
    return (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _refuse_other_content(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{target} is a file, not a folder; choose another name")
    names = {entry.name for entry in target.iterdir()} if target.exists() else set()
    # Without a manifest even a README.md is somebody else's.
    others = sorted(names - KNOWN if MANIFEST in names else names)
    if others:
        raise CheckpointError(f"{target} holds other files ({others[0]}); choose a new or an empty folder")


def _swap(staging: Path, target: Path) -> None:
    previous = previous_folder(target)
    if target.exists():
        if previous.exists():
            shutil.rmtree(previous)
        os.rename(target, previous)
    os.rename(staging, target)
    sync_folder(target.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    damaged = CheckpointError(f"{path} is damaged or altered; {REMEDY}")
    try:
        data = path.read_bytes()
        manifest = json.loads(data)
        version, entries = int(manifest["format_version"]), dict(manifest["files"])
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {one_line(error)}; {REMEDY}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise damaged from error
    if version > FORMAT:
        raise CheckpointError(f"{path} was written by a newer vaebm (format {version}, known: {FORMAT}); upgrade vaebm")
    is_complete = KNOWN - {MANIFEST} >= entries.keys() >= set(REQUIRED)
    is_well_formed = is_complete and all(isinstance(entry, dict) for entry in entries.values())
    if not is_well_formed or data != _manifest_bytes(entries):
        raise damaged
    return entries


def _refuse_unlisted(folder: Path, manifest: Mapping[str, object]) -> None:
    if CALIBRATION not in manifest and (folder / CALIBRATION).exists():
        raise CheckpointError(f"{folder / CALIBRATION} does not belong to this model (not in {MANIFEST}); remove it")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; {REMEDY}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {one_line(error)}; {REMEDY}") from error


def _check(path: Path, data: bytes, entry: Mapping[str, Any]) -> None:
    if len(data) != entry.get("bytes"):
        raise CheckpointError(f"{path} has {len(data)} bytes where {MANIFEST} says {entry.get('bytes')}; {REMEDY}")
    if _sha256(data) != entry.get("sha256"):
        raise CheckpointError(f"{path} is damaged or altered (its SHA-256 is not the one in {MANIFEST}); {REMEDY}")


def _decode_object(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = from_text(data.decode())
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({one_line(error)}); {REMEDY}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__} where an object was expected; {REMEDY}")
    return value


def _decode_tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file ({one_line(error)}); {REMEDY}") from error
