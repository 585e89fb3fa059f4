"""Both stages in memory: bytes in, a trained VAEBM out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vaebm.data import Batches
from vaebm.distributed import Engine, make_engine
from vaebm.models import VAEBM
from vaebm.recipes import Config, ConfigError, build_model
from vaebm.training import Progress, energy_step, fit, start_energy, start_vae, vae_step

__all__ = ["learn"]

NUM_INITIAL, NUM_TOLD = 128, 10


def learn(config: Config, images: Tensor, seed: int, tell: Callable[[str], None]) -> VAEBM:
    """Trains a new VAEBM, first the VAE, then its energy network.

    Arguments:
        config: The complete configuration; its device and precision are where and in which numbers is trained.
        images: uint8 (N, C, H, W), at least two.
        seed: What all randomness comes from; the same seed gives the same model on the same machine. No global seed
            is touched.
        tell: What is called with a line of figures, ten times in each stage.

    Returns:
        The model in evaluation mode, with the averaged weights, frozen, on the CPU.

    Raises:
        ConfigError: If a loss becomes infinite or NaN, or there is no such network for these images.
        EngineError: If there is no such device.
    """
    engine = make_engine(config.precision, config.device)
    seeds = iter(range(seed, seed + 6))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(next(seeds))
        model = build_model(config, images.shape[1:])
    model.to(engine.device)
    _learn_vae(model, config, engine, images, seeds, tell)
    _learn_energy(model, config, engine, images, seeds, tell)
    return model.cpu().eval().requires_grad_(False)


def _learn_vae(
    model: VAEBM, config: Config, engine: Engine, images: Tensor, seeds: Iterator[int], tell: Callable[[str], None]
) -> None:
    settings = config.vae
    batches = Batches(images, settings.batch_size, _generator(seeds))
    state = start_vae(model.vae, settings, _generator(seeds))
    steps = fit(vae_step(model.vae, settings, engine), state, batches, settings.num_iterations)
    last = _watched(steps, "vae", settings.num_iterations, settings.learning_rate, tell)
    if last.average:
        model.vae.load_state_dict(last.average)


def _learn_energy(
    model: VAEBM, config: Config, engine: Engine, images: Tensor, seeds: Iterator[int], tell: Callable[[str], None]
) -> None:
    settings = config.energy
    batches = Batches(images, settings.batch_size, _generator(seeds))
    first = next(Batches(images, max(settings.batch_size, NUM_INITIAL), _generator(seeds)))
    state = start_energy(model, settings, first.to(engine.device), _generator(seeds))
    steps = fit(energy_step(model, settings, engine), state, batches, settings.num_iterations)
    last = _watched(steps, "energy", settings.num_iterations, settings.learning_rate, tell)
    model.energy.load_state_dict(last.average)


def _watched(
    steps: Iterator[Progress[Any]], stage: str, num_iterations: int, rate: float, tell: Callable[[str], None]
) -> Any:
    """Runs a stage to its end, and returns the last state."""
    shown = {"vae": ("elbo", "kl"), "energy": ("gap", "loss")}[stage]
    state: Any = None
    for state, figures in steps:
        if not math.isfinite(figures["loss"]):
            raise ConfigError(
                f"the {stage} stage diverged at iteration {state.iteration} (the loss is {figures['loss']}): "
                f"lower {stage}_learning_rate, which was {rate:g}"
            )
        if state.iteration % max(1, num_iterations // NUM_TOLD) == 0:
            told = ", ".join(f"{name} {figures[name]:.2f}" for name in shown)
            tell(f"{stage} {state.iteration}/{num_iterations}: {told}")
    return state


def _generator(seeds: Iterator[int]) -> torch.Generator:
    return torch.Generator().manual_seed(next(seeds))
