"""What training and measuring cost on this machine: some fifteen seconds of trying, before a run is planned."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vaebm.applications import in_float64, outlier_scores, snapshots, start_noise
from vaebm.data import Batches, to_float
from vaebm.distributed import Engine
from vaebm.evaluation import Judge, extract
from vaebm.models import VAEBM
from vaebm.recipes import Config, build_model
from vaebm.recipes.images import Costs
from vaebm.training import energy_step, start_energy, start_vae, vae_step

SECONDS, MOST_REPEATS = 2.0, 20
NUM_IMAGES, NUM_STEPS, NUM_JUDGED, NUM_EXACT, LONG = 64, 4, 32, 16, 10**6


def measure_costs(config: Config, images: Tensor, judge: Judge | None, engine: Engine) -> Costs:
    """Measures what work costs with the networks of a configuration; the networks are thrown away.

    Arguments:
        config: The configuration.
        images: Training images, uint8 (N, C, H, W).
        judge: What samples are judged by, or None.
        engine: Device and precision.
    """
    torch.manual_seed(config.seed)
    model = build_model(config, images.shape[1:]).to(engine.device)
    vae_iteration = _iteration(_vae(model, config, engine), images, config.vae.batch_size)
    energy_iteration = _iteration(_energy(model, config, engine, images), images, config.energy.batch_size)
    model.eval().requires_grad_(False)
    noise = start_noise(model, NUM_IMAGES, _generator())
    kernel = config.sampling.kernel

    def chains() -> None:
        with engine.autocast():
            list(snapshots(model, noise, (NUM_STEPS,), kernel=kernel, generator=_generator()))

    some, exact = to_float(images[:NUM_IMAGES]), in_float64(model)
    scoring = _seconds(lambda: outlier_scores(model, some, generator=_generator()))
    few = some[:NUM_EXACT]
    deciding = _seconds(lambda: outlier_scores(exact, few, generator=_generator()))
    seen = some[:NUM_JUDGED]
    return Costs(
        vae_iteration=vae_iteration,
        energy_iteration=energy_iteration,
        chain_step=_seconds(chains) / (NUM_STEPS * NUM_IMAGES),
        scored_image=scoring / len(some),
        decided_image=deciding / len(few),
        judged_image=0.0 if judge is None else _seconds(lambda: extract(judge, seen)) / len(seen),
    )


def _vae(model: VAEBM, config: Config, engine: Engine) -> tuple[Callable[..., Any], Any]:
    settings = replace(config.vae, num_iterations=LONG)
    return vae_step(model.vae, settings, engine), start_vae(model.vae, settings, _generator())


def _energy(model: VAEBM, config: Config, engine: Engine, images: Tensor) -> tuple[Callable[..., Any], Any]:
    settings = replace(config.energy, num_iterations=LONG)
    first = next(Batches(images, max(2, NUM_IMAGES), _generator()))
    return energy_step(model, settings, engine), start_energy(model, settings, first.to(engine.device), _generator())


def _iteration(stage: tuple[Callable[..., Any], Any], images: Tensor, batch_size: int) -> float:
    step, state = stage
    batches = Batches(images, batch_size, _generator())
    return _seconds(lambda: step(state, next(batches)))


def _seconds(work: Callable[[], object]) -> float:
    """Returns the mean time of some repeats; the first one, which also sets things up, isn't counted."""
    work()
    begin, repeats = time.monotonic(), 0
    while repeats < MOST_REPEATS and (repeats == 0 or time.monotonic() - begin < SECONDS):
        work()
        repeats += 1
    return (time.monotonic() - begin) / repeats


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
