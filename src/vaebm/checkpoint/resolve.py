"""From the name that a user types to the model folder that is meant.

A name is tried in this order: a bundled model, a model folder, a run folder (its `model/`), a repository on the Hugging
Face hub ("owner/name"). Nothing is loaded here and, except for the hub, nothing but the presence of files is looked at.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from vaebm.checkpoint.errors import CheckpointError, one_line
from vaebm.checkpoint.model_folder import KNOWN, MANIFEST, TENSORS, find_model_folder
from vaebm.checkpoint.run_folder import RunFolder

BUNDLED = Path(__file__).parent / "bundled"
JUDGES = BUNDLED / "judges"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def bundled_models(bundled: Path = BUNDLED) -> tuple[str, ...]:
    """Lists the models that come with the package.

    Arguments:
        bundled: the folder in which they lie; it may be absent.

    Returns:
        Their names in alphabetical order.
    """
    return tuple(sorted(path.parent.name for path in bundled.glob(f"*/{MANIFEST}")))


def model_folders(folder: Path = JUDGES) -> list[Path]:
    """Lists the model folders that lie in a folder.

    Arguments:
        folder: where they lie, by default the bundled judges.

    Returns:
        Their paths in alphabetical order.

    Raises:
        CheckpointError: there is no such folder.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}: name one that holds model folders")
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))


def resolve_model(name: str | Path, bundled: Path = BUNDLED) -> Path:
    """Finds the model folder that a name means; only from a hub id files are downloaded, those of a model folder.

    A bundled name wins over a folder of the same name in the working directory; write "./NAME" for the folder.

    Arguments:
        name: a bundled name, a model folder, a run folder, or a hub id "owner/name".
        bundled: the folder of the bundled models; it may be absent.

    Returns:
        A folder for `load_model_folder`.

    Raises:
        CheckpointError: there is no such model; the message names the nearest bundled one.
    """
    text = str(name)
    if text in bundled_models(bundled):
        return bundled / text
    path = Path(os.path.expanduser(name))
    found = find_model_folder(path) or find_model_folder(RunFolder(path).model)
    if found is not None:
        return found
    # A typing error in a local path must not turn into a request to the hub.
    if not path.exists() and HUB_ID.fullmatch(text) and not path.parent.exists():
        return _download(text)
    raise CheckpointError(_why_not(path, bundled))


def _why_not(path: Path, bundled: Path) -> str:
    if path.is_file():
        return f"{path} is a file where a model folder was expected; give the folder that it lies in"
    if (path / TENSORS).is_file():
        return f"{path / MANIFEST} is missing, so {path} is not a whole model folder; save, copy or download it again"
    if RunFolder(path).config.is_file():
        return f"the run {path} has no model yet; go on with `vaebm train --resume {path}`"
    if path.exists():
        return f"{path} is neither a model folder ({MANIFEST}) nor a run folder (config.yaml); give one of these"
    names = bundled_models(bundled)
    nearest = difflib.get_close_matches(str(path), names, n=1, cutoff=0.0)
    hint = f"the nearest bundled model is {nearest[0]!r}" if nearest else "no models are bundled here"
    return f"no model {str(path)!r}; {hint}; else give a model folder, a run folder or a hub id owner/name"


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, allow_patterns=sorted(KNOWN)))
    except Exception as error:  # the hub client raises errors of several libraries, and all mean the same here
        raise CheckpointError(
            f"no folder {repository!r}, and it could not be fetched from the hub ({one_line(error)}); "
            "check the name and the connection"
        ) from error
    if find_model_folder(folder) is None:
        raise CheckpointError(f"the hub repository {repository!r} is not a vaebm model ({MANIFEST} is missing)")
    return folder
