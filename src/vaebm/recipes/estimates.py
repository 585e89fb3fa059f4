"""What a run will cost, before it starts: parameters, noise, FLOPs and memory, found without memory or arithmetic.

Networks are built on torch's ``meta`` device, where tensors have shapes and no values; one iteration of each stage is
traced there. FLOPs are those of convolutions and matrix products, forwards and backwards. Memory is what training
holds: weights, gradients, optimizer, average, replay buffer and the guard's snapshots, and the tensors that autograd
keeps for the backward pass; what an operation needs for itself comes on top, so the real peak is larger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vaebm.models import VAEBM
from vaebm.nn import set_recomputation
from vaebm.recipes.build import build_model
from vaebm.recipes.config import Config
from vaebm.training import BUFFER_DTYPES, kept_width
from vaebm.training.guard import LARGEST_COPY, MOST_SNAPSHOTS

BYTES = 4
ADAM_COPIES, ADAM_MOMENTS = 4, 2


@dataclass(frozen=True)
class Estimate:
    """What a configuration costs.

    Arguments:
        num_parameters: The number of parameters of VAE and energy network.
        latent_size: The number of latent noise entries of an image.
        noise_size: The number of all noise entries of an image.
        vae_flops: The floating-point operations of one iteration of stage 1.
        step_flops: Those of one Langevin step of one image.
        energy_flops: Those of one iteration of stage 2.
        vae_memory: The bytes that stage 1 holds.
        energy_memory: The bytes that stage 2 holds.
        checkpoint: The bytes of the largest checkpoint.
    """

    num_parameters: dict[str, int]
    latent_size: int
    noise_size: int
    vae_flops: float
    step_flops: float
    energy_flops: float
    vae_memory: float
    energy_memory: float
    checkpoint: float

    @property
    def memory(self) -> float:
        """The bytes of the larger stage."""
        return max(self.vae_memory, self.energy_memory)


def estimate(config: Config, image_shape: tuple[int, int, int]) -> Estimate:
    """Estimates what a configuration costs on images of a shape (C, H, W).

    Raises:
        ConfigError: If there are no such networks for such images.
    """
    with torch.device("meta"):
        model = build_model(config, image_shape)
        counts = {name: _size(getattr(model, name)) for name in ("vae", "energy")}
        images = torch.zeros(2, *image_shape)
        model.requires_grad_(True).train()
        set_recomputation(model.vae, config.vae.recompute)
        latent_noise = _noise(model.vae, 2)
        elbo = _trace(lambda: model.vae.elbo_terms(images, latent_noise).elbo.sum())  # noqa: PLW0108  # it is traced
        model.vae.requires_grad_(False).eval()
        set_recomputation(model.vae, False)
        update = _trace(lambda: model.energy(images).sum())
        model.requires_grad_(False)
        noise = _noise(model, 2).requires_grad_()
        step = _trace(lambda: model.log_density(noise).sum())
    vae, energy = config.vae, config.energy
    chains = energy.num_steps * energy.batch_size
    buffer = buffer_bytes(config, model)
    return Estimate(
        num_parameters=counts,
        latent_size=model.noise_layout.latent_size,
        noise_size=model.noise_layout.size,
        vae_flops=elbo.flops / 2 * vae.batch_size,
        step_flops=step.flops / 2,
        energy_flops=step.flops / 2 * chains + update.flops / 2 * 2 * energy.batch_size,
        vae_memory=BYTES * counts["vae"] * (ADAM_COPIES + bool(vae.ema_decay) + bool(config.selection.vae_every))
        + elbo.bytes / 2 * vae.batch_size,
        energy_memory=BYTES * (counts["vae"] + counts["energy"] * (ADAM_COPIES + 1))
        + (0 if energy.buffer_on_disk else buffer)
        + (_snapshot_bytes(config, BYTES * counts["energy"], buffer) if config.guard.rolls_back else 0)
        # Candidates are looked at in batches of their own.
        + max(step.bytes / 2 * max(energy.batch_size, model.largest_batch), update.bytes * energy.batch_size),
        checkpoint=checkpoint_bytes(config, model),
    )


def buffer_bytes(config: Config, model: VAEBM) -> float:
    """Returns how large the replay buffer is, in bytes."""
    settings = config.energy
    return (
        settings.buffer_size * kept_width(model.noise_layout, settings) * BUFFER_DTYPES[settings.buffer_dtype].itemsize
    )


def checkpoint_bytes(config: Config, model: VAEBM) -> float:
    """Estimates how large the largest checkpoint of a run gets, in bytes: of tensors, which are nearly all of it.

    Stage 1 keeps the weights, Adam's moments, the average and the best VAE; stage 2 the buffer and, of the energy
    network, all of that once, and once more in each of the guard's snapshots.

    Arguments:
        config: The configuration.
        model: The model, of any weights.
    """
    vae, energy = (BYTES * _size(getattr(model, name)) for name in ("vae", "energy"))
    buffer = buffer_bytes(config, model)
    best_vae = bool(config.selection.vae_every)
    first = 0 if config.initial_vae else vae * (1 + ADAM_MOMENTS + bool(config.vae.ema_decay) + best_vae) + energy
    # A buffer in a file is in the checkpoint, too.
    second = vae * (1 + best_vae) + energy * (1 + 2 + ADAM_MOMENTS) + buffer + _snapshot_bytes(config, energy, buffer)
    return max(first, second)


def _snapshot_bytes(config: Config, energy: float, buffer: float) -> float:
    """Returns how large the guard's snapshots get, of an energy network and a replay buffer of so many bytes."""
    is_copied = buffer <= LARGEST_COPY and not config.energy.buffer_on_disk
    return MOST_SNAPSHOTS * (energy * (2 + ADAM_MOMENTS) + buffer * is_copied)


@dataclass
class _Traced:
    flops: float
    bytes: float


def _trace(value: Any) -> _Traced:
    """Returns the FLOPs of a value and its gradient, and the bytes kept in between."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[id(tensor)] = tensor
        return tensor

    # torch's own count of this operation leaves out that a grouped convolution is narrow.
    mapping = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = value()
        torch.autograd.backward(result)
    return _Traced(float(counter.get_total_flops()), float(sum(t.numel() * t.element_size() for t in kept.values())))


def _convolution_backward_flops(
    gradient: torch.Size, _: torch.Size, weight: torch.Size, *others: Any, **__: Any
) -> int:
    """Returns the FLOPs of the gradients by input and weight, each of which costs as much as the convolution itself."""
    num_gradients: int = sum(others[7][:2])
    return 2 * num_gradients * gradient[0] * math.prod(gradient[2:]) * math.prod(weight)


def _noise(model: VAEBM | Any, count: int) -> Tensor:
    layout = model.noise_layout
    return torch.zeros(count, layout.size)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
