"""Freed memory is kept by a process that asks for it: no page faults from step to step; and how much there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vaebm.distributed import total_memory

PROGRAM = """
import resource, sys, torch
from vaebm.distributed import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def work():
    kept = [torch.zeros(12_000_000) for _ in range(3)]
for _ in range(8):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_a_process_that_keeps_its_memory_has_no_page_faults() -> None:
    faults = {}
    for word in ("keep", "return"):
        result = subprocess.run([sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, check=True)
        faults[word] = int(result.stdout)
    assert faults["keep"] < 0.1 * faults["return"]


PEAK = """
import torch
from vaebm.distributed import peak_memory
cpu = torch.device("cpu")
before = peak_memory(cpu)
block = torch.ones(2**27)
del block
print(before, peak_memory(cpu))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the system doesn't tell")
def test_the_peak_is_what_was_held_at_once() -> None:
    result = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    before, after = (float(word) for word in result.stdout.split())
    assert 0.05 < before < 2
    assert after - before == pytest.approx(0.5, abs=0.05)


def test_a_container_may_have_less_than_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaebm.distributed.memory.LIMITS", ())
    whole = total_memory(torch.device("cpu"))
    assert whole is not None
    assert whole > 0.1
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("vaebm.distributed.memory.LIMITS", (str(tmp_path / "absent"), str(limit)))
    for text, expected in (("max\n", whole), (f"{2**25}\n", 2**25 / 2**30), (f"{2**60}\n", whole)):
        limit.write_text(text)
        assert total_memory(torch.device("cpu")) == expected
