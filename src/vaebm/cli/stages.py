"""Both training stages of a run: they drive ``fit``, record, checkpoint, and stop when asked to."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaebm.applications import snapshots, start_noise
from vaebm.cli.evaluation import FEWEST_JUDGED
from vaebm.cli.parsing import UsageError
from vaebm.cli.progress import CollapseWatch
from vaebm.cli.running import Run, save_checkpoint
from vaebm.cli.stop import Interrupted
from vaebm.data import Batches, to_float, to_uint8
from vaebm.evaluation import frechet_to_reference, make_reference
from vaebm.models import VAEBM
from vaebm.plots import image_grid, png_bytes
from vaebm.sampling import Langevin
from vaebm.training import Progress, energy_step, fit, start_energy, start_vae, vae_step

NUM_GRID, GRID_COLUMNS, GRID_PIXELS = 64, 8, 56


@dataclass(frozen=True)
class _Stage:
    """One stage: its name, its step, where it starts, its images, its length, and what is done after each iteration."""

    name: str
    step: Callable[[Any, Tensor], Progress[Any]]
    start: Any
    batches: Batches
    num_iterations: int
    look: Callable[[Any], None]


def train_stages(run: Run) -> None:
    """Trains both stages, from where the run's checkpoint stands; the model ends with the chosen energy network.

    Raises:
        Interrupted: If a signal asked to stop; the checkpoint is written.
        UsageError: If a stage diverges.
    """
    stored = run.stored
    stage = stored.get("stage", "vae")
    images = torch.from_numpy(run.splits.training.images)
    if stage == "vae":
        _train_vae(run, images, stored)
        stored = {}
    if stage in ("vae", "energy"):
        _train_energy(run, images, stored)
        save_checkpoint(run, "trained")


def _train_vae(run: Run, images: Tensor, stored: Mapping[str, Any]) -> None:
    settings = run.config.vae
    batches = Batches(images, settings.batch_size, run.generator("vae batches"))
    start = start_vae(run.model.vae, settings, run.generator("vae noise"))
    step = vae_step(run.model.vae, settings, run.engine)
    noise = start_noise(run.model, NUM_GRID, run.generator("grid start"))
    held_out = to_float(run.splits.selection.images)
    averaged = copy.deepcopy(run.model)

    def look(state: Any) -> None:
        if _is_due(state.iteration, run.config.sample_every, settings.num_iterations):
            averaged.vae.load_state_dict(state.average or run.model.vae.state_dict())
            _grid(run, averaged, noise, 0, f"vae_{state.iteration:06d}")
            elbo = _mean_elbo(run, averaged, held_out)
            run.record({"stage": "vae_selection", "iteration": state.iteration, "elbo": elbo})
            run.console.tell(f"held-out ELBO, iteration {state.iteration}: {elbo:.1f} nats")

    state = _drive(run, _Stage("vae", step, start, batches, settings.num_iterations, look), stored)
    if state.average:
        run.model.vae.load_state_dict(state.average)


@torch.no_grad()
def _mean_elbo(run: Run, model: VAEBM, images: Tensor, batch_size: int = 500) -> float:
    generator, size = run.generator("selection elbo"), model.noise_layout.latent_size
    total = 0.0
    for batch in torch.split(images, batch_size):
        posterior_noise = torch.randn(len(batch), size, generator=generator)
        terms = model.vae.elbo_terms(batch.to(run.engine.device), posterior_noise.to(run.engine.device))
        total += float(terms.elbo.sum())
    return total / len(images)


def _train_energy(run: Run, images: Tensor, stored: Mapping[str, Any]) -> None:
    settings = run.config.energy
    batches = Batches(images, settings.batch_size, run.generator("energy batches"))
    first = next(Batches(images, max(settings.batch_size, 128), run.generator("energy initialization")))
    weights = copy.deepcopy(run.model.state_dict()) if stored else {}
    start = start_energy(run.model, settings, first.to(run.engine.device), run.generator("energy noise"))
    if stored:
        # start_energy has initialised the network from data once more.
        run.model.load_state_dict(weights)
    step = energy_step(run.model, settings, run.engine)
    look = _candidates(run)
    state = _drive(run, _Stage("energy", step, start, batches, settings.num_iterations, look), stored)
    run.model.energy.load_state_dict(run.best.get("energy", state.average))


def _is_due(iteration: int, every: int, num_iterations: int) -> bool:
    return iteration % every == 0 or iteration == num_iterations


def _drive(run: Run, stage: _Stage, stored: Mapping[str, Any]) -> Any:
    """Runs one stage: figures, grids, checkpoints, and the end when a signal asks for it."""
    state, config, last = stage.start, run.config, stage.num_iterations
    if stored:
        state.load_state_dict(stored["state"])
        stage.batches.load_state_dict(stored["batches"])
    origin = time.monotonic() - run.seconds.get(stage.name, 0.0)
    if stored.get("is_look_due"):
        stage.look(state)
    watch = CollapseWatch(run.console.tell)
    with run.console.stage(stage.name, state.iteration, last) as show:
        for progress in fit(stage.step, state, stage.batches, last):
            state = progress.state
            show(state.iteration, progress.figures)
            watch(state.iteration, progress.figures)
            _check_finite(stage.name, state.iteration, progress.figures["loss"])
            if _is_due(state.iteration, config.report_every, last):
                run.record({"stage": stage.name, "iteration": state.iteration, **progress.figures})
            run.seconds[stage.name] = time.monotonic() - origin
            _look(run, stage, state)
            run.seconds[stage.name] = time.monotonic() - origin
            if _is_due(state.iteration, config.checkpoint_every, last):
                save_checkpoint(run, stage.name, _details(stage, state))
    return state


def _look(run: Run, stage: _Stage, state: Any) -> None:
    """Looks at the model; a signal before or meanwhile leaves that for later, since it may take long."""
    num_rows = run.num_rows
    try:
        if run.is_stopping():
            raise Interrupted
        with run.stop.leaving_at_once() if run.engine.num_processes == 1 else nullcontext():
            stage.look(state)
    except Interrupted:
        run.num_rows = num_rows
        save_checkpoint(run, stage.name, {**_details(stage, state), "is_look_due": True})
        raise


def _details(stage: _Stage, state: Any) -> dict[str, Any]:
    return {"state": state.state_dict(), "batches": stage.batches.state_dict()}


def _check_finite(stage: str, iteration: int, loss: float) -> None:
    if not math.isfinite(loss):
        way_out = f"start anew with a lower --{stage}.learning_rate, it is the usual reason"
        raise UsageError(f"stage {stage} diverged at iteration {iteration} (the loss is {loss}): {way_out}")


def _candidates(run: Run) -> Callable[[Any], None]:
    """Returns what looks at the averaged energy network: it draws grids and keeps the best candidate."""
    config, num_iterations = run.config, run.config.energy.num_iterations
    noise = start_noise(run.model, NUM_GRID, run.generator("grid start"))
    judge = _selection_judge(run)
    averaged = copy.deepcopy(run.model)

    def look(state: Any) -> None:
        iteration = state.iteration
        is_candidate = judge is not None and config.selection.is_due(iteration, num_iterations)
        is_shown = _is_due(iteration, config.sample_every, num_iterations)
        if is_candidate or is_shown:
            averaged.energy.load_state_dict(state.average)
        if judge is not None and is_candidate:
            figure = judge(averaged)
            first, count = run.judges[0], run.config.selection.num_samples
            told = {"judge": first.name, "judge_sha256": first.sha256, "n": count, "seed": run.config.seed}
            run.record({"stage": "selection", "iteration": iteration, "frechet": figure, **told})
            run.console.tell(f"selection split, iteration {iteration}: Fréchet distance {figure:.2f}")
            if figure < run.best.get("frechet", float("inf")):
                energy = {name: value.clone() for name, value in state.average.items()}
                run.best = {"frechet": figure, "iteration": iteration, "energy": energy}
        if is_shown:
            _grid(run, averaged, noise, config.sampling.num_steps, f"energy_{iteration:06d}")

    return look


def _grid(run: Run, model: VAEBM, noise: Tensor, num_steps: int, name: str) -> None:
    if not run.engine.is_main:
        return
    kernel, generator = Langevin(run.config.sampling.step_size), run.generator("grid chains")
    with run.engine.autocast():
        (seen,) = snapshots(model, noise, (num_steps,), kernel=kernel, generator=generator)
    pixels = to_uint8(seen.images.cpu())
    grid = image_grid(pixels, GRID_COLUMNS, scale=max(1, GRID_PIXELS // pixels.shape[3]))
    run.folder.save_sample(name, png_bytes(grid))


def _selection_judge(run: Run) -> Callable[[VAEBM], float] | None:
    """Returns the Fréchet distance of a model to the selection split, as a function; None without judges or images."""
    count = min(run.config.selection.num_samples, len(run.splits.training))
    if not run.judges or min(count, len(run.splits.selection)) < FEWEST_JUDGED:
        return None
    images, training = to_float(run.splits.selection.images), to_float(run.splits.training.images[:count])
    reference = make_reference(
        run.judges[0], images, training, num_samples=count, generator=run.generator("selection reference")
    )
    kernel = Langevin(run.config.sampling.step_size)

    def judge(model: VAEBM) -> float:
        generator = run.generator("selection samples")
        noise = start_noise(model, run.config.selection.num_samples, generator)
        with run.engine.autocast():
            (seen,) = snapshots(model, noise, (run.config.sampling.num_steps,), kernel=kernel, generator=generator)
        return frechet_to_reference(seen.images.cpu(), reference)

    return judge
