"""Both training stages of a run: they drive ``fit``, record, checkpoint, and stop when asked to."""

from __future__ import annotations

import copy
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from vaebm.applications import snapshots, start_noise
from vaebm.checkpoint import RunFolder
from vaebm.cli.progress import Console
from vaebm.data import Batches, Splits, to_float, to_uint8
from vaebm.distributed import Engine
from vaebm.evaluation import Judge, frechet_to_reference, make_reference
from vaebm.models import VAEBM
from vaebm.plots import image_grid, png_bytes
from vaebm.recipes.config import Config
from vaebm.sampling import Langevin
from vaebm.training import Progress, energy_step, fit, start_energy, start_vae, vae_step

CHECKPOINT = "last"
NUM_GRID = 64


class Interrupted(Exception):
    """A signal asked the run to stop; everything is saved."""


@dataclass
class StopRequest:
    """Whether a signal has asked the run to stop."""

    name: str = ""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turns the first SIGINT or SIGTERM into a request; a second SIGINT interrupts at once."""

        def note(number: int, frame: FrameType | None) -> None:
            if self.name:
                raise KeyboardInterrupt
            self.name = signal.Signals(number).name

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass
class Run:
    """One training run: what both stages need, and what the checkpoint holds besides their states."""

    folder: RunFolder
    config: Config
    engine: Engine
    splits: Splits
    model: VAEBM
    judges: list[Judge]
    console: Console
    stop: StopRequest
    stored: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time of each stage so far."""
        seconds: dict[str, float] = self.stored.setdefault("seconds", {})
        return seconds

    def generator(self, purpose: int) -> torch.Generator:
        """Returns a generator for one purpose, seeded by the run's seed."""
        return torch.Generator().manual_seed(self.config.seed * 1000 + purpose)


def train_stages(run: Run) -> None:
    """Trains both stages, from where the checkpoint stands; the model ends with the chosen energy network.

    Raises:
        Interrupted: If a signal asked to stop; the checkpoint is written.
    """
    stage = run.stored.get("stage", "vae")
    if "model" in run.stored:
        run.model.load_state_dict(run.stored["model"])
    images = torch.from_numpy(run.splits.training.images)
    if stage == "vae":
        _train_vae(run, images)
        run.stored = {"stage": "energy", "seconds": run.seconds}
    if stage in ("vae", "energy"):
        _train_energy(run, images)


def _train_vae(run: Run, images: Tensor) -> None:
    settings = run.config.vae
    batches = Batches(images, settings.batch_size, run.generator(1))
    state = start_vae(run.model.vae, settings, run.generator(2))
    step = vae_step(run.model.vae, settings, run.engine)
    grid_noise = start_noise(run.model, NUM_GRID, run.generator(3))
    state = _drive(run, "vae", step, state, batches, settings.num_iterations, lambda: _grid(run, run.model, grid_noise, 0))
    if state.average:
        run.model.vae.load_state_dict(state.average)


def _train_energy(run: Run, images: Tensor) -> None:
    settings = run.config.energy
    batches = Batches(images, settings.batch_size, run.generator(4))
    first = next(Batches(images, max(settings.batch_size, 128), run.generator(5))).to(run.engine.device)
    resumed = "state" in run.stored
    weights = copy.deepcopy(run.model.state_dict()) if resumed else {}
    state = start_energy(run.model, settings, first, run.generator(6))
    if resumed:
        run.model.load_state_dict(weights)
    step = energy_step(run.model, settings, run.engine)
    grid_noise = start_noise(run.model, NUM_GRID, run.generator(3))
    select = _selector(run)
    averaged = copy.deepcopy(run.model)

    def look() -> None:
        _grid(run, averaged, grid_noise, run.config.sampling.num_steps)

    def watch(progress: Progress[Any]) -> None:
        iteration = progress.state.iteration
        due = select is not None and run.config.selection.is_due(iteration, settings.num_iterations)
        if due or iteration % run.config.sample_every == 0 or iteration == settings.num_iterations:
            averaged.energy.load_state_dict(progress.state.average)
        if due and select is not None:
            figure = select(averaged)
            run.folder.append_metrics({"stage": "selection", "iteration": iteration, "frechet": figure})
            run.console.tell(f"selection split, iteration {iteration}: Fréchet distance {figure:.2f} ({run.judges[0].name})")
            if figure < run.stored.get("best", {}).get("frechet", float("inf")):
                run.stored["best"] = {"frechet": figure, "iteration": iteration, "energy": copy.deepcopy(progress.state.average)}

    state = _drive(run, "energy", step, state, batches, settings.num_iterations, look, watch)
    chosen = run.stored.get("best", {}).get("energy", state.average)
    run.model.energy.load_state_dict(chosen)


