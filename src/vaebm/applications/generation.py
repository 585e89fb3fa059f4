"""Images from noise: short Langevin chains on log h, then the output image.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vaebm.distributed import Engine
from vaebm.models import VAEBM, for_chains
from vaebm.nn import frozen
from vaebm.sampling import Kernel, Langevin, pass_over, run_chain


class Generation(NamedTuple):
    """Chains at one moment.

    After ``step`` steps (0 is the start): noise (B, D), images (B, C, H, W) in [−1, 1], and energies (B,) of the images
    that the energy sees.
    """

    step: int
    noise: Tensor
    images: Tensor
    energies: Tensor


def _look(model: VAEBM, step: int, noise: Tensor) -> Generation:
    with torch.no_grad():
        transported = model.transport(noise)
        images = transported.pick(model.image_fields.output_image).float().clamp(-1, 1)
        return Generation(step, noise, images, model.energy(transported.image).double())


def start_noise(model: VAEBM, num_images: int, generator: torch.Generator) -> Tensor:
    """Draws standard-normal noise (num_images, D) on the model's device."""
    device = next(model.parameters()).device
    return torch.randn(num_images, model.noise_layout.size, generator=generator, device=generator.device).to(device)


def sample_chains(
    model: VAEBM, noise: Tensor, num_steps: int, kernel: Kernel, generator: torch.Generator
) -> Iterator[Generation]:
    """Runs chains and yields images and energies at the start and after every step.

    Arguments:
        model: The VAEBM.
        noise: The start points, shape (B, D).
        num_steps: The number of steps.
        kernel: The Markov kernel.
        generator: The source of randomness.
    """
    model = for_chains(model)
    yield _look(model, 0, noise)
    for step in run_chain(kernel, noise, model.log_density, num_steps, generator):
        yield _look(model, step.number, step.state.noise)


def generate(
    model: VAEBM,
    num_images: int,
    *,
    generator: torch.Generator,
    num_steps: int | None = None,
    step_size: float | None = None,
    persistence: float | None = None,
    kernel: Kernel | None = None,
    noise: Tensor | None = None,
    batch_size: int | None = None,
    engine: Engine | None = None,
) -> Tensor:
    """Generates images.

    Arguments:
        model: The VAEBM.
        num_images: The number N of images.
        generator: The source of randomness; start noise is drawn from it too.
        num_steps: The number of kernel steps, by default the model's; 0 gives the VAE's samples.
        step_size: The step size η of Langevin, by default the model's; not used with a kernel of your own.
        persistence: How much of their momentum chains keep, by default the model's (0 if it stores none); nor this.
        kernel: The Markov kernel, by default Langevin.
        noise: Start points (N, D), by default standard-normal.
        batch_size: The number of chains that run at once, by default the model's ``largest_batch``; another one deals
            the same randomness out differently.
        engine: Shares the batches among launched processes; each of them gets all images.

    Returns:
        Images (N, C, H, W) in [−1, 1], float32.

    Raises:
        ValueError: If the noise has another shape, or the model has no defaults and none are given.
    """
    count = model.sampling.get("num_steps") if num_steps is None else num_steps
    size = model.sampling.get("step_size") if step_size is None else step_size
    if kernel is None and size is not None:
        kernel = Langevin(size, model.sampling.get("persistence", 0.0) if persistence is None else persistence)
    if count is None or kernel is None:
        raise ValueError("the model stores no sampling defaults: give num_steps and step_size")
    start = start_noise(model, num_images, generator) if noise is None else noise
    if start.shape != (num_images, model.noise_layout.size):
        raise ValueError(f"noise has shape {tuple(start.shape)}: expected ({num_images}, {model.noise_layout.size})")
    (seen,) = snapshots(
        model, start, (count,), kernel=kernel, generator=generator, batch_size=batch_size, engine=engine
    )
    return seen.images


def snapshots(
    model: VAEBM,
    noise: Tensor,
    num_steps: Sequence[int],
    *,
    kernel: Kernel,
    generator: torch.Generator,
    batch_size: int | None = None,
    engine: Engine | None = None,
) -> list[Generation]:
    """Runs the same chains once and looks at them after several numbers of steps.

    Arguments:
        model: The VAEBM.
        noise: Start points, shape (N, D).
        num_steps: Ascending numbers of steps, 0 for the start.
        kernel: The Markov kernel.
        generator: The source of randomness.
        batch_size: The number of chains that run at once, by default the model's ``largest_batch``.
        engine: Shares the batches among launched processes; each of them gets all chains.

    Returns:
        All N chains at each of the numbers of steps.

    Raises:
        ValueError: If the numbers of steps don't ascend from 0 or more.
    """
    if list(num_steps) != sorted(num_steps) or min(num_steps, default=0) < 0:
        raise ValueError(f"num_steps is {tuple(num_steps)}: expected ascending numbers, none below 0")
    with frozen(model):
        fast = for_chains(model)
        batches, parts = torch.split(noise, batch_size or model.largest_batch), []
        own = range(len(batches)) if engine is None else engine.deal(len(batches))
        for place, start in enumerate(batches):
            if place in own:
                parts.append(_snapshots(fast, start, num_steps, kernel, generator))
            else:
                pass_over(kernel, start, max(num_steps, default=0), generator)
        parts = parts or [[_nothing(model, noise)] * len(num_steps)]
    looks = [_join([part[index] for part in parts], number) for index, number in enumerate(num_steps)]
    return looks if engine is None else [_gathered(look, engine) for look in looks]


def _snapshots(
    model: VAEBM, start: Tensor, num_steps: Sequence[int], kernel: Kernel, generator: torch.Generator
) -> list[Generation]:
    # One chain through all looks: what it carries from step to step, such as momentum, isn't lost at a look.
    found = {0: _look(model, 0, start)} if 0 in num_steps else {}
    for step in run_chain(kernel, start, model.log_density, max(num_steps, default=0), generator):
        if step.number in num_steps:
            found[step.number] = _look(model, step.number, step.state.noise)
    return [found[number] for number in num_steps]


def _nothing(model: VAEBM, noise: Tensor) -> Generation:
    """Returns what a process without a batch has."""
    images = noise.new_zeros(0, *model.image_shape, dtype=torch.float32)
    return Generation(0, noise[:0], images, noise.new_zeros(0, dtype=torch.float64))


def _gathered(look: Generation, engine: Engine) -> Generation:
    return Generation(look.step, *(engine.gather(rows) for rows in (look.noise, look.images, look.energies)))


def _join(parts: list[Generation], step: int) -> Generation:
    noise, images = torch.cat([part.noise for part in parts]), torch.cat([part.images for part in parts])
    return Generation(step, noise, images, torch.cat([part.energies for part in parts]))
