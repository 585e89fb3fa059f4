"""``vaebm train NAME --dry-run``: the configuration and what it will cost, without training."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
import yaml

from vaebm.distributed import total_memory
from vaebm.recipes import NOTES, Config, to_dict
from vaebm.recipes.estimates import Estimate, estimate

GIB, MIB, TERA, GIGA = 2**30, 2**20, 1e12, 1e9
# The last, the one before, and the one that is being written.
CHECKPOINTS = 3


def describe(config: Config, name: str | None, image_shape: tuple[int, int, int]) -> str:
    """Returns the complete configuration as YAML, and its cost as comments behind it.

    Raises:
        ConfigError: If there are no such networks for such images.
    """
    costs = estimate(config, image_shape)
    lines = [f"# images {'x'.join(str(size) for size in image_shape)}", *cost_lines(config, costs)]
    has_cuda = torch.cuda.is_available() and config.device != "cpu"
    lines += [f"# {warning}" for warning in memory_warnings(costs, torch.device("cuda" if has_cuda else "cpu"))]
    notes = NOTES.get(name or "")
    if notes is not None:
        lines += [
            f"# images: {notes.images}",
            f"# published hours: {notes.hours}",
            f"# published scores: {notes.scores}",
        ]
    return yaml.safe_dump(to_dict(config), sort_keys=False) + "\n".join(lines)


def cost_lines(config: Config, costs: Estimate) -> list[str]:
    """Returns what a run will cost, one line each, as comments."""
    vae, energy = config.vae, config.energy
    return [
        f"# parameters: VAE {costs.num_parameters['vae']:,}, energy network {costs.num_parameters['energy']:,}",
        f"# noise: {costs.latent_size:,} latent, {costs.noise_size:,} with the image's",
        f"# stage 1: {vae.num_iterations:,} iterations of {vae.batch_size} images, {costs.vae_flops / TERA:.3g} TFLOP "
        f"each, about {size(costs.vae_memory)} in float32",
        f"# stage 2: {energy.num_iterations:,} iterations of {energy.batch_size} chains and {energy.num_steps} steps, "
        f"{costs.energy_flops / TERA:.3g} TFLOP each, about {size(costs.energy_memory)} in float32",
        f"# checkpoints: up to {size(costs.checkpoint)} each, {CHECKPOINTS} of them at a time",
        f"# one Langevin step of one image: {costs.step_flops / GIGA:.3g} GFLOP",
    ]


def size(num_bytes: float) -> str:
    """Returns a number of bytes as it is told.

    Example:
        >>> size(3 * 2**30), size(5e6)
        ('3.0 GiB', '4.8 MiB')
    """
    return f"{num_bytes / GIB:.1f} GiB" if num_bytes >= GIB / 10 else f"{num_bytes / MIB:.1f} MiB"


def disk_notes(folder: Path, checkpoint: float, scratch: float = 0.0) -> list[str]:
    """Returns a sentence on the space that a run takes if it is much, or isn't there; else nothing.

    Arguments:
        folder: The run folder, whose checkpoints count as space that is there.
        checkpoint: The bytes of its largest checkpoint.
        scratch: The bytes of other files that it needs while it runs.
    """
    there = sum(path.stat().st_size for path in (folder / "checkpoints").glob("*.pt"))
    needed, free = CHECKPOINTS * checkpoint + scratch, shutil.disk_usage(folder).free + there
    told = f"checkpoints take up to {size(CHECKPOINTS * checkpoint)} of disk, {CHECKPOINTS} of them at a time"
    if scratch:
        told += f", and the replay buffer {size(scratch)}"
    if needed > free:
        return [f"warning: {told}; {size(free)} are free at {folder}: make space, or name another --output"]
    return [told] if needed >= GIB else []


def memory_warnings(costs: Estimate, device: torch.device) -> list[str]:
    """Returns a sentence if the estimate is above a device's memory; nothing where that isn't known."""
    there = total_memory(device)
    if there is None or costs.memory / GIB <= there:
        return []
    where = "the GPU" if device.type == "cuda" else "this machine"
    stage = "vae" if costs.vae_memory >= costs.energy_memory else "energy"
    return [
        f"stage {stage} will hold about {costs.memory / GIB:.1f} GiB, {where} has {there:.1f}: lower "
        f"--{stage}.batch_size or the networks' widths, or share it among processes"
    ]
