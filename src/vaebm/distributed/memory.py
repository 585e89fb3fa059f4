"""How much memory a process holds, and how it keeps what it frees.

glibc hands large blocks back to the system, and every next step pays for getting them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch

__all__ = ["keep_freed_memory", "peak_memory", "total_memory"]

GIB = 2**30
# What a container may take, in the two versions of Linux's control groups.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> bool:
    """Has this process keep what it frees, up to 2 GiB at the top of its heap, for its next allocations.

    A step of a network allocates hundreds of MiB and frees them again. Returned to the system each time, they cost a
    page fault for each 4 KiB. For programs, not for libraries: it holds for the whole process.

    Returns:
        Whether it was done: on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL("libc.so.6")
        options = ((TRIM_THRESHOLD, 2**31 - 1), (MMAP_THRESHOLD, 2**30), (TOP_PAD, 2**26))
        return all(library.mallopt(option, value) == 1 for option, value in options)
    except (OSError, AttributeError):
        return False


def peak_memory(device: torch.device) -> float | None:
    """Tells how much memory this process has held at once so far.

    Arguments:
        device: Where its tensors are; of CUDA it is what tensors held there, else what was resident.

    Returns:
        GiB, or None where the system doesn't tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    status = Path("/proc/self/status")
    if status.exists() and "VmHWM:" in (text := status.read_text()):
        # Linux's getrusage would tell of the process that started this one, too.
        return int(text.split("VmHWM:")[1].split()[0]) * 1024 / GIB
    try:
        import resource
    except ImportError:
        return None
    # Kilobytes, but on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def total_memory(device: torch.device) -> float | None:
    """Tells how much memory there is.

    Arguments:
        device: Of CUDA it is the device's, else the machine's, or what its container may take of it.

    Returns:
        GiB, or None where the system doesn't tell.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / GIB
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):
        return None
    for limit in map(Path, LIMITS):
        try:
            text = limit.read_text().strip()
        except OSError:
            continue
        found += [int(text)] if text.isdigit() else []
    return min(found) / GIB
