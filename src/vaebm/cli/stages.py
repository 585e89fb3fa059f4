"""Both training stages of a run: they drive ``fit``, record, checkpoint, and stop when asked to."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from vaebm.applications import snapshots, start_noise
from vaebm.checkpoint import CheckpointError, RowFile
from vaebm.cli.choosing import Measure, selection_measure
from vaebm.cli.evaluation import FEWEST_JUDGED
from vaebm.cli.parsing import UsageError
from vaebm.cli.progress import CollapseWatch
from vaebm.cli.running import Run, save_checkpoint
from vaebm.cli.stop import Interrupted
from vaebm.data import Batches, to_float, to_uint8
from vaebm.models import VAEBM
from vaebm.plots import image_grid, png_bytes
from vaebm.sampling import Langevin
from vaebm.training import (
    BUFFER_DTYPES,
    CONDITIONS,
    EnergySettings,
    Guarded,
    Progress,
    energy_step,
    fit,
    guarded_fit,
    kept_width,
    reestimate_batch_norms,
    start_energy,
    start_vae,
    vae_step,
)

NUM_GRID, GRID_COLUMNS, GRID_PIXELS = 64, 8, 56


@dataclass(frozen=True)
class _Stage:
    """One stage: its name, its iterations from a state on, where it starts, its images and its length.

    After each iteration ``has_acted`` tells what the guard has done, and returns whether it did anything; ``look``
    looks at the state and returns whether the stage may end early.
    """

    name: str
    iterations: Callable[[Any], Iterator[Any]]
    start: Any
    batches: Batches
    num_iterations: int
    look: Callable[[Any], bool]
    has_acted: Callable[[Any], bool]


def train_stages(run: Run) -> None:
    """Trains both stages, from where the run's checkpoint stands; the model ends with the chosen energy network.

    Raises:
        Interrupted: If a signal asked to stop; the checkpoint is written.
        UsageError: If a stage diverges.
        CheckpointError: If the checkpoint doesn't fit the configuration.
    """
    stored = run.stored
    stage = stored.get("stage", "vae")
    if not stored and run.config.initial_vae:
        stage = "energy"
    images = torch.from_numpy(run.splits.training.images)
    if stage == "vae":
        _train_vae(run, images, stored)
        stored = {}
    if stage in ("vae", "energy"):
        _train_energy(run, images, stored)
        save_checkpoint(run, "trained")


def _train_vae(run: Run, images: Tensor, stored: dict[str, Any]) -> None:
    settings = run.config.vae
    batches = _batches(run, images, settings.batch_size, "vae batches")
    start = start_vae(run.model.vae, settings, run.generator("vae noise"))
    step = vae_step(run.model.vae, settings, run.engine)
    noise = start_noise(run.model, NUM_GRID, run.generator("grid start"))
    held_out = to_float(run.splits.selection.images)
    # Batch norms, where there are any, by their running statistics.
    averaged = copy.deepcopy(run.model).eval()
    every, last = run.config.selection.vae_every, settings.num_iterations

    def look(state: Any) -> bool:
        is_shown = _is_due(state.iteration, run.config.sample_every, last)
        is_candidate = every > 0 and _is_due(state.iteration, every, last)
        if is_shown or is_candidate:
            averaged.vae.load_state_dict(state.average or run.model.vae.state_dict())
            elbo = _mean_elbo(run, averaged, held_out)
            run.record({"stage": "vae_selection", "iteration": state.iteration, "elbo": elbo})
            run.console.tell(f"held-out ELBO, iteration {state.iteration}: {elbo:.1f} nats")
        if is_shown:
            _grid(run, averaged, noise, 0, f"vae_{state.iteration:06d}")
        return is_candidate and _keep_better(run, averaged, state.iteration, elbo)

    def iterations(state: Any) -> Iterator[Any]:
        return fit(step, state, batches, last)

    state = _drive(run, _Stage("vae", iterations, start, batches, last, look, lambda progress: False), stored)
    if state.average:
        run.model.vae.load_state_dict(state.average)
    if "vae" in run.best_vae:
        run.model.vae.load_state_dict(run.best_vae["vae"])
        run.console.tell(f"the VAE of iteration {run.best_vae['iteration']} is kept")
    reestimate_batch_norms(run.model.vae, settings.batch_norm_passes, run.generator("batch norms"))
    _lay_out_as_loaded(run.model)


def _lay_out_as_loaded(model: VAEBM) -> None:
    """Undoes the layout of training, so that figures are those of the model when it is loaded, to the last bit."""
    model.vae.to(memory_format=torch.contiguous_format)


def _keep_better(run: Run, averaged: VAEBM, iteration: int, elbo: float) -> bool:
    """Keeps a VAE if its held-out ELBO is the best so far; returns whether patience has ended."""
    patience = run.config.selection.vae_patience
    if elbo > run.best_vae.get("elbo", -math.inf):
        tensors = {name: value.clone() for name, value in averaged.vae.state_dict().items()}
        run.best_vae = {"elbo": elbo, "iteration": iteration, "num_since": 0, "vae": tensors}
        return False
    run.best_vae = {**run.best_vae, "num_since": run.best_vae.get("num_since", 0) + 1}
    if not 0 < patience <= run.best_vae["num_since"]:
        return False
    run.console.tell(f"the held-out ELBO hasn't risen for {patience} looks: the stage ends")
    return True


def _batches(run: Run, images: Tensor, batch_size: int, purpose: str) -> Batches:
    data = run.config.data
    return Batches(images, batch_size, run.generator(purpose), flips=data.flips, shifts=data.shifts)


@torch.no_grad()
def _mean_elbo(run: Run, model: VAEBM, images: Tensor, batch_size: int = 500) -> float:
    generator, size = run.generator("selection elbo"), model.noise_layout.latent_size
    total = 0.0
    for batch in torch.split(images, batch_size):
        posterior_noise = torch.randn(len(batch), size, generator=generator)
        terms = model.vae.elbo_terms(batch.to(run.engine.device), posterior_noise.to(run.engine.device))
        total += float(terms.elbo.sum())
    return total / len(images)


def _train_energy(run: Run, images: Tensor, stored: dict[str, Any]) -> None:
    settings = run.config.energy
    batches = _batches(run, images, settings.batch_size, "energy batches")
    first = next(Batches(images, max(settings.batch_size, 128), run.generator("energy initialization")))
    weights = copy.deepcopy(run.model.state_dict()) if stored else {}
    rows = _rows_on_disk(run)
    try:
        start = start_energy(run.model, settings, first.to(run.engine.device), run.generator("energy noise"), rows)
        if stored:
            # start_energy has initialised the network from data once more.
            run.model.load_state_dict(weights)
        watch = _Watch(run)

        def iterations(state: Any) -> Iterator[Any]:
            return guarded_fit(run.model, settings, watch.make_step, state, batches, run.config.guard, run.guard)

        last = settings.num_iterations
        stage = _Stage("energy", iterations, start, batches, last, _candidates(run), watch)
        state = _drive(run, stage, stored)
    finally:
        if rows is not None:
            rows.close()
    _lay_out_as_loaded(run.model)
    run.model.energy.load_state_dict(run.best.get("energy", state.average))
    run.model.sampling = asdict(run.sampling)


@dataclass
class _Watch:
    """Takes over what the guard knows after each iteration, records what it did, and tells a change of condition."""

    run: Run
    condition: str = "healthy"

    def make_step(self, settings: EnergySettings) -> Callable[[Any, Tensor], Progress[Any]]:
        return energy_step(self.run.model, settings, self.run.engine)

    def __call__(self, progress: Guarded) -> bool:
        run, act = self.run, progress.act
        run.guard = progress.memory
        if act is not None:
            self.condition = "healthy"
            if not math.isfinite(progress.figures["loss"]):
                # It is undone, but not hidden.
                run.record({"stage": "energy", "iteration": act.iteration, "is_undone": True, **progress.figures})
            run.console.tell(act.text())
            run.record({"stage": "guard", **act.row()})
            return True
        condition, reasons = progress.verdict.condition, "; ".join(progress.verdict.reasons)
        # Back in health, it may be a short rest: only what is worse is told.
        if CONDITIONS.index(condition) > CONDITIONS.index(self.condition):
            run.console.tell(f"iteration {progress.state.iteration}: the energy network is {condition} ({reasons})")
        self.condition = max(self.condition, condition, key=CONDITIONS.index)
        return False


def _rows_on_disk(run: Run) -> RowFile | None:
    """Makes the file of the replay buffer, if there is to be one."""
    settings = run.config.energy
    if not settings.buffer_on_disk or not settings.buffer_size:
        return None
    width, dtype = kept_width(run.model.noise_layout, settings), BUFFER_DTYPES[settings.buffer_dtype]
    # On another machine than the main process's, the run folder needn't be there.
    run.folder.path.mkdir(parents=True, exist_ok=True)
    return RowFile(run.folder.buffer(run.engine.process_index), settings.buffer_size, width, dtype)


def _is_due(iteration: int, every: int, num_iterations: int) -> bool:
    return iteration % every == 0 or iteration == num_iterations


def _drive(run: Run, stage: _Stage, stored: dict[str, Any]) -> Any:
    """Runs one stage: figures, grids, checkpoints, and the end when a signal asks for it."""
    state, config, last = stage.start, run.config, stage.num_iterations
    if stored:
        try:
            # Dropped once it is taken over: a large replay buffer would keep the file of this checkpoint.
            state.load_state_dict(stored.pop("state"))
        except ValueError as error:
            reason = f"the checkpoint in {run.folder.path} doesn't fit its config.yaml ({error})"
            raise CheckpointError(f"{reason}: was it changed? start anew") from error
        if "batches" in stored:
            stage.batches.load_state_dict(stored["batches"])
    origin = time.monotonic() - run.seconds.get(stage.name, 0.0)
    if stored.get("is_ended") or (stored.get("is_look_due") and stage.look(state)):
        return state
    watch = CollapseWatch(run.console.tell)
    with run.console.stage(stage.name, state.iteration, last) as show:
        for progress in stage.iterations(state):
            state = progress.state
            if stage.has_acted(progress):
                run.seconds[stage.name] = time.monotonic() - origin
                is_ended = run.guard is not None and run.guard.has_given_up
                save_checkpoint(run, stage.name, {**_details(stage, state), "is_ended": is_ended})
                continue
            show(state.iteration, progress.figures)
            watch(state.iteration, progress.figures)
            is_finite = math.isfinite(progress.figures["loss"])
            if not is_finite or _is_due(state.iteration, config.report_every, last):
                run.record({"stage": stage.name, "iteration": state.iteration, **progress.figures})
            _check_finite(stage.name, state.iteration, progress.figures["loss"])
            run.seconds[stage.name] = time.monotonic() - origin
            is_ended = _look(run, stage, state)
            run.seconds[stage.name] = time.monotonic() - origin
            if is_ended or _is_due(state.iteration, config.checkpoint_every, last):
                save_checkpoint(run, stage.name, {**_details(stage, state), "is_ended": is_ended})
            if is_ended:
                break
    return state


def _look(run: Run, stage: _Stage, state: Any) -> bool:
    """Looks at the model, and returns whether the stage may end; a signal before or meanwhile leaves that for later."""
    num_rows = run.num_rows
    try:
        if run.is_stopping():
            raise Interrupted
        with run.stop.leaving_at_once() if run.engine.num_processes == 1 else nullcontext():
            return stage.look(state)
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


def _candidates(run: Run) -> Callable[[Any], bool]:
    """Returns what looks at the averaged energy network: it draws grids and keeps the best candidate."""
    config, num_iterations = run.config, run.config.energy.num_iterations
    noise = start_noise(run.model, NUM_GRID, run.generator("grid start"))
    judge = _selection_judge(run)
    averaged = copy.deepcopy(run.model)

    def look(state: Any) -> bool:
        iteration = state.iteration
        is_candidate = judge is not None and config.selection.is_due(iteration, num_iterations)
        is_shown = _is_due(iteration, config.sample_every, num_iterations)
        if is_candidate or is_shown:
            averaged.energy.load_state_dict(state.average)
        if judge is not None and is_candidate:
            _compare(run, judge, averaged, iteration)
        if is_shown:
            _grid(run, averaged, noise, config.sampling.num_steps, f"energy_{iteration:06d}")
        return False

    return look


def _compare(run: Run, judge: _SelectionJudge, averaged: VAEBM, iteration: int) -> None:
    """Measures a candidate, and keeps it with its best number of steps if it is the best so far."""
    first, count = run.judges[0], run.config.selection.num_samples
    told = {"judge": first.name, "judge_sha256": first.sha256, "n": count, "seed": run.config.seed}
    figures, measure = judge.distances(averaged), judge.measure.name
    for steps, figure in figures.items():
        run.record({"stage": "selection", "iteration": iteration, "num_steps": steps, measure: figure, **told})
    words = ", ".join(f"{figure:.4g} after {steps} steps" for steps, figure in figures.items())
    run.console.tell(f"selection split, iteration {iteration}: {judge.measure.title} distance {words}")
    best = min(figures, key=figures.__getitem__)
    if figures[best] < run.best.get(measure, float("inf")):
        energy = {name: value.clone() for name, value in averaged.energy.state_dict().items()}
        chains = {"num_steps": best, "step_size": run.longest_step}
        run.best = {measure: figures[best], "iteration": iteration, **chains, "energy": energy}


def _grid(run: Run, model: VAEBM, noise: Tensor, num_steps: int, name: str) -> None:
    if not run.engine.is_main:
        return
    kernel, generator = Langevin(run.longest_step), run.generator("grid chains")
    with run.engine.autocast():
        (seen,) = snapshots(model, noise, (num_steps,), kernel=kernel, generator=generator)
    pixels = to_uint8(seen.images.cpu())
    grid = image_grid(pixels, GRID_COLUMNS, scale=max(1, GRID_PIXELS // pixels.shape[3]))
    run.folder.save_sample(name, png_bytes(grid))


@dataclass(frozen=True)
class _SelectionJudge:
    """What a candidate is chosen by: its distances after each number of steps."""

    measure: Measure
    distances: Callable[[VAEBM], dict[int, float]]


def _selection_judge(run: Run) -> _SelectionJudge | None:
    """Returns what measures a model's distance from the selection split; None without judges or images."""
    count = min(run.config.selection.num_samples, len(run.splits.training))
    if not run.judges or min(count, len(run.splits.selection)) < FEWEST_JUDGED:
        return None
    measure = selection_measure(
        run.judges[0], run.splits, run.config.selection.num_samples, run.generator("selection reference")
    )
    steps = tuple(sorted(set(run.config.selection.num_steps))) or (run.config.sampling.num_steps,)

    def distances(model: VAEBM) -> dict[int, float]:
        generator = run.generator("selection samples")
        noise = start_noise(model, run.config.selection.num_samples, generator)
        with run.engine.autocast():
            seen = snapshots(model, noise, steps, kernel=Langevin(run.longest_step), generator=generator,
                             engine=run.engine)  # fmt: skip
        return {look.step: measure.distance(look.images.cpu()) for look in seen}

    return _SelectionJudge(measure, distances)
