"""What else was tried to make a Langevin step of an NVAE faster, each beside the folded form that chains use.

    python benchmarks/step_attempts.py                       # some minutes on an idle machine
    python benchmarks/step_attempts.py --table docs/nvae.md

On the sketch's size of ``step.py``, in both precisions, in turns: the batch in pieces of which more fits the caches;
the decoder by ``torch.compile``, if there is g++. And, of a cell that widens 32 channels to 192, at 32×32 pixels:
each convolution, the swish behind it, and both as one call of oneDNN with the weights packed beforehand; the 1x1
convolutions as products of matrices. Medians, written to ``benchmarks/results/step_attempts.json``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from endings import ended
from step import make_model
from tables import put_table
from vaebm.distributed import hardware_facts, keep_freed_memory, supports_bfloat16
from vaebm.models import folded
from vaebm.sampling import ChainState, Langevin

RESULTS = Path(__file__).parent / "results" / "step_attempts.json"
PIECES = (8, 4, 2)
WIDTH, EXPANSION, SIDE = 32, 6, 32
PACK = "_reorder_convolution_weight"


def steps(size: str, batch_size: int, dtype: torch.dtype, compiles: bool) -> dict[str, Callable[[], Any]]:
    """Returns one step of a batch in the folded form, and in each other form that was tried."""
    kernel, generator = Langevin(8e-5), torch.Generator().manual_seed(1)
    model = folded(make_model(size), dtype)
    noise = torch.randn(batch_size, model.noise_layout.size, generator=generator)

    def step(own: Any, piece: int) -> Callable[[], Any]:
        return lambda: [kernel(ChainState(part), own.log_density, generator) for part in torch.split(noise, piece)]

    pieces = {f"in pieces of {piece}": step(model, piece) for piece in PIECES if piece < batch_size}
    found = {"folded": step(model, batch_size), **pieces}
    if compiles and shutil.which("g++"):
        compiled = folded(make_model(size), dtype)
        compiled.vae.decode = torch.compile(compiled.vae.decode)
        found["compiled"] = step(compiled, batch_size)
    return found


def parts(batch_size: int, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """Returns what one cell consists of, in the forms that were tried."""
    generator = torch.Generator().manual_seed(0)

    def maps(channels: int) -> Tensor:
        values = torch.randn(batch_size, channels, SIDE, SIDE, generator=generator).to(dtype)
        return values.contiguous(memory_format=torch.channels_last)

    def weight(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) / 10).to(dtype)

    wide = EXPANSION * WIDTH
    narrow_maps, wide_maps, gradient = maps(WIDTH), maps(wide), maps(wide)
    layers = {
        "expand 1x1": (narrow_maps, weight(wide, WIDTH, 1, 1), 0, 1),
        "depthwise 5x5": (wide_maps, weight(wide, 1, 5, 5), 2, wide),
        "project 1x1": (wide_maps, weight(WIDTH, wide, 1, 1), 0, 1),
    }
    found: dict[str, Callable[[], Any]] = {}
    for name, (images, kernel, padding, groups) in layers.items():
        found[name] = _convolution(images, kernel, padding, groups)
        if groups == 1:
            found[f"{name}, as a matrix product"] = _product(images, kernel)
        if hasattr(torch.ops.mkldnn, PACK):
            found[f"{name} with its swish, packed"] = _fused(images, kernel, padding, groups)
    found["swish"] = lambda: functional.silu(wide_maps)
    found["gradient of swish"] = lambda: torch.ops.aten.silu_backward(gradient, wide_maps)
    return found


def _convolution(images: Tensor, kernel: Tensor, padding: int, groups: int) -> Callable[[], Any]:
    return lambda: functional.conv2d(images, kernel, padding=padding, groups=groups)


def _product(images: Tensor, kernel: Tensor) -> Callable[[], Any]:
    return lambda: functional.linear(images.permute(0, 2, 3, 1), kernel.flatten(1))


def _fused(images: Tensor, kernel: Tensor, padding: int, groups: int) -> Callable[[], Any]:
    places = [padding, padding], [1, 1], [1, 1], groups
    packed = getattr(torch.ops.mkldnn, PACK)(kernel, *places, list(images.shape))
    return lambda: torch.ops.mkldnn._convolution_pointwise(images, packed, None, *places, "swish", [], "")


def in_turns(forms: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Returns the median time of each form, in seconds; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for form in forms.values():
        form()
    for _ in range(repeats):
        for name, form in forms.items():
            began = time.perf_counter()
            form()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(size: str, batch_size: int, repeats: int, compiles: bool) -> dict[str, Any]:
    """Measures everything, in each precision that the CPU has."""
    keep_freed_memory()
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if not supports_bfloat16(torch.device("cpu")):
        del dtypes["bfloat16"]
    found: dict[str, Any] = {"size": size, "batch_size": batch_size, "repeats": repeats, "steps": {}, "parts": {}}
    for name, dtype in dtypes.items():
        torch.compiler.reset()
        found["steps"][name] = in_turns(steps(size, batch_size, dtype, compiles), repeats)
        with torch.no_grad():
            found["parts"][name] = in_turns(parts(batch_size, dtype), repeats)
        for kind in ("steps", "parts"):
            told = {form: round(1000 * seconds, 2) for form, seconds in found[kind][name].items()}
            print(name, told, "ms", flush=True)
    return found


def table(results: Path, document: Path) -> None:
    """Writes the tables into a document."""
    found = json.loads(results.read_text())
    for kind, title in (("steps", "a step"), ("parts", "of a cell")):
        columns = found[kind]
        lines = [f"| {title}, ms | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
        lines += [
            f"| {form} | {' | '.join(f'{1000 * times[form]:.2f}' for times in columns.values())} |"
            for form in next(iter(columns.values()))
        ]
        put_table(document, f"attempts-{kind}", lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "sketch"), default="sketch")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes a minute")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", type=Path, metavar="FILE", help="only fill the tables of this document")
    options = parser.parse_args(arguments)
    if options.table:
        table(options.results, options.table)
        return
    found = measure(options.size, options.batch_size, options.repeats, not options.no_compile)
    found |= {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "hardware": hardware_facts(torch.device("cpu")),
    }
    options.results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(ended(main))
