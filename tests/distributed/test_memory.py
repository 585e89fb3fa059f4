"""Freed memory is kept by a process that asks for it: no page faults from step to step."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
