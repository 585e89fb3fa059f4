"""What stage 2 takes from data, chains and the frozen VAE in each iteration: start points, negatives, positives.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from vaebm.distributed import Engine
from vaebm.models import VAEBM, EnergyNetwork, FoldedEnergy, FoldedNVAE, can_fold
from vaebm.nn import frozen
from vaebm.sampling import (
    FreshNoise,
    Jump,
    Kernel,
    Langevin,
    LogDensity,
    Mala,
    Mixture,
    draw_start,
    grad_log_density,
    run_chain,
    standard_normal,
)
from vaebm.training.energy_state import EnergySettings, EnergyState

KERNELS = ("langevin", "mala")
POTENTIALS = ("exact", "official")


def make_kernel(name: str, step_size: float, jump_probability: float = 0.0, persistence: float = 0.0) -> Kernel:
    """Returns the kernel of a name, mixed with independent jumps if asked for.

    Arguments:
        name: ``langevin`` or ``mala``.
        step_size: The step size η.
        jump_probability: How often a step is a jump from N(0, I).
        persistence: How much of their momentum chains keep from step to step; ``langevin`` without jumps only.

    Raises:
        ValueError: If there is no kernel of this name, or one that can't keep momentum should.

    Example:
        >>> make_kernel("mala", 0.1)
        Mala(step_size=0.1)
    """
    if name not in KERNELS:
        raise ValueError(f"kernel is {name!r}: expected one of {', '.join(KERNELS)}")
    if persistence and (name != "langevin" or jump_probability):
        raise ValueError(
            f"persistence is {persistence:g}: only langevin without jumps keeps momentum, expected 0 for "
            f"{name} with a jump_probability of {jump_probability:g}"
        )
    local: Kernel = Mala(step_size) if name == "mala" else Langevin(step_size, persistence)
    if jump_probability == 0:
        return local
    return Jump() if jump_probability == 1 else Mixture((local, Jump()), (1 - jump_probability, jump_probability))


def log_density_of(model: VAEBM, potential: str) -> LogDensity:
    """Returns what chains follow: the ``exact`` log-density, or the ``official`` release's.

    Raises:
        ValueError: If there is no potential of this name.
    """
    if potential not in POTENTIALS:
        raise ValueError(f"potential is {potential!r}: expected one of {', '.join(POTENTIALS)}")
    return model.log_density if potential == "exact" else model.official_log_density


def chain_models(model: VAEBM, engine: Engine, is_compiled: bool = False) -> Callable[[], VAEBM]:
    """Returns what gives the form that chains follow: the VAE, which stays, is folded once, the energy network anew.

    Arguments:
        model: The VAEBM, its VAE frozen.
        engine: Device, precision and processes.
        is_compiled: Whether the folded decoder is compiled; a VAE that can't be folded stays as it is.
    """
    if not can_fold(model):
        return lambda: model
    dtype = torch.bfloat16 if engine.precision == "bf16" else next(model.parameters()).dtype
    vae = FoldedNVAE(model.vae, dtype)
    if is_compiled:
        vae.decode = torch.compile(vae.decode)  # type: ignore[method-assign]
    return lambda: VAEBM(vae, FoldedEnergy(cast(EnergyNetwork, model.energy), dtype), model.image_fields)


@dataclass(frozen=True)
class Chains:
    """Where the chains of an iteration ended, noise (B, D), and figures of them."""

    noise: Tensor
    figures: dict[str, float]


def positive_images(
    model: VAEBM,
    settings: EnergySettings,
    engine: Engine,
    images: Tensor,
    generator: torch.Generator,
    is_noisy: bool,
) -> Tensor:
    """Returns this process's data, (n, C, H, W), with the pixel noise of the VAE if it is matched.

    The scale is that of the posterior's mean; a VAE whose ``constant_scale`` says that all are one isn't asked. An NVAE
    is as dear as a step of the chains, so it runs in their type.

    Arguments:
        model: The VAEBM.
        settings: Whether noise is matched.
        engine: Device, precision and processes.
        images: The global batch of data (B, C, H, W).
        generator: The source of the noise.
        is_noisy: Whether the negatives have pixel noise.
    """
    noise = torch.randn(images.shape, generator=generator, device=generator.device)
    images, noise = engine.slice(images.to(engine.device)), engine.slice(noise.to(engine.device))
    if not settings.matched_noise or not is_noisy:
        return images
    constant: float | None = getattr(model.vae, "constant_scale", None)
    if constant is not None:
        return images + constant * noise
    with torch.no_grad(), engine.autocast() if can_fold(model) else nullcontext():
        posterior_noise = images.new_zeros(len(images), model.noise_layout.latent_size)
        scale: Tensor = model.vae.elbo_terms(images, posterior_noise).scale
    return images + scale * noise


def _shared(log_density: LogDensity, engine: Engine) -> LogDensity:
    def shared(noise: Tensor, /) -> Tensor:
        own = grad_log_density(log_density, engine.slice(noise))
        # A plane through the gathered values, with the gathered gradients as its slope.
        rise = (noise - noise.detach()) * engine.gather(own.grad, len(noise))
        return engine.gather(own.value, len(noise)) + rise.sum(1)

    return log_density if engine.num_processes == 1 else shared


def run_chains(
    model: VAEBM,
    settings: EnergySettings,
    engine: Engine,
    kernel: Kernel,
    state: EnergyState,
    fresh: FreshNoise = standard_normal,
) -> Chains:
    """Runs the chains of an iteration, from the buffer or from fresh noise, all of them in every process."""
    shape = (settings.batch_size, model.noise_layout.size)
    probability = settings.replay_probability
    if settings.replay_rise > 0:
        probability *= min(1.0, state.iteration / (settings.replay_rise * settings.num_iterations))
    start = draw_start(state.buffer, shape, probability, state.generator, fresh)
    noise = begin = start.noise.to(engine.device)
    grad_norm = noise.new_full((1,), torch.nan)
    accepted: list[Tensor] = []
    followed: list[Tensor] = []
    log_density = _shared(log_density_of(model, settings.potential), engine)
    with frozen(model.energy), engine.autocast():
        for chain_step in run_chain(kernel, begin, log_density, settings.num_steps, state.generator):
            noise, info = chain_step.state.noise, chain_step.info
            # A jump takes no gradient: that of the last step which took one is shown.
            grad_norm = grad_norm if info.grad_norm.isnan().all() else info.grad_norm
            accepted.append(info.acceptance.mean())
            if info.earlier_acceptance is not None:
                followed.append(info.earlier_acceptance.mean())
    figures = {
        "noise_norm": float(noise.square().mean(dtype=torch.float64)),
        "displacement": float((noise - begin).square().mean(dtype=torch.float64).sqrt()),
        "chain_grad_norm": float(grad_norm.mean()),
        "acceptance": float(torch.stack(accepted).mean()),
        "would_accept": float(torch.stack(followed).mean()) if followed else math.nan,
        "num_replayed": float(start.num_replayed),
    }
    return Chains(noise, figures)


def negative_images(model: VAEBM, engine: Engine, noise: Tensor) -> Tensor:
    """Returns this process's images (n, C, H, W) of the noise (B, D) at the end of the chains."""
    with torch.no_grad(), engine.autocast():
        transported = model.transport(engine.slice(noise))
        return transported.pick(model.image_fields.loss_image).float()
