"""Chains seen on the way: what pictures of them and measurements need, and no more, since noise fills the memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.applications import Generation, sample_chains, snapshots, start_noise
from vaebm.cli.parsing import UsageError
from vaebm.data import to_uint8
from vaebm.distributed import Engine
from vaebm.models import VAEBM
from vaebm.sampling import Kernel, pass_over

MOST_HELD = 2**28


@dataclass(frozen=True)
class ChainRecord:
    """Chains step by step: images uint8 (T, n, C, H, W), energies (T, n), steps (T,)."""

    images: NDArray[np.uint8]
    energies: NDArray[np.float64]
    steps: NDArray[np.int64]


def record_chain(
    model: VAEBM, num_images: int, num_steps: int, kernel: Kernel, generator: torch.Generator, every: int = 1
) -> ChainRecord:
    """Runs chains and keeps what they look like at every so many steps, the first and the last included."""
    noise = start_noise(model, num_images, generator)
    seen: list[Generation] = [
        look
        for look in sample_chains(model, noise, num_steps, kernel, generator)
        if look.step % every == 0 or look.step == num_steps
    ]
    images = np.stack([to_uint8(look.images) for look in seen])
    energies = np.stack([look.energies.cpu().numpy() for look in seen])
    return ChainRecord(images, energies, np.array([look.step for look in seen]))


@dataclass(frozen=True)
class Look:
    """All chains after one number of steps: images uint8 (n, C, H, W), and means of |noise|²/D and of the energy."""

    step: int
    images: Tensor
    noise_norm: float
    latent_noise_norm: float
    sample_energy: float


def watch_chains(
    model: VAEBM,
    num_images: int,
    steps: Sequence[int],
    kernel: Kernel,
    generator: torch.Generator,
    engine: Engine,
    most_held: int = MOST_HELD,
) -> list[Look]:
    """Runs chains from N(0, I), batch by batch, and keeps of each look only what is measured.

    Arguments:
        model: The VAEBM.
        num_images: How many chains there are.
        steps: Ascending numbers of steps.
        kernel: The Markov kernel.
        generator: The source of randomness.
        engine: Device, precision and processes.
        most_held: How many numbers of start noise may be held at once; if there are more, each batch is drawn when its
            turn comes.

    Raises:
        UsageError: If chains aren't numbers any more.
    """
    size, at_once = model.noise_layout.latent_size, model.largest_batch
    own = engine.deal(math.ceil(num_images / at_once))
    images = [[torch.zeros(0, *model.image_shape, dtype=torch.uint8)] for _ in steps]
    sums = torch.zeros(len(own), len(steps), 4, dtype=torch.float64)
    for place, batch in enumerate(_starts(model, num_images, generator, most_held)):
        if place not in own:
            pass_over(kernel, batch, max(steps), generator)
            continue
        seen = snapshots(model, batch, steps, kernel=kernel, generator=generator)
        for index, look in enumerate(seen):
            images[index].append(torch.from_numpy(to_uint8(look.images.cpu().nan_to_num())))
            square = look.noise.double().square()
            lost = look.images.isnan().flatten(1).any(1).double().sum()
            figures = square.mean(1).sum(), square[:, :size].mean(1).sum(), look.energies.double().sum(), lost
            sums[own.index(place), index] = torch.stack(figures).cpu()
    total = engine.gather(sums.to(engine.device)).cpu().sum(0)
    # In all processes at once, so that none waits for another.
    _check_finite(dict(zip(steps, total[:, 3].round().int().tolist(), strict=True)), num_images)
    means = (total[:, :3] / num_images).tolist()
    pixels = [engine.gather(torch.cat(parts).to(engine.device)).cpu() for parts in images]
    return [Look(step, seen, *mean) for step, seen, mean in zip(steps, pixels, means, strict=True)]


def _check_finite(lost: Mapping[int, int], num_images: int) -> None:
    """Checks how many chains aren't numbers any more after so many steps.

    Raises:
        UsageError: If some aren't.
    """
    for step, count in lost.items():
        if count:
            raise UsageError(
                f"{count:,} of {num_images:,} chains are NaN after {step} steps: expected a smaller step size, or "
                "looks after fewer steps"
            )


def _starts(model: VAEBM, num_images: int, generator: torch.Generator, most_held: int) -> Iterator[Tensor]:
    """Yields start noise, batch by batch."""
    if num_images * model.noise_layout.size <= most_held:
        yield from torch.split(start_noise(model, num_images, generator), model.largest_batch)
        return
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    fork = torch.Generator(generator.device).manual_seed(seed)
    for first in range(0, num_images, model.largest_batch):
        yield start_noise(model, min(model.largest_batch, num_images - first), fork)
