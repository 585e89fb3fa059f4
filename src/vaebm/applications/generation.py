"""Images from noise: short Langevin chains on log h, then the output image.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vaebm.models import VAEBM
from vaebm.sampling import Kernel, Langevin, run_chain


class Generation(NamedTuple):
    """Chains at one moment: step (0 is the start), noise (B, D), images (B, C, H, W) in [−1, 1], energies (B,) of what the energy sees."""

    step: int
    noise: Tensor
    images: Tensor
    energies: Tensor


def _look(model: VAEBM, step: int, noise: Tensor) -> Generation:
    with torch.no_grad():
        transported = model.transport(noise)
        images = transported.pick(model.image_fields.output_image).clamp(-1, 1)
        return Generation(step, noise, images, model.energy(transported.image).double())


def start_noise(model: VAEBM, num_images: int, generator: torch.Generator) -> Tensor:
    """Draws standard-normal noise (num_images, D) on the model's device."""
    device = next(model.parameters()).device
    return torch.randn(num_images, model.noise_layout.size, generator=generator, device=generator.device).to(device)


def sample_chains(model: VAEBM, noise: Tensor, num_steps: int, kernel: Kernel, generator: torch.Generator) -> Iterator[Generation]:
    """Runs chains and yields images and energies at the start and after every step.

    Arguments:
        model: The VAEBM.
        noise: The start points, shape (B, D).
        num_steps: The number of steps.
        kernel: The Markov kernel.
        generator: The source of randomness.
    """
    yield _look(model, 0, noise)
    for step in run_chain(kernel, noise, model.log_density, num_steps, generator):
        yield _look(model, step.number, step.state.noise)


def generate(
    model: VAEBM,
    num_images: int,
    *,
    num_steps: int,
    step_size: float,
    generator: torch.Generator,
    kernel: Kernel | None = None,
    noise: Tensor | None = None,
    batch_size: int = 250,
) -> Tensor:
    """Generates images.

    Arguments:
        model: The VAEBM.
        num_images: The number N of images.
        num_steps: The number of kernel steps; 0 gives the VAE's samples.
        step_size: The step size η of Langevin; not used with a kernel of your own.
        generator: The source of randomness; start noise is drawn from it too.
        kernel: The Markov kernel, by default Langevin.
        noise: Start points (N, D), by default standard-normal.
        batch_size: The number of chains that run at once.

    Returns:
        Images (N, C, H, W) in [−1, 1], float32.

    Raises:
        ValueError: If the noise has another shape.
    """
    start = start_noise(model, num_images, generator) if noise is None else noise
    if start.shape != (num_images, model.noise_layout.size):
        raise ValueError(f"noise has shape {tuple(start.shape)}: expected ({num_images}, {model.noise_layout.size})")
    chosen = kernel or Langevin(step_size)
    frozen = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)
    images = []
    for part in start.split(batch_size):
        end = part
        for step in run_chain(chosen, part, model.log_density, num_steps, generator):
            end = step.state.noise
        images.append(_look(model, num_steps, end).images)
    for parameter, flag in zip(model.parameters(), frozen, strict=True):
        parameter.requires_grad_(flag)
    return torch.cat(images) if images else torch.zeros(0, *model.image_shape)


def generate_from_vae(model: VAEBM, noise: Tensor, batch_size: int = 1000) -> Tensor:
    """Returns the VAE's own images (N, C, H, W) in [−1, 1] at noise (N, D): a chain of no steps."""
    return torch.cat([_look(model, 0, part).images for part in noise.split(batch_size)])
