"""The cost of one Langevin step of an NVAE and its energy network: as it is, and folded.

    python benchmarks/step.py                                            # 10 groups, 32 channels, batch 16
    python benchmarks/step.py --size paper --repeats 3 --batch-size 4    # 30 groups, 128 channels
    python benchmarks/step.py --table docs/nvae.md

A step is the log-density and its gradient by the noise, by the Langevin kernel that chains use. ``plain`` is the NVAE
in evaluation mode without parameter gradients; ``folded`` the same by ``vaebm.models.folded``, in float32 and bfloat16.
The forms take turns, so that all of them meet the same machine. Told are medians, ratios to ``plain``, the share of a
step inside convolutions (by the profiler), the sum of all convolutions of a step, each in isolation with cold caches,
over the step's time, and the peak memory of a step in a process of its own. As in training, the process keeps what it
frees (``vaebm.distributed.keep_freed_memory``), which ``plain`` gains from too; so ``plain`` is also timed in a process
of its own that doesn't, as any program runs it. bfloat16 is left out where the CPU doesn't compute in it. Written to
``benchmarks/results/step.json``.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from endings import ended
from forked import output_of
from tables import put_table
from vaebm.distributed import hardware_facts, keep_freed_memory, peak_memory, supports_bfloat16
from vaebm.models import NVAE, VAEBM, EnergyNetwork, folded
from vaebm.sampling import ChainState, Langevin

RESULTS = Path(__file__).parent / "results" / "step.json"
SIZES = {"tiny": (2, 8), "sketch": (10, 32), "paper": (30, 128)}
FORMS = ("plain float32", "folded float32", "folded bfloat16")
FLUSHED = 64 * 2**20
CONVOLUTIONS = ("aten::mkldnn_convolution", "aten::convolution_backward", "aten::_slow_conv2d_forward",
                "aten::thnn_conv2d", "aten::addmm", "aten::mm", "aten::bmm")  # fmt: skip


def make_model(size: str) -> VAEBM:
    """Returns a model of random weights whose batch norms have statistics of their own."""
    groups, width = SIZES[size]
    torch.manual_seed(0)
    vae = NVAE((3, 32, 32), (groups,), 20, width, width)
    energy = EnergyNetwork((3, 32, 32), "residual", (width, 2 * width, 2 * width), 2, 3, 0, "sum")
    for module in vae.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return VAEBM(vae, energy).eval().requires_grad_(False)


def make_step(size: str, form: str, batch_size: int) -> Callable[[], Any]:
    """Returns one Langevin step of a form."""
    model = make_model(size)
    if form != "plain float32":
        model = folded(model, getattr(torch, form.split()[1]))
    generator = torch.Generator().manual_seed(1)
    kernel = Langevin(8e-5)
    noise = torch.randn(batch_size, model.noise_layout.size, generator=generator)
    return lambda: kernel(ChainState(noise), model.log_density, generator)


class Recorder(TorchDispatchMode):
    """Notes the arguments of every convolution."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "convolution" in str(func):
            self.calls.append((func, tuple(args)))
        return func(*args, **(kwargs or {}))


