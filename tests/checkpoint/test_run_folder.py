"""A run folder keeps what it was given through crashes, and says so where it could not."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from vaebm.checkpoint import CheckpointError, RunFolder, StoredModel, load_model_folder, save_model_folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run").create("seed: 1\n", {"seed": 1})


def test_create_writes_what_open_finds(run: RunFolder) -> None:
    again = RunFolder(run.path).open()
    assert again == run
    assert again.read_config() == "seed: 1\n"
    assert again.read_provenance() == {"seed": 1}
    again.write_provenance({"seed": 1, "seconds": {"vae": 2.5}})
    assert run.read_provenance() == {"seed": 1, "seconds": {"vae": 2.5}}
    assert sorted(path.name for path in run.path.iterdir()) == [
        ".lock",
        "checkpoints",
        "config.yaml",
        "provenance.json",
        "samples",
    ]
    assert run.read_metrics() == []
    assert run.load_checkpoint("last") is None


def test_all_places_lie_in_the_folder_and_differ(run: RunFolder) -> None:
    places = [run.config, run.provenance, run.metrics, run.log, run.samples, run.checkpoints]
    places += [run.model, run.evaluation, run.report]
    assert {place.parent for place in places} == {run.path}
    assert len(set(places)) == 9
    save_model_folder(run.model, StoredModel({"a": 1}, {}))
    assert load_model_folder(run.model).config == {"a": 1}


def test_a_folder_that_is_not_empty_is_refused(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not empty; go on with `vaebm train --resume .*run`"):
        RunFolder(run.path).create("", {})
    assert run.read_config() == "seed: 1\n"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter").write_text("dear")
    with pytest.raises(CheckpointError, match="not empty; choose another") as caught:
        RunFolder(tmp_path / "other").create("", {})
    assert "resume" not in str(caught.value)
    with pytest.raises(CheckpointError, match="letter"):
        RunFolder(tmp_path / "other" / "letter").create("", {})
    (tmp_path / "empty").mkdir()
    assert RunFolder(tmp_path / "empty").create("a: 1\n", {}).read_config() == "a: 1\n"


def test_open_says_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no run folder .*nowhere"):
        RunFolder(tmp_path / "nowhere").open()
    with pytest.raises(CheckpointError, match=r"config\.yaml is missing"):
        RunFolder(tmp_path).open()


def test_figures_come_back_non_finite_ones_included(run: RunFolder) -> None:
    run.append_metrics({"step": 1, "gap": np.float32(0.5), "energy": torch.tensor(-math.inf), "stage": "energy"})
    run.append_metrics({"step": 2, "gap": math.nan})
    assert '"gap": "nan"' in run.metrics.read_text()
    first, second = run.read_metrics()
    assert first == {"step": 1, "gap": 0.5, "energy": -math.inf, "stage": "energy"}
    assert second["step"] == 2
    assert math.isnan(second["gap"])


def test_a_line_that_a_crash_cut_off_is_dropped_and_written_over(run: RunFolder) -> None:
    for whole in (0, 2):
        run.keep_metrics(0)
        for step in range(whole):
            run.append_metrics({"step": step})
        with open(run.metrics, "ab") as file:
            file.write(b'{"step": 2, "gap": "n')
        assert [row["step"] for row in run.read_metrics()] == list(range(whole))
        run.append_metrics({"step": 7})
        assert [row["step"] for row in run.read_metrics()] == [*range(whole), 7]


def test_a_damaged_line_is_named(run: RunFolder) -> None:
    for step in range(3):
        run.append_metrics({"step": step})
    run.metrics.write_text(run.metrics.read_text().replace('"step": 1', '"step": '))
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged in line 2"):
        run.read_metrics()
    run.metrics.write_bytes(b"[1]\n")
    with pytest.raises(CheckpointError, match="line 1"):
        run.read_metrics()


def test_resuming_drops_the_lines_after_the_checkpoint(run: RunFolder) -> None:
    for step in range(5):
        run.append_metrics({"step": step, "gap": math.inf})
    assert run.keep_metrics(3) == 3
    run.append_metrics({"step": 3, "gap": 0.1})
    assert [row["step"] for row in run.read_metrics()] == [0, 1, 2, 3]
    assert run.read_metrics()[2]["gap"] == math.inf
    # Lost ones are counted out.
    assert run.keep_metrics(9) == 4


def test_figures_are_on_the_disk_before_the_checkpoint_that_counts_them(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.append_metrics({"step": 1})
    forced, sync = [], os.fsync

    def watched(descriptor: int) -> None:
        forced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    path = run.save_checkpoint("last", {"num_metrics": 1})
    assert forced.index(run.metrics.stat().st_ino) < forced.index(path.stat().st_ino)


def test_checkpoints_are_kept_by_name(run: RunFolder) -> None:
    for step in (1, 2):
        path = run.save_checkpoint("last", {"step": step, "noise": torch.full((2,), float(step))})
    run.save_checkpoint("best", {"step": 1})
    assert path == run.checkpoints / "last.pt"
    assert run.load_checkpoint("last")["noise"].tolist() == [2, 2]
    assert run.load_checkpoint("best") == {"step": 1}
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged"):
        run.load_checkpoint("last")


def test_samples_are_kept_byte_for_byte(run: RunFolder) -> None:
    assert run.save_sample("energy_000100", b"\x89PNG").read_bytes() == b"\x89PNG"
    assert run.save_sample("chain.gif", b"GIF89a").name == "chain.gif"
    assert sorted(path.name for path in run.samples.iterdir()) == ["chain.gif", "energy_000100.png"]


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a\n"])
def test_names_stay_in_the_folder(run: RunFolder, name: str) -> None:
    with pytest.raises(ValueError, match="not a file name"):
        run.save_checkpoint(name, {})
    with pytest.raises(ValueError, match="not a file name"):
        run.save_sample(f"{name}.png", b"")
    assert not list(run.path.parent.glob("*.p*"))


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff"])
def test_damaged_provenance_is_named(run: RunFolder, content: bytes) -> None:
    run.provenance.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"provenance\.json is damaged"):
        run.read_provenance()


def test_unreadable_configuration_is_named(run: RunFolder) -> None:
    run.config.write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"config\.yaml is damaged"):
        run.read_config()
    run.config.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*config\.yaml"):
        run.read_config()


def test_the_checkpoint_before_stays_under_its_name(run: RunFolder) -> None:
    for step in range(3):
        run.save_checkpoint("last", {"step": step}, "previous")
    assert (run.load_checkpoint("last"), run.load_checkpoint("previous")) == ({"step": 2}, {"step": 1})
    with pytest.raises(TypeError):
        run.save_checkpoint("last", {"step": object()}, "previous")
    assert (run.load_checkpoint("last"), run.load_checkpoint("previous")) == ({"step": 2}, {"step": 1})


def test_a_folder_is_locked_until_it_is_let_go(run: RunFolder) -> None:
    lock = run.lock()
    with pytest.raises(CheckpointError, match=r"in use: another process trains in it: wait until that has ended"):
        run.lock()
    lock.release()
    run.lock().release()


def test_a_new_folder_belongs_to_the_first_who_claims_it(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    lock = first.claim()
    for attempt in (second.claim, lambda: second.create("seed: 2\n", {})):
        with pytest.raises(CheckpointError, match="in use: another process trains in it"):
            attempt()
    first.create("seed: 1\n", {}, lock)
    lock.release()
    with pytest.raises(CheckpointError, match="not empty; go on with"):
        second.claim()
    assert first.read_config() == "seed: 1\n"
    first.lock().release()


def test_one_who_comes_between_look_and_lock_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = RunFolder(tmp_path / "run")
    lock = RunFolder.lock

    def slow(folder: RunFolder) -> FileLock:
        monkeypatch.setattr(RunFolder, "lock", lock)
        RunFolder(folder.path).create("seed: 1\n", {})
        return lock(folder)

    monkeypatch.setattr(RunFolder, "lock", slow)
    with pytest.raises(CheckpointError, match="not empty; go on with"):
        late.create("seed: 2\n", {})
    assert late.read_config() == "seed: 1\n"
    late.lock().release()


def test_nothing_is_left_in_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(CheckpointError, match="not empty"):
        RunFolder(tmp_path).claim()
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


def test_what_killed_writes_left_is_removed_and_nothing_else(run: RunFolder) -> None:
    run.save_checkpoint("last", {"step": 1})
    for folder in (run.path, run.checkpoints):
        (folder / ".last.pt.0123456789ab.tmp").write_bytes(b"half")
    # Two processes had a replay buffer in a file each.
    for index in range(2):
        run.buffer(index).write_bytes(b"rows")
    (run.path / ".model.0123456789ab.tmp").mkdir()
    (run.path / ".model.0123456789ab.tmp" / "half.bin").write_bytes(b"half")
    before = {path.name for path in run.path.rglob("*")} - {
        ".last.pt.0123456789ab.tmp", ".model.0123456789ab.tmp", "half.bin", "buffer-0.bin", "buffer-1.bin"
    }  # fmt: skip
    run.remove_leftovers()
    assert {path.name for path in run.path.rglob("*")} == before


def test_a_run_killed_before_it_was_written_down_may_start_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    for folder in (run.samples, run.checkpoints):
        folder.mkdir(parents=True)
    run.provenance.write_text("{}")
    (run.path / ".config.yaml.0123456789ab.tmp").write_text("see")
    assert run.create("seed: 1\n", {"commit": "abc"}).read_provenance() == {"commit": "abc"}
    other = RunFolder(tmp_path / "other")
    other.samples.mkdir(parents=True)
    (other.samples / "mine.png").write_bytes(b"png")
    with pytest.raises(CheckpointError, match="not empty"):
        other.check_new()
