"""What the machine is and can do: for the choice of precision and for the record beside every figure."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

GIB = 2**30


def supports_bfloat16(device: torch.device) -> bool:
    """Tells whether a device computes in bfloat16 itself, so that it gains time instead of losing it.

    Arguments:
        device: a CPU or CUDA device; others are said not to.

    Returns:
        Whether it does; False where this torch cannot tell.
    """
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def hardware_facts(device: torch.device | None = None) -> dict[str, str | int | float]:
    """Describes the machine, for the provenance of a run and of a figure.

    Arguments:
        device: the device that is used; by default CUDA where there is one, else the CPU.

    Returns:
        `cpu` (model), `cores` (those this process may use), `torch_threads`, `memory_gib`, `system`, and `device` (its
        name, with model and memory if it is a CUDA device).

    Example:
        >>> sorted(hardware_facts(torch.device("cpu")))
        ['cores', 'cpu', 'device', 'memory_gib', 'system', 'torch_threads']
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "torch_threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": _device_name(device),
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine() or "unknown"


def _memory_gib() -> float:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return float("nan")
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB, 1)


def _device_name(device: torch.device) -> str:
    if device.type != "cuda":
        return str(device)
    properties = torch.cuda.get_device_properties(device)
    return f"{device} ({properties.name}, {properties.total_memory / GIB:.0f} GiB)"
