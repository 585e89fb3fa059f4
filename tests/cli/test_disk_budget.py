"""What a run says of the disk that its checkpoints will take."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import yaml
from commandline import FINISHED, Cli, tiny

import vaebm
from vaebm.checkpoint import RunFolder
from vaebm.cli.dry_run import disk_notes
from vaebm.recipes import Config, from_dict
from vaebm.recipes.estimates import checkpoint_bytes

Usage = namedtuple("Usage", "total used free")


def test_the_estimate_is_near_the_largest_checkpoint_and_above_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, int] = {}
    save = RunFolder.save_checkpoint

    def watched(folder: RunFolder, name: str, state: dict[str, Any], earlier: str | None = None) -> Path:
        path = save(folder, name, state, earlier)
        sizes[state["stage"]] = max(path.stat().st_size, sizes.get(state["stage"], 0))
        return path

    monkeypatch.setattr(RunFolder, "save_checkpoint", watched)
    # Snapshots follow each other fast, so that all of them are there.
    often = {"checkpoint_every": "5", "guard__snapshot_every": "2", "guard__window": "2"}
    fast = tiny(**FINISHED, **often, evaluation__num_samples="10")
    assert cli("train", "digits", "--output", "run", *fast).code == 0
    config: Config = from_dict(Config, yaml.safe_load(Path("run/config.yaml").read_text()))
    # The buffer was not full yet in all of the snapshots.
    assert 0.6 < max(sizes.values()) / checkpoint_bytes(config, vaebm.load("run")) < 1.05


def test_it_is_told_where_it_is_much_or_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, 2**33))
    assert disk_notes(tmp_path, 2**20) == []
    assert disk_notes(tmp_path, 2**30) == ["checkpoints take up to 3.0 GiB of disk, 3 of them at a time"]
    assert disk_notes(tmp_path, 2**30, 2**31) == [
        "checkpoints take up to 3.0 GiB of disk, 3 of them at a time, and the replay buffer 2.0 GiB"
    ]
    # What a run has written is there again when it goes on.
    (tmp_path / "checkpoints").mkdir()
    with (tmp_path / "checkpoints/last.pt").open("wb") as file:
        file.truncate(5 * 2**30)
    assert not disk_notes(tmp_path, 2**32)[0].startswith("warning")
    (tmp_path / "checkpoints/last.pt").unlink()
    (warning,) = disk_notes(tmp_path, 2**32)
    assert warning.startswith("warning: checkpoints take up to 12.0 GiB of disk, 3 of them at a time; 8.0 GiB are free")
