"""Both stages on a density of the plane: what they record, and by what the energy network is chosen and guarded.

In few dimensions the weights exp(−E) of the VAE's draws x tell the normaliser, and with it by how many nats held-out
points y are more likely than under the VAE:

    density gain = −mean E(y) − log mean exp(−E(x)).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vaebm.applications import start_noise
from vaebm.checkpoint import RunFolder
from vaebm.cli.parsing import UsageError
from vaebm.cli.progress import CollapseWatch, Console
from vaebm.data import PlanarDensity
from vaebm.distributed import make_engine
from vaebm.models import VAEBM
from vaebm.recipes import PlanarConfig
from vaebm.training import (
    Act,
    EnergySettings,
    Guarded,
    Progress,
    energy_step,
    fit,
    guarded_fit,
    start_energy,
    start_vae,
    vae_step,
)

NUM_INITIAL, NUM_HELD_OUT, GAIN_EVERY = 512, 20_000, 50
_PURPOSES = ("vae batches", "vae noise", "energy batches", "energy noise", "energy initialization", "selection")


def train_planar_vae(
    model: VAEBM, config: PlanarConfig, density: PlanarDensity, folder: RunFolder, console: Console
) -> list[Act]:
    """Trains the VAE; no guard acts on it."""
    settings, engine = config.vae, make_engine("fp32", "cpu")
    batches = _batches(density, settings.batch_size, _generator(config.seed, "vae batches"))
    state = start_vae(model.vae, settings, _generator(config.seed, "vae noise"))
    iterations = fit(vae_step(model.vae, settings, engine), state, batches, settings.num_iterations)
    state = _drive("vae", iterations, settings.num_iterations, config, folder, console)
    if state.average:
        model.vae.load_state_dict(state.average)
    return []


def train_planar_energy(
    model: VAEBM, config: PlanarConfig, density: PlanarDensity, folder: RunFolder, console: Console
) -> list[Act]:
    """Trains the energy network; under guard the model gets the averaged weights with the largest density gain.

    Returns:
        What the guard did.
    """
    settings, engine = config.energy, make_engine("fp32", "cpu")
    batches = _batches(density, settings.batch_size, _generator(config.seed, "energy batches"))
    first = density.to_images(density.sample(NUM_INITIAL, _generator(config.seed, "energy initialization")))
    state = start_energy(model, settings, first, _generator(config.seed, "energy noise"))
    best = _Best(held_out(model, density, _generator(config.seed, "selection")))

    def make_step(changed: EnergySettings) -> Callable[[Any, Tensor], Progress[Any]]:
        return with_gain(energy_step(model, changed, engine), best, settings.num_iterations)

    acts: list[Act] = []
    iterations = guarded_fit(model, settings, make_step, state, batches, config.guard)
    state = _drive("energy", iterations, settings.num_iterations, config, folder, console, acts)
    # Nothing is chosen where the guard only tells: it shows what training comes to by itself.
    chosen = best.average if config.guard.rolls_back and best.average else state.average
    model.energy.load_state_dict(chosen)
    return acts


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out points and draws of the VAE, images (N, 2, 1, 1) each, and an energy network to try weights on."""

    points: Tensor
    draws: Tensor
    energy: nn.Module

    @torch.no_grad()
    def gain(self, weights: dict[str, Tensor]) -> float:
        """Returns by how many nats the points are more likely than under the VAE, with these weights of the energy."""
        self.energy.load_state_dict(weights)
        on_points, on_draws = self.energy(self.points).double(), self.energy(self.draws).double()
        log_z = torch.logsumexp(-on_draws, 0) - math.log(len(on_draws))
        return float(-on_points.mean() - log_z)


def held_out(model: VAEBM, density: PlanarDensity, generator: torch.Generator) -> HeldOut:
    """Draws points of the density and of the VAE.

    Arguments:
        model: The VAEBM, its VAE trained.
        density: The true density.
        generator: The source of randomness.
    """
    points = density.to_images(density.sample(NUM_HELD_OUT, generator)).to(next(model.parameters()))
    with torch.no_grad():
        draws = model.transport(start_noise(model, NUM_HELD_OUT, generator)).image
    return HeldOut(points, draws, copy.deepcopy(model.energy).requires_grad_(False).eval())


@dataclass
class _Best:
    """The averaged weights with the largest density gain so far."""

    held_out: HeldOut
    gain: float = -math.inf
    average: dict[str, Tensor] = field(default_factory=dict)

    def look(self, average: dict[str, Tensor]) -> float:
        """Measures weights, and keeps them if they are the best; returns their gain."""
        gain = self.held_out.gain(average)
        if math.isfinite(gain) and gain > self.gain:
            self.gain, self.average = gain, {name: value.clone() for name, value in average.items()}
        return gain


def with_gain(
    step: Callable[[Any, Tensor], Progress[Any]], best: _Best, num_iterations: int
) -> Callable[[Any, Tensor], Progress[Any]]:
    """Returns a step that tells the density gain of every fiftieth iteration and of the last one."""

    def looked(state: Any, images: Tensor) -> Progress[Any]:
        progress = step(state, images)
        iteration = progress.state.iteration
        if iteration % GAIN_EVERY and iteration != num_iterations:
            return progress
        return Progress(progress.state, {**progress.figures, "density_gain": best.look(progress.state.average)})

    return looked


def _drive(
    stage: str,
    iterations: Iterator[Any],
    num_iterations: int,
    config: PlanarConfig,
    folder: RunFolder,
    console: Console,
    acts: list[Act] | None = None,
) -> Any:
    """Runs a stage and records it; what the guard does goes into ``acts``; returns the last state."""
    watch, condition = CollapseWatch(console.tell), "healthy"
    with console.stage(stage, 0, num_iterations) as show:
        for progress in iterations:
            state, figures = progress.state, progress.figures
            if isinstance(progress, Guarded):
                if progress.act is not None and acts is not None:
                    acts.append(progress.act)
                    _record_act(progress.act, figures, folder, console)
                    continue
                condition = _tell_change(progress, condition, console)
            show(state.iteration, figures)
            watch(state.iteration, figures)
            if not math.isfinite(figures["loss"]):
                raise UsageError(
                    f"stage {stage} diverged at iteration {state.iteration} (the loss is {figures['loss']}): "
                    f"start anew with a lower --{stage}.learning_rate"
                )
            if state.iteration % config.report_every == 0 or state.iteration == num_iterations:
                folder.append_metrics({"stage": stage, "iteration": state.iteration, **figures})
    return state


def _record_act(act: Act, figures: dict[str, float], folder: RunFolder, console: Console) -> None:
    if not math.isfinite(figures["loss"]):
        folder.append_metrics({"stage": "energy", "iteration": act.iteration, "is_undone": True, **figures})
    console.tell(act.text())
    folder.append_metrics({"stage": "guard", **act.row()})


def _tell_change(progress: Guarded, known: str, console: Console) -> str:
    """Tells the condition of stage 2 if it is another one than was known, and returns it."""
    condition, reasons = progress.verdict.condition, "; ".join(progress.verdict.reasons)
    if condition != known:
        console.tell(f"iteration {progress.state.iteration}: {condition}" + (f" ({reasons})" if reasons else ""))
    return condition


def _batches(density: PlanarDensity, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield density.to_images(density.sample(batch_size, generator))


def _generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1000 + _PURPOSES.index(purpose) + 1)
