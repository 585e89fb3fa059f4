"""Rows in a file: what is written is read, none of it stays in memory, and a full disk is told of at once."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vaebm.checkpoint import RowFile

PROGRAM = """
import sys, torch
from vaebm.checkpoint import RowFile
from vaebm.checkpoint.state_file import load_state, save_state
from vaebm.distributed import peak_memory
rows, cpu = RowFile(sys.argv[1], 1000, 300_000, torch.float16), torch.device("cpu")
block = torch.ones(10, 300_000)
before = peak_memory(cpu)
for start in range(0, 1000, 10):
    rows.write(torch.arange(start, start + 10), block)
assert float(rows.read(torch.tensor([999])).mean()) == 1
written = peak_memory(cpu) - before
save_state(sys.argv[2], {"rows": rows.first(1000), "next_place": 0})
saved = peak_memory(cpu) - before
assert load_state(sys.argv[2])["rows"].eq(1).all()
print(written, saved)
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_written_is_read(tmp_path: Path, dtype: torch.dtype, generator: torch.Generator) -> None:
    rows, values = RowFile(tmp_path / "rows.bin", 20, 7, dtype), torch.randn(5, 7, generator=generator)
    places = torch.tensor([19, 0, 3, 4, 11])
    rows.write(places, values)
    assert torch.equal(rows.read(places), values.to(dtype))
    assert torch.equal(rows.first(5)[[0, 3, 4]], values[[1, 2, 3]].to(dtype))
    assert not rows.read(torch.tensor([1, 2])).any()
    rows.write(places[:1], torch.ones(1, 7, dtype=torch.bfloat16))
    assert rows.read(places[:1]).eq(1).all()
    rows.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_rows_do_not_stay_in_memory_not_even_while_they_are_saved(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "rows.bin"), str(tmp_path / "state.pt")]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    written, saved = (float(word) for word in output.split())
    assert (tmp_path / "rows.bin").stat().st_size == 600_000_000
    assert written < 0.08
    # Of .56 GiB a part of 64 MiB at a time.
    assert saved < 0.12


def test_space_that_is_not_there_is_told_of_when_the_file_is_made(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            RowFile(tmp_path / "rows.bin", 1000, 100, torch.float32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_cut_off_is_told_of(tmp_path: Path) -> None:
    rows = RowFile(tmp_path / "rows.bin", 4, 4, torch.float32)
    os.truncate(tmp_path / "rows.bin", 20)
    with pytest.raises(OSError, match="was cut off"):
        rows.read(torch.tensor([2]))