def isolated(step: Callable[[], Any], repeats: int) -> float:
    """Returns the sum of the medians of all convolutions of a step, each alone, with cold caches, in seconds."""
    with Recorder() as recorder:
        step()
    flush = torch.zeros(FLUSHED // 4)
    known: dict[Any, float] = {}
    total = 0.0
    for func, args in recorder.calls:
        key = (str(func), *(_form(value) for value in args))
        if key not in known:
            fresh = [torch.randn_like(value) if isinstance(value, Tensor) else value for value in args]
            func(*fresh)
            times = []
            for _ in range(repeats):
                flush.add_(1)
                began = time.perf_counter()
                func(*fresh)
                times.append(time.perf_counter() - began)
            known[key] = statistics.median(times)
        total += known[key]
    return total


def _form(value: Any) -> Any:
    return (tuple(value.shape), value.stride(), value.dtype) if isinstance(value, Tensor) else str(value)


def convolution_share(step: Callable[[], Any]) -> float:
    """Returns the share of a step's time that the profiler finds inside convolutions."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    rows = found.key_averages()
    total = sum(float(row.self_cpu_time_total) for row in rows)
    return sum(float(row.self_cpu_time_total) for row in rows if row.key in CONVOLUTIONS) / total


def measure(size: str, batch_size: int, repeats: int) -> dict[str, Any]:
    """Measures all forms of one size."""
    as_any_program = [seconds_as_any_program(size, batch_size, repeats)]
    keep_freed_memory()
    forms = FORMS if supports_bfloat16(torch.device("cpu")) else FORMS[:2]
    steps = {form: make_step(size, form, batch_size) for form in forms}
    times: dict[str, list[float]] = {form: [] for form in forms}
    for step in steps.values():
        step()
    for _ in range(repeats):
        for form, step in steps.items():
            began = time.perf_counter()
            step()
            times[form].append(time.perf_counter() - began)
    with FlopCounterMode(display=False) as counter:
        steps["folded float32"]()
    as_any_program.append(seconds_as_any_program(size, batch_size, repeats))
    plain, usual = statistics.median(times["plain float32"]), statistics.mean(as_any_program)
    rows = {}
    for form, step in steps.items():
        median = statistics.median(times[form])
        rows[form] = {
            "seconds": median,
            "fastest": min(times[form]),
            "slowest": max(times[form]),
            "times_faster": plain / median,
            "times_faster_than_any_program": usual / median,
            "share_in_convolutions": convolution_share(step),
            "convolutions_alone": isolated(step, max(3, repeats // 3)) / median,
            "peak_memory_mib": peak_mib(size, form, batch_size),
        }
        print(form, {name: round(value, 3) for name, value in rows[form].items()}, flush=True)
    return {"size": size, "batch_size": batch_size, "repeats": repeats, "gflop": counter.get_total_flops() / 1e9,
            "seconds_as_any_program": usual, "forms": rows}  # fmt: skip


def table(results: Path, document: Path) -> None:
    """Writes the table into a document."""
    columns = ["model", "form", "seconds", "times faster", "than as any program runs it", "in convolutions",
               "convolutions alone", "peak memory, MiB"]  # fmt: skip
    shown = {"seconds": ".3f", "times_faster": ".2f", "times_faster_than_any_program": ".2f",
             "share_in_convolutions": ".2f", "convolutions_alone": ".2f", "peak_memory_mib": ".0f"}  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in json.loads(results.read_text()):
        groups, width = SIZES[row["size"]]
        name = f"{groups} groups, {width} channels, batch {row['batch_size']}, {row['gflop']:.0f} GFLOP"
        for form, figures in row["forms"].items():
            values = " | ".join(format(figures[key], kind) for key, kind in shown.items())
            lines.append(f"| {name} | {form} | {values} |")
    put_table(document, "step", lines)


def peak_mib(size: str, form: str, batch_size: int) -> float:
    """Returns the largest memory of a process while it makes two steps, the model included, in MiB (Linux)."""
    return float(output_of(["step.py", "--size", size, "--batch-size", str(batch_size), "--memory-of", form]))


def seconds_as_any_program(size: str, batch_size: int, repeats: int) -> float:
    """Returns the median of a plain step in a process that hands freed memory back to the system, in seconds."""
    words = ["step.py", "--size", size, "--batch-size", str(batch_size), "--repeats", str(repeats)]
    return float(output_of([*words, "--plain"]))


def _plain_seconds(size: str, batch_size: int, repeats: int) -> float:
    step, times = make_step(size, "plain float32", batch_size), []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def _memory_of(size: str, form: str, batch_size: int) -> float:
    keep_freed_memory()
    step = make_step(size, form, batch_size)
    gc.collect()
    # What it took to build the model doesn't count.
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(2):
        step()
    peak = peak_memory(torch.device("cpu"))
    assert peak is not None
    return 1024 * peak


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="sketch")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--memory-of", choices=FORMS, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--table", type=Path, metavar="FILE", help="only fill the table of this document")
    options = parser.parse_args(arguments)
    if options.table:
        table(options.results, options.table)
        return
    if options.plain:
        print(_plain_seconds(options.size, options.batch_size, options.repeats))
        return
    if options.memory_of:
        print(_memory_of(options.size, options.memory_of, options.batch_size))
        return
    row = measure(options.size, options.batch_size, options.repeats)
    row |= {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "hardware": hardware_facts(torch.device("cpu")),
    }
    known = json.loads(options.results.read_text()) if options.results.exists() else []
    rows = {entry["size"]: entry for entry in known} | {options.size: row}
    options.results.write_text(json.dumps([rows[size] for size in SIZES if size in rows], indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(ended(main))