def _drive(
    run: Run,
    stage: str,
    step: Callable[[Any, Tensor], Progress[Any]],
    state: Any,
    batches: Batches,
    num_iterations: int,
    look: Callable[[], None],
    watch: Callable[[Progress[Any]], None] | None = None,
) -> Any:
    """Runs one stage: figures, grids, checkpoints, and the end when a signal asks for it."""
    if "state" in run.stored:
        state.load_state_dict(run.stored.pop("state"))
        batches.load_state_dict(run.stored.pop("batches"))
    before, begin = run.seconds.get(stage, 0.0), time.monotonic()
    run.console.start(stage, state.iteration, num_iterations)
    try:
        for progress in fit(step, state, batches, num_iterations):
            state = progress.state
            iteration = state.iteration
            run.seconds[stage] = before + time.monotonic() - begin
            run.console.step(stage, iteration, num_iterations, progress.figures)
            last = iteration == num_iterations
            if iteration % run.config.report_every == 0 or last:
                run.folder.append_metrics({"stage": stage, "iteration": iteration, **progress.figures})
            if watch is not None:
                watch(progress)
            if iteration % run.config.sample_every == 0 or last:
                look()
            if iteration % run.config.checkpoint_every == 0 or last or run.stop.name:
                save_checkpoint(run, stage, state, batches)
            if run.stop.name:
                raise Interrupted
    finally:
        run.console.stop()
    return state


def save_checkpoint(run: Run, stage: str, state: Any = None, batches: Batches | None = None) -> None:
    """Writes all that the run needs to go on."""
    stored = {
        **{name: run.stored[name] for name in ("seconds", "best") if name in run.stored},
        "stage": stage,
        "model": run.model.state_dict(),
        "num_metrics": len(run.folder.read_metrics()),
    }
    if state is not None and batches is not None:
        stored |= {"state": state.state_dict(), "batches": batches.state_dict()}
    run.folder.save_checkpoint(CHECKPOINT, stored)


def _grid(run: Run, model: VAEBM, noise: Tensor, num_steps: int) -> None:
    stage = "energy" if num_steps else "vae"
    rows = [row for row in run.folder.read_metrics() if row["stage"] == stage]
    iteration = rows[-1]["iteration"] if rows else 0
    generator = run.generator(7)
    kernel = Langevin(run.config.sampling.step_size)
    with run.engine.autocast():
        (seen,) = snapshots(model, noise.to(run.engine.device), (num_steps,), kernel=kernel, generator=generator)
    pixels = to_uint8(seen.images)
    run.folder.save_sample(f"{stage}_{iteration:06d}", png_bytes(image_grid(pixels, 8, scale=max(1, 56 // pixels.shape[3]))))


def _selector(run: Run) -> Callable[[VAEBM], float] | None:
    """Returns a function that judges a model on the selection split, or None without judges."""
    settings = run.config.selection
    if not run.judges or settings.num_samples == 0:
        return None
    judge = run.judges[0]
    images, training = to_float(run.splits.selection.images), to_float(run.splits.training.images[: settings.num_samples])
    reference = make_reference(judge, images, training, num_samples=len(training), generator=run.generator(8))
    kernel = Langevin(run.config.sampling.step_size)

    def select(model: VAEBM) -> float:
        generator = run.generator(9)
        noise = start_noise(model, settings.num_samples, generator)
        with run.engine.autocast():
            (seen,) = snapshots(model, noise, (run.config.sampling.num_steps,), kernel=kernel, generator=generator)
        return frechet_to_reference(seen.images.cpu(), reference)

    return select
