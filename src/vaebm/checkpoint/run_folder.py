"""The run folder: everything about one training run, in files that outlive a crash.

| file | content |
|---|---|
| `config.yaml` | the complete configuration |
| `provenance.json` | versions, commit, seed, hardware, wall times |
| `metrics.jsonl` | one line of figures for each report of the training loop |
| `log.txt` | what was shown |
| `samples/` | sample grids |
| `checkpoints/` | what training needs to go on: `last.pt`, and `previous.pt` before it |
| `.lock` | held by the process that writes here |
| `buffer-0.bin` | while the energy network is trained: a replay buffer that is kept on disk |
| `model/` | the trained model, a model folder |
| `evaluation.json`, `report.html` | what was measured, and what a person reads |
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vaebm.checkpoint.atomic import link_file, remove_quietly, write_bytes, write_json
from vaebm.checkpoint.errors import CheckpointError, one_line
from vaebm.checkpoint.json_text import read_json
from vaebm.checkpoint.metrics_file import append_row, keep_rows, read_rows, read_text, sync_rows
from vaebm.checkpoint.state_file import load_state, save_state

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class RunFolder:
    """One training run on a disk; the object holds the path and nothing else.

    Arguments:
        path: the folder; it need not exist before `create`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     run = RunFolder(f"{root}/run").create("seed: 1\\n", {"versions": {}})
        ...     run.append_metrics({"step": 1, "elbo": float("-inf")})
        ...     path = run.save_checkpoint("last", {"step": 1})
        ...     run.read_metrics(), run.load_checkpoint("last"), run.load_checkpoint("best")
        ([{'step': 1, 'elbo': -inf}], {'step': 1}, None)
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(os.path.expanduser(self.path)))

    @property
    def config(self) -> Path:
        """The complete configuration, as YAML."""
        return self.path / "config.yaml"

    @property
    def provenance(self) -> Path:
        """Versions, commit, seed, hardware and wall times, as JSON."""
        return self.path / "provenance.json"

    @property
    def metrics(self) -> Path:
        """The figures of the training loop, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """What was shown during training, as text."""
        return self.path / "log.txt"

    @property
    def samples(self) -> Path:
        """The folder of the sample grids."""
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def buffer(self, process_index: int = 0) -> Path:
        """The file of a process's replay buffer while the energy network is trained, if it is kept on disk."""
        return self.path / f"buffer-{process_index}.bin"

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.path / "model"

    @property
    def evaluation(self) -> Path:
        """What was measured, as JSON."""
        return self.path / "evaluation.json"

    @property
    def report(self) -> Path:
        """The report, as one HTML file."""
        return self.path / "report.html"

    def check_new(self) -> None:
        """Checks that a new run may start here, without making anything.

        Raises:
            CheckpointError: The folder is not empty, is a file, or cannot be read.
        """
        try:
            is_empty = not self.path.exists() or all(map(_is_of_no_run, self.path.iterdir()))
        except OSError as error:
            raise CheckpointError(f"cannot make the folder {self.path}: {one_line(error)}; choose another") from error
        if not is_empty:
            way_out = f"go on with `vaebm train --resume {self.path}` or " if self.config.is_file() else ""
            raise CheckpointError(f"the folder {self.path} is not empty; {way_out}choose another one")

    def claim(self) -> FileLock:
        """Takes a folder that is absent or empty into use for a new run.

        Returns:
            The lock that keeps other processes away.

        Raises:
            CheckpointError: the folder is in use, not empty or a file, or cannot be made.
        """
        # Looked at first, so that nothing is left in a folder that is somebody else's.
        self.check_new()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot make the folder {self.path}: {one_line(error)}; choose another") from error
        lock = self.lock()
        try:
            # Another process may have begun a run here since.
            self.check_new()
        except CheckpointError:
            lock.release()
            raise
        return lock

    def create(self, config_yaml: str, provenance: Mapping[str, Any], lock: FileLock | None = None) -> RunFolder:
        """Starts a new run in a folder that is absent or empty.

        Arguments:
            config_yaml: the complete configuration.
            provenance: where the run comes from; see `provenance`.
            lock: what `claim` returned; by default the folder is claimed until it is written.

        Returns:
            This run folder.

        Raises:
            CheckpointError: the folder is in use, not empty or a file, or cannot be written.
        """
        held = lock or self.claim()
        try:
            for folder in (self.samples, self.checkpoints):
                folder.mkdir(exist_ok=True)
            write_json(self.provenance, provenance)
            write_bytes(self.config, config_yaml.encode())
        except OSError as error:
            raise CheckpointError(f"cannot make the folder {self.path}: {one_line(error)}; choose another") from error
        finally:
            if lock is None:
                held.release()
        return self

    def open(self) -> RunFolder:
        """Checks that there is a run here.

        Returns:
            This run folder.

        Raises:
            CheckpointError: the folder is missing or is not a run folder.
        """
        if not self.path.is_dir():
            raise CheckpointError(f"there is no run folder {self.path}; check the path")
        if not self.config.is_file():
            raise CheckpointError(f"{self.path} is not a run folder ({self.config.name} is missing); check the path")
        return self

    def read_config(self) -> str:
        """Reads the configuration.

        Returns:
            YAML text.

        Raises:
            CheckpointError: the file is missing or not text.
        """
        return read_text(self.config)

    def read_provenance(self) -> dict[str, Any]:
        """Reads where the run comes from.

        Returns:
            What `create` or `write_provenance` was given.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        provenance = read_json(self.provenance)
        if not isinstance(provenance, dict):
            raise CheckpointError(f"{self.provenance} is damaged (not a JSON object); restore it from a copy")
        return provenance

    def write_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Replaces the provenance, for instance when the wall time of a stage is known.

        Arguments:
            provenance: the whole of it, not only what is new.

        Raises:
            CheckpointError: the file cannot be written; the old one is intact.
        """
        write_json(self.provenance, provenance)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Adds one line of figures, handed to the system at once; nan and infinities are kept.

        Arguments:
            row: names and numbers (or short strings).

        Raises:
            CheckpointError: the file cannot be written.
        """
        append_row(self.metrics, row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Reads all lines of figures; a last line that a crash cut off is left out.

        Returns:
            One dict a line, oldest first; empty if nothing was written yet.

        Raises:
            CheckpointError: a line is damaged; the message names it.
        """
        return read_rows(self.metrics)

    def keep_metrics(self, num_rows: int) -> int:
        """Drops the lines after the first few, so that a resumed run does not report the same steps twice.

        Arguments:
            num_rows: how many lines stay.

        Returns:
            How many there are then: fewer, if some were lost.

        Raises:
            CheckpointError: the file cannot be read or written; it is left as it was.
        """
        return keep_rows(self.metrics, num_rows)

    def save_sample(self, name: str, data: bytes) -> Path:
        """Writes a picture.

        Arguments:
            name: its name, for instance "energy_001000"; ".png" is added unless it has an ending.
            data: the content of the file.

        Returns:
            Where it lies.

        Raises:
            CheckpointError: the file cannot be written.
        """
        path = self.samples / _checked_name(name if Path(name).suffix else f"{name}.png")
        write_bytes(path, data)
        return path

    def lock(self) -> FileLock:
        """Takes the folder into use, until the lock is released or this process ends, however it ends.

        Returns:
            The lock.

        Raises:
            CheckpointError: another process uses the folder, or no lock can be made there.
        """
        taken = FileLock(self.path / ".lock")
        try:
            taken.acquire(timeout=0)
        except Timeout as error:
            reason = "another process trains in it: wait until that has ended, or choose another folder"
            raise CheckpointError(f"the run folder {self.path} is in use: {reason}") from error
        except OSError as error:
            raise CheckpointError(f"cannot lock {self.path}: {one_line(error)}; check space and rights") from error
        return taken

    def remove_leftovers(self) -> None:
        """Removes what processes left behind that were killed; only for who holds the lock."""
        for path in (*self.path.glob("**/.*.tmp"), *self.path.glob("buffer-*.bin")):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                remove_quietly(path)

    def save_checkpoint(self, name: str, state: Mapping[str, Any], earlier: str | None = None) -> Path:
        """Writes what training needs to go on, whole or not at all.

        Arguments:
            name: the checkpoint's name, for instance "last".
            state: nested dicts, lists and tuples of tensors, numbers, strings, booleans and None.
            earlier: under which name the one that was there stays, for instance "previous"; by default it doesn't.

        Returns:
            Where it lies.

        Raises:
            CheckpointError: the file cannot be written; the old one is intact.
            TypeError: the state holds something that could not be read back; the message says where.
        """
        path = self._checkpoint_path(name)
        # A checkpoint counts the lines of figures: those are on the disk before it.
        sync_rows(self.metrics)
        kept = None if earlier is None else self._checkpoint_path(earlier)
        # The new one is whole on the disk before the earlier one loses its place.
        save_state(path, state, lambda: link_file(path, kept) if kept is not None and path.exists() else None)
        return path

    def load_checkpoint(self, name: str) -> dict[str, Any] | None:
        """Reads a checkpoint after checking every byte of it; no code in it can run (`weights_only=True`).

        Arguments:
            name: the checkpoint's name.

        Returns:
            The state with its tensors on the CPU, or None if there is no such checkpoint.

        Raises:
            CheckpointError: the file is damaged, truncated or altered, or holds more than plain values.
        """
        path = self._checkpoint_path(name)
        return load_state(path) if path.exists() else None

    def _checkpoint_path(self, name: str) -> Path:
        return self.checkpoints / _checked_name(f"{name}.pt")


def _is_of_no_run(path: Path) -> bool:
    """Whether a file or folder is of a run that was killed before its configuration was written."""
    if path.name in ("samples", "checkpoints"):
        return path.is_dir() and not any(path.iterdir())
    return path.name in (".lock", "provenance.json") or (path.name[:1] == "." and path.suffix == ".tmp")


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a file name: letters, digits, '.', '-' and '_' only")
    return name
