"""Writes happen whole or not at all, whenever the process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from vaebm.checkpoint import CheckpointError, read_json, replace_file, write_bytes, write_json

NUM_BYTES = 2_000_000
WRITE_FOR_EVER = f"""
import itertools, sys
from vaebm.checkpoint import write_bytes
for value in itertools.cycle(range(256)):
    write_bytes(sys.argv[1], bytes([value]) * {NUM_BYTES})
"""


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    for data in (b"first", b"", b"second\0"):
        write_bytes(path, data)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


def test_json_keeps_numbers_that_json_lacks(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"energy": [float("inf"), 1.5], "é": None})
    assert '"inf"' in (tmp_path / "a.json").read_text()
    assert read_json(tmp_path / "a.json") == {"energy": [float("inf"), 1.5], "é": None}


def test_new_files_have_the_usual_rights(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    write_bytes(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_an_error_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    def write_half(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "file", write_half)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError, match="set"):
        write_json(tmp_path / "a.json", [{1}])
    assert read_json(tmp_path / "a.json") == [1]


@pytest.mark.parametrize("place", ["folder", "file/below"])
def test_places_that_cannot_be_written_are_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"cannot write .*{place}: ") as caught:
        write_bytes(tmp_path / place, b"data")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize("delay", [0.003, 0.011, 0.023, 0.042, 0.07])
def test_sigkill_in_a_write_loop_leaves_a_whole_file(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "file"
    process = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)])
    try:
        deadline = time.monotonic() + 30
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(delay)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    data = path.read_bytes()
    assert process.returncode == -signal.SIGKILL
    assert len(data) == NUM_BYTES
    assert data == data[:1] * NUM_BYTES
