"""What an iteration of training costs, and where its time goes.

    python benchmarks/training.py stage1    # a step of NVAE's ELBO: float32 and bfloat16, contiguous and channels last
    python benchmarks/training.py stage2    # an iteration of the energy network: chains, update, everything else
    python benchmarks/training.py buffer    # 10,000 chains of the size of CIFAR-10: memory and time
    python benchmarks/training.py table docs/nvae.md

``stage1`` and ``stage2`` measure ten groups of 32 channels (the size of ``step.py``'s sketch) and ``cifar10-small``.
Forms take turns; told are medians. The share of flat noise is what it costs to cut the noise of a batch into groups and
to put their gradients together again, alone, over a step. ``buffer`` runs each form in a process of its own and tells
its largest resident memory, before and after it is saved in a checkpoint. Written to
``benchmarks/results/training.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from endings import ended
from forked import output_of
from tables import put_table
from vaebm.checkpoint import RowFile, RunFolder
from vaebm.distributed import Engine, hardware_facts, keep_freed_memory, peak_memory, supports_bfloat16
from vaebm.models import NVAE, VAEBM
from vaebm.recipes import RECIPES, NVAEConfig, build_model
from vaebm.recipes.config import EnergyNetworkConfig
from vaebm.recipes.hierarchical import NVAENetworkConfig
from vaebm.sampling import ReplayBuffer, draw_start, empty_buffer, write_back
from vaebm.training import BUFFER_DTYPES, energy_stage, energy_step, start_energy, start_vae, vae_step

RESULTS = Path(__file__).parent / "results" / "training.json"
SHAPE = (3, 32, 32)
SIZES = ("tiny", "sketch", "cifar10-small")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
DEFAULT = "bf16, channels last"
LIBRARY = f"{DEFAULT}, torch's gradient of depthwise weights"
LATENTS, CHAINS, BATCH = 153_600, 10_000, 32
DATA, PAPERS = "data's noise", "no matched noise"
PRECISIONS: tuple[str, ...] = ("fp32", "bf16") if supports_bfloat16(torch.device("cpu")) else ("fp32",)
BUFFERS = ("float32 memory", "float16 memory", "float16 file")


def config_of(size: str) -> NVAEConfig:
    """Returns the configuration of a size, with ten steps for each iteration."""
    small = RECIPES["cifar10-small"]()
    assert isinstance(small, NVAEConfig)
    energy = replace(small.energy, num_steps=10, buffer_size=200)
    if size == "cifar10-small":
        return replace(small, energy=energy)
    groups, width, batch = (10, 32, 16) if size == "sketch" else (2, 8, 4)
    return replace(
        small,
        vae_network=NVAENetworkConfig(groups=(groups,), encoder_width=width, decoder_width=width),
        vae=replace(small.vae, batch_size=batch),
        energy_network=EnergyNetworkConfig("residual", (width, 2 * width, 2 * width), 2, 3, 0, "sum"),
        energy=replace(energy, batch_size=batch),
    )


def engine(precision: Any) -> Engine:
    """Returns the engine of one process on the CPU."""
    return Engine(torch.device("cpu"), precision, 0, 1)


def stage1(size: str, repeats: int) -> dict[str, Any]:
    """Times a step of the ELBO in all forms."""
    config, steps = config_of(size), {}
    images = torch.rand(config.vae.batch_size, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for precision in ("fp32", "bf16"):
        for layout, memory_format in LAYOUTS.items():
            torch.manual_seed(0)
            vae = NVAE(SHAPE, **asdict(config.vae_network))
            state = start_vae(vae, config.vae, torch.Generator().manual_seed(1))
            vae.to(memory_format=memory_format)  # type: ignore[call-overload]
            once = _going_on(vae_step(vae, config.vae, engine(precision)), state, images)
            steps[f"{precision}, {layout}"] = once
            if f"{precision}, {layout}" == DEFAULT:
                steps[LIBRARY] = mock.patch("vaebm.nn.depthwise._is_low", new=_never)(once)
    seconds = _in_turns(steps, repeats)
    fastest = min(seconds, key=seconds.__getitem__)
    print(size, {name: round(value, 3) for name, value in seconds.items()}, "fastest:", fastest, flush=True)
    return {"batch_size": config.vae.batch_size, "repeats": repeats, "seconds": seconds, "default": DEFAULT}


def _never(_: Tensor) -> bool:
    return False


def _going_on(step: Callable[[Any, Tensor], Any], state: Any, images: Tensor) -> Callable[[], None]:
    held = [state]

    def once() -> None:
        held[0] = step(held[0], images).state

    return once


def _in_turns(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    times: defaultdict[str, list[float]] = defaultdict(list)
    for step in steps.values():
        step()
    for _ in range(repeats):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


class Clock:
    """Adds up the time that functions take, by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, which notes its time."""

        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] += time.perf_counter() - began

        return call


@contextmanager
def watched(clock: Clock, model: VAEBM) -> Iterator[None]:
    """Has the parts of an iteration note their time."""
    from vaebm.training import chains

    parts = {
        "chains": (energy_stage, "run_chains"),
        "start points": (chains, "draw_start"),
        "data's noise": (energy_stage, "positive_images"),
        "negatives": (energy_stage, "negative_images"),
        "update": (energy_stage, "_descend"),
        "buffer": (energy_stage, "write_back"),
        "folding": (chains, "FoldedEnergy"),
    }
    patches = [
        mock.patch.object(module, name, clock.timed(part, getattr(module, name)))
        for part, (module, name) in parts.items()
    ]
    patches.append(mock.patch.object(model.energy, "forward", clock.timed("update", model.energy.forward)))
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def stage2(size: str, repeats: int, precision: str, is_matched: bool) -> dict[str, Any]:
    """Times the parts of an iteration of the energy network, with matched noise or, as in the paper, without."""
    config = config_of(size)
    config = replace(config, energy=replace(config.energy, matched_noise=is_matched))
    torch.manual_seed(0)
    model, generator = build_model(config, SHAPE), torch.Generator().manual_seed(1)
    images = torch.rand(max(128, config.energy.batch_size), *SHAPE, generator=generator) * 2 - 1
    state = start_energy(model, config.energy, images, generator)
    # The clocks must be there when the step is made.
    clock = Clock()
    with watched(clock, model):
        step = energy_step(model, config.energy, engine(precision))
        once = _going_on(step, state, images[: config.energy.batch_size])
        for _ in range(2):
            once()
        clock.seconds.clear()
        began = time.perf_counter()
        for _ in range(repeats):
            once()
        total = time.perf_counter() - began
    seconds = {name: value / repeats for name, value in clock.seconds.items()}
    seconds["chains"] -= seconds["start points"]
    seconds["other"] = total / repeats - sum(seconds.values())
    share = (seconds["chains"] + seconds["update"]) / (total / repeats)
    row = {
        "batch_size": config.energy.batch_size,
        "num_steps": config.energy.num_steps,
        "repeats": repeats,
        "seconds": total / repeats,
        "parts": seconds,
        "share": share,
        "flat_noise": flat_noise(model, config.energy.batch_size) / (seconds["chains"] / config.energy.num_steps),
    }
    print(size, precision, "" if is_matched else PAPERS, {name: round(value, 4) for name, value in seconds.items()},
          f"share {share:.3f}, flat noise {row['flat_noise']:.4f}", flush=True)  # fmt: skip
    return row


def flat_noise(model: VAEBM, batch_size: int, repeats: int = 21) -> float:
    """Returns the median time to cut flat noise into groups and to join their gradients, in seconds."""
    layout, times = model.vae.noise_layout, []
    noise = torch.randn(batch_size, model.noise_layout.size).requires_grad_()
    gradients = [torch.randn_like(part) for part in layout.split(noise[:, : layout.latent_size])]
    for _ in range(repeats):
        began = time.perf_counter()
        parts = layout.split(noise[:, : layout.latent_size])
        torch.autograd.grad(parts, noise, gradients)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def buffer(form: str, num_chains: int) -> dict[str, float]:
    """Fills a buffer of chains, draws and writes on, and stores it; tells times and memory. In this process."""
    name, place = form.split()
    dtype = BUFFER_DTYPES[name]
    noise, generator = torch.randn(BATCH, LATENTS), torch.Generator().manual_seed(0)
    before = peak_memory(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        held = empty_buffer(0, LATENTS)
        if place == "file":
            held = ReplayBuffer(RowFile(Path(folder) / "buffer.bin", num_chains, LATENTS, dtype))
        else:
            held = empty_buffer(num_chains, LATENTS, dtype)
        while held.count < num_chains:
            held = write_back(held, noise)
        times = []
        for _ in range(20):
            began = time.perf_counter()
            start = draw_start(held, (BATCH, LATENTS), 1.0, generator)
            drawn = time.perf_counter()
            held = write_back(held, start.noise)
            times.append((drawn - began, time.perf_counter() - drawn))
        resident = peak_memory(torch.device("cpu"))
        RunFolder(Path(folder)).save_checkpoint("last", {"buffer": held.state_dict()})
        # Pages of a mapped file that is saved count, too, but the system takes them back when it needs them.
        saved = peak_memory(torch.device("cpu"))
    assert before is not None
    assert resident is not None
    assert saved is not None
    drawn, written = (statistics.median(values) for values in zip(*times, strict=True))
    return {"resident_gib": resident, "without_buffer_gib": before, "while_saving_gib": saved,
            "draw_seconds": drawn, "write_seconds": written}  # fmt: skip


def _buffers(num_chains: int) -> dict[str, Any]:
    rows = {}
    for form in BUFFERS:
        rows[form] = json.loads(output_of(["training.py", "buffer", "--form", form, "--num-chains", str(num_chains)]))
        print(form, {name: round(value, 4) for name, value in rows[form].items()}, flush=True)
    return {"num_chains": num_chains, "width": LATENTS, "batch_size": BATCH, "forms": rows}


def table(results: Path, document: Path) -> None:
    """Writes the tables into a document."""
    found = json.loads(results.read_text())
    lines = ["| stage 1 | " + " | ".join(found["stage1"]["sketch"]["seconds"]) + " |", "|---" * 6 + "|"]
    for size, row in found["stage1"].items():
        lines.append(f"| {size}, batch {row['batch_size']} | " + " | ".join(
            f"{value:.3f}" for value in row["seconds"].values()) + " |")  # fmt: skip
    put_table(document, "stage1", lines)
    columns = [
        "seconds",
        "chains",
        "update",
        "data's noise",
        "negatives",
        "the rest",
        "chains and update",
        "flat noise",
    ]
    lines = [f"| stage 2 | {' | '.join(columns)} |", "|---" * 9 + "|"]
    for name, row in found["stage2"].items():
        parts = row["parts"]
        rest = sum(parts[part] for part in ("start points", "buffer", "folding", "other"))
        lines.append(
            f"| {name}, batch {row['batch_size']} | {row['seconds']:.3f} | {parts['chains']:.3f} | "
            f"{parts['update']:.3f} | {parts[DATA]:.3f} | {parts['negatives']:.3f} | {rest:.3f} | "
            f"{row['share']:.1%} | {row['flat_noise']:.1%} |"
        )
    put_table(document, "stage2", lines)
    lines = ["| replay buffer | resident, GiB | while saved, GiB | draw, ms | write, ms |", "|---" * 5 + "|"]
    for form, row in found["buffer"]["forms"].items():
        figures = (f"{row['resident_gib']:.2f}", f"{row['while_saving_gib']:.2f}", f"{1e3 * row['draw_seconds']:.1f}",
                   f"{1e3 * row['write_seconds']:.1f}")  # fmt: skip
        lines.append(f"| {form} | {' | '.join(figures)} |")
    put_table(document, "buffer", lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("stage1", "stage2", "buffer", "table"))
    parser.add_argument("document", type=Path, nargs="?", help="whose tables are filled")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES[1:])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--num-chains", type=int, default=CHAINS)
    parser.add_argument("--form", choices=BUFFERS, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.what == "table":
        table(options.results, options.document)
        return
    if options.form:
        print(json.dumps(buffer(options.form, options.num_chains)))
        return
    # As in training.
    keep_freed_memory()
    found: dict[str, Any]
    if options.what == "stage1":
        found = {size: stage1(size, options.repeats) for size in options.sizes}
    elif options.what == "stage2":
        found = {
            f"{size}, {precision}" + ("" if is_matched else f", {PAPERS}"): stage2(
                size, options.repeats, precision, is_matched
            )
            for size in options.sizes
            for precision in PRECISIONS
            for is_matched in (True, False)
        }
    else:
        found = _buffers(options.num_chains)
    known = json.loads(options.results.read_text()) if options.results.exists() else {}
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__,
               "hardware": hardware_facts(torch.device("cpu"))}  # fmt: skip
    options.results.write_text(json.dumps({**known, options.what: found, "machine": machine}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(ended(main))
