"""Both stages on a density of the plane, driven, recorded and checkpointed as those of images are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from vaebm.cli.planar_gain import HeldOut, flat_text, held_out, is_flat, with_gain
from vaebm.cli.planar_run import PlanarRun, PointBatches
from vaebm.cli.running import save_checkpoint
from vaebm.cli.stages import Stage, Watch, agreed, drive
from vaebm.data import PlanarDensity, planar_density
from vaebm.training import (
    EnergySettings,
    Progress,
    energy_step,
    fit,
    guarded_fit,
    start_energy,
    start_vae,
    vae_step,
)

NUM_INITIAL = 512
_PURPOSES = ("vae batches", "vae noise", "energy batches", "energy noise", "energy initialization", "selection")


def train_planar(run: PlanarRun) -> None:
    """Trains both stages, from where the run's checkpoint stands.

    Under guard the model ends with the averaged energy network of the largest density gain, else with the last one.

    Raises:
        Interrupted: If a signal asked to stop; the checkpoint is written.
        UsageError: If a stage diverges.
        CheckpointError: If the checkpoint doesn't fit the configuration.
    """
    stored, density = run.stored, planar_density(run.config.density)
    stage = stored.get("stage", "vae")
    if stage == "vae":
        _train_vae(run, density, stored)
        stored = {}
    if stage in ("vae", "energy"):
        _train_energy(run, density, stored)
        save_checkpoint(run, "trained")


def _train_vae(run: PlanarRun, density: PlanarDensity, stored: dict[str, Any]) -> None:
    settings, vae = run.config.vae, run.model.vae
    batches = PointBatches(density, settings.batch_size, _generator(run, "vae batches"))
    start = start_vae(vae, settings, _generator(run, "vae noise"))
    step, last = agreed(vae_step(vae, settings, run.engine), run.engine), settings.num_iterations

    def iterations(state: Any) -> Iterator[Any]:
        return fit(step, state, batches, last)

    stage = Stage("vae", iterations, start, cast(Any, batches), last, _look_at_nothing, lambda progress: False)
    state = drive(run, stage, stored)
    if state.average:
        vae.load_state_dict(state.average)


def _train_energy(run: PlanarRun, density: PlanarDensity, stored: dict[str, Any]) -> None:
    settings, last = run.config.energy, run.config.energy.num_iterations
    batches = PointBatches(density, settings.batch_size, _generator(run, "energy batches"))
    first = density.to_images(density.sample(NUM_INITIAL, _generator(run, "energy initialization")))
    weights = copy.deepcopy(run.model.state_dict())
    start = start_energy(run.model, settings, first, _generator(run, "energy noise"))
    if stored:
        # start_energy has initialised the network from data once more.
        run.model.load_state_dict(weights)
    held = held_out(run.model, density, _generator(run, "selection"))

    def make_step(changed: EnergySettings) -> Callable[[Any, Tensor], Progress[Any]]:
        step = energy_step(run.model, changed, run.engine)
        return agreed(with_gain(step, lambda state: _keep_better(run, held, state), last), run.engine)

    def iterations(state: Any) -> Iterator[Any]:
        return guarded_fit(run.model, settings, make_step, state, batches, run.config.guard, run.guard)

    stage = Stage("energy", iterations, start, cast(Any, batches), last, _look_at_nothing, Watch(run))
    state = drive(run, stage, stored)
    # Nothing is chosen where the guard only tells: it shows what training comes to by itself.
    kept = run.best.get("energy", state.average) if run.config.guard.rolls_back else state.average
    run.model.energy.load_state_dict(kept)
    run.best = {"gain": _gain(run, held, kept)}
    if is_flat(run.best["gain"]):
        run.console.tell(flat_text(run.best["gain"], settings, () if run.guard is None else run.guard.acts))


def _keep_better(run: PlanarRun, held: HeldOut, state: Any) -> float:
    """Measures the averaged weights of a state, and keeps them if they are the best so far; returns their gain."""
    gain = _gain(run, held, state.average)
    if math.isfinite(gain) and gain > run.best.get("gain", -math.inf):
        energy = {name: value.clone() for name, value in state.average.items()}
        run.best = {"gain": gain, "iteration": state.iteration, "energy": energy}
    return gain


def _gain(run: PlanarRun, held: HeldOut, weights: dict[str, Tensor]) -> float:
    # On another machine it may differ in the last bits.
    (gain,) = run.engine.from_main([held.gain(weights)])
    return gain


def _look_at_nothing(state: Any) -> bool:
    """Ends no stage early."""
    del state
    return False


def _generator(run: PlanarRun, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(run.config.seed * 1000 + _PURPOSES.index(purpose) + 1)
