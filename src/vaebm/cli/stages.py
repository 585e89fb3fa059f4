"""Both training stages of a run: they drive ``fit``, record, checkpoint, and stop when asked to."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from vaebm.applications import start_noise
from vaebm.checkpoint import RowFile
from vaebm.cli.candidates import NUM_GRID, candidates, choose_after_giving_up, draw_grid, is_due
from vaebm.cli.parsing import UsageError
from vaebm.cli.progress import CollapseWatch
from vaebm.cli.running import CHECKPOINT, EARLIER, MISFITS, Run, no_fit, save_checkpoint
from vaebm.cli.stop import Interrupted
from vaebm.data import Batches, to_float
from vaebm.distributed import Engine
from vaebm.models import VAEBM
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
    lost_signals,
    reestimate_batch_norms,
    start_energy,
    start_vae,
    vae_step,
)


@dataclass(frozen=True)
class Stage:
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
        reestimate_batch_norms(run.model.vae, run.config.vae.batch_norm_passes, run.generator("batch norms"))
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
    step = agreed(vae_step(run.model.vae, settings, run.engine), run.engine)
    noise = start_noise(run.model, NUM_GRID, run.generator("grid start"))
    held_out = to_float(run.splits.selection.images)
    # Batch norms, where there are any, by their running statistics.
    averaged = copy.deepcopy(run.model).eval()
    every, last = run.config.selection.vae_every, settings.num_iterations

    def look(state: Any) -> bool:
        is_shown = is_due(state.iteration, run.config.sample_every, last)
        is_candidate = every > 0 and is_due(state.iteration, every, last)
        if is_shown or is_candidate:
            averaged.vae.load_state_dict(state.average or run.model.vae.state_dict())
            (elbo,) = run.engine.from_main([_mean_elbo(run, averaged, held_out) if run.engine.is_main else math.nan])
            run.record({"stage": "vae_selection", "iteration": state.iteration, "elbo": elbo})
            run.console.tell(f"held-out ELBO, iteration {state.iteration}: {elbo:.1f} nats")
        if is_shown:
            draw_grid(run, averaged, noise, 0, f"vae_{state.iteration:06d}")
        return is_candidate and _keep_better(run, averaged, state.iteration, elbo)

    def iterations(state: Any) -> Iterator[Any]:
        return fit(step, state, batches, last)

    state = drive(run, Stage("vae", iterations, start, batches, last, look, lambda progress: False), stored)
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
def _mean_elbo(run: Run, model: VAEBM, images: Tensor) -> float:
    generator, size = run.generator("selection elbo"), model.noise_layout.latent_size
    total = 0.0
    for batch in torch.split(images, 2 * model.largest_batch):
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
        watch = Watch(run)

        def iterations(state: Any) -> Iterator[Any]:
            return guarded_fit(run.model, settings, watch.make_step, state, batches, run.config.guard, run.guard)

        last = settings.num_iterations
        stage = Stage("energy", iterations, start, batches, last, candidates(run), watch)
        state = drive(run, stage, stored)
        choose_after_giving_up(run)
    finally:
        if rows is not None:
            rows.close()
    _lay_out_as_loaded(run.model)
    run.model.energy.load_state_dict(run.best.get("energy", state.average))
    run.model.sampling = asdict(run.sampling)


@dataclass
class Watch:
    """Takes over what the guard knows after each iteration, records what it did, and tells a change of condition."""

    run: Run
    condition: str = "healthy"

    def make_step(self, settings: EnergySettings) -> Callable[[Any, Tensor], Progress[Any]]:
        return agreed(energy_step(self.run.model, settings, self.run.engine), self.run.engine)

    def __call__(self, progress: Guarded) -> bool:
        run, act = self.run, progress.act
        run.guard = progress.memory
        if act is not None:
            self.condition = "healthy"
            if lost_signals(progress.figures):
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


def agreed(step: Callable[[Any, Tensor], Progress[Any]], engine: Engine) -> Callable[[Any, Tensor], Progress[Any]]:
    """Returns a step whose figures are those of the main process, so that all processes decide by the same."""

    def agreed(state: Any, images: Tensor) -> Progress[Any]:
        progress = step(state, images)
        told = engine.from_main(list(progress.figures.values()))
        return Progress(progress.state, dict(zip(progress.figures, told, strict=True)))

    return step if engine.num_processes == 1 else agreed


def _rows_on_disk(run: Run) -> RowFile | None:
    """Makes the file of the replay buffer, if there is to be one."""
    settings = run.config.energy
    if not settings.buffer_on_disk or not settings.buffer_size:
        return None
    width, dtype = kept_width(run.model.noise_layout, settings), BUFFER_DTYPES[settings.buffer_dtype]
    # On another machine than the main process's, the run folder needn't be there.
    run.folder.path.mkdir(parents=True, exist_ok=True)
    return RowFile(run.folder.buffer(run.engine.process_index), settings.buffer_size, width, dtype)


def drive(run: Run, stage: Stage, stored: dict[str, Any]) -> Any:
    """Runs one stage: figures, grids, checkpoints, and the end when a signal asks for it."""
    state, config, last = stage.start, run.config, stage.num_iterations
    if stored:
        try:
            # Dropped once it is taken over: a large replay buffer would keep the file of this checkpoint.
            state.load_state_dict(stored.pop("state"))
            if "batches" in stored:
                stage.batches.load_state_dict(stored["batches"])
        except MISFITS as error:
            raise no_fit(run.folder, error) from error
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
            if lost_signals(progress.figures) or is_due(state.iteration, config.report_every, last):
                run.record({"stage": stage.name, "iteration": state.iteration, **progress.figures})
            _check_finite(run, stage.name, state.iteration, progress.figures)
            run.seconds[stage.name] = time.monotonic() - origin
            is_ended = _look(run, stage, state)
            run.seconds[stage.name] = time.monotonic() - origin
            if is_ended or is_due(state.iteration, config.checkpoint_every, last):
                save_checkpoint(run, stage.name, {**_details(stage, state), "is_ended": is_ended})
            if is_ended:
                break
    return state


def _look(run: Run, stage: Stage, state: Any) -> bool:
    """Looks at the model, and returns whether the stage may end; a signal before or meanwhile leaves that for later."""
    before, began = (run.num_rows, run.best, run.best_vae), time.monotonic()
    try:
        if run.is_stopping():
            raise Interrupted
        with run.leaving_at_once():
            return stage.look(state)
    except Interrupted:
        # The look is done anew: what it has changed already doesn't count.
        run.num_rows, run.best, run.best_vae = before
        save_checkpoint(run, stage.name, {**_details(stage, state), "is_look_due": True})
        raise
    finally:
        run.spend("looks", time.monotonic() - began)


def _details(stage: Stage, state: Any) -> dict[str, Any]:
    return {"state": state.state_dict(), "batches": stage.batches.state_dict()}


def _check_finite(run: Run, stage: str, iteration: int, figures: Mapping[str, float]) -> None:
    """Checks that the weights are numbers still, before they are saved: a gradient that isn't one spoils them at once.

    Raises:
        UsageError: If loss or gradient isn't finite.
    """
    lost = [name for name in ("loss", "grad_norm") if not math.isfinite(figures.get(name, 0.0))]
    if not lost:
        return
    told = " and ".join(f"{name} is {figures[name]}" for name in lost)
    way_out = f"start anew with a lower --{stage}.learning_rate, it is the usual reason"
    there = [path.name for name in (CHECKPOINT, EARLIER) if (path := run.folder.checkpoints / f"{name}.pt").exists()]
    kept = f"; {' and '.join(there)} hold what was before, from where it would diverge once more" if there else ""
    raise UsageError(f"stage {stage} diverged at iteration {iteration} ({told}){kept}: {way_out}")
