"""A run: what every part of it needs, and what its checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from filelock import FileLock

from vaebm.checkpoint import CheckpointError, RunFolder
from vaebm.cli.progress import Console
from vaebm.cli.stop import StopRequest
from vaebm.data import Splits
from vaebm.distributed import Engine
from vaebm.evaluation import Judge
from vaebm.models import VAEBM
from vaebm.recipes import Config
from vaebm.recipes.config import SamplingConfig
from vaebm.training import GuardMemory

CHECKPOINT, EARLIER = "last", "previous"
# What of a checkpoint is taken over at once.
TAKEN = {"model", "seconds", "best", "best_vae", "guard", "num_metrics"}
PURPOSES = (
    "vae batches",
    "vae noise",
    "grid start",
    "energy batches",
    "energy initialization",
    "energy noise",
    "grid chains",
    "selection reference",
    "selection samples",
    "selection elbo",
    "batch norms",
)


@dataclass
class Run:
    """A run under way.

    Arguments:
        folder: Where it is recorded; only the main process writes there.
        config: The complete configuration.
        engine: Device, precision and processes.
        splits: The four splits of the images.
        model: The model under training.
        judges: What measures the quality of samples; may be empty.
        console: What a person sees.
        stop: Whether a signal asked to stop.
        seconds: The wall time of each stage so far.
        best: The best candidate on the selection split so far: frechet or kernel, iteration, num_steps, step_size,
            energy (its tensors); or empty.
        best_vae: The best VAE on the selection split so far: elbo, iteration, vae (its tensors), and num_since, the
            number of looks since; or empty.
        guard: What the guard of stage 2 knows, once that has begun.
        num_rows: The number of rows in the metrics.
        stored: The checkpoint that the run goes on from; empty for a new run.
        lock: Held in the main process, so that no other one writes to the folder.
    """

    folder: RunFolder
    config: Config
    engine: Engine
    splits: Splits
    model: VAEBM
    judges: list[Judge]
    console: Console
    stop: StopRequest
    seconds: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    best_vae: dict[str, Any] = field(default_factory=dict)
    guard: GuardMemory | None = None
    num_rows: int = 0
    stored: dict[str, Any] = field(default_factory=dict)
    lock: FileLock | None = None

    def close(self) -> None:
        """Lets go of the folder and of the other processes."""
        if self.lock is not None:
            self.lock.release()
        self.engine.close()

    @property
    def sampling(self) -> SamplingConfig:
        """How images are generated: as configured, with the number of steps that was chosen."""
        steps = self.best.get("num_steps", self.config.sampling.num_steps)
        return replace(self.config.sampling, num_steps=steps, step_size=self.best.get("step_size", self.longest_step))

    @property
    def longest_step(self) -> float:
        """The step size of chains that generate: the configured one, or that which the guard came down to."""
        configured, guard = self.config.sampling.step_size, self.guard
        if guard is None or guard.step == 1:
            return configured
        return min(configured, guard.adapt(self.config.energy).step_size)

    def generator(self, purpose: str) -> torch.Generator:
        """Returns a generator for one of ``PURPOSES``, seeded by the run's seed."""
        return torch.Generator().manual_seed(self.config.seed * 1000 + PURPOSES.index(purpose) + 1)

    def record(self, row: Mapping[str, Any]) -> None:
        """Adds a row to the metrics."""
        self.num_rows += 1
        if self.engine.is_main:
            self.folder.append_metrics(row)

    def is_stopping(self) -> bool:
        """Whether a signal has asked any process to stop; all processes ask this at the same iteration."""
        asked = torch.tensor(float(bool(self.stop.name)), device=self.engine.device)
        if float(self.engine.mean(asked)) > 0 and not self.stop.name:
            self.stop.name = "another process"
        return bool(self.stop.name)


def save_checkpoint(run: Run, stage: str, details: Mapping[str, Any] | None = None) -> None:
    """Writes all that the run needs to go on.

    Arguments:
        run: The run.
        stage: ``vae``, ``energy``, or ``trained`` when both stages are done.
        details: What the stage itself needs.
    """
    stored = {
        "stage": stage,
        "model": run.model.state_dict(),
        "seconds": run.seconds,
        "best": run.best,
        "best_vae": run.best_vae,
        "guard": None if run.guard is None else run.guard.state_dict(),
        "num_metrics": run.num_rows,
    }
    if run.engine.is_main:
        run.folder.save_checkpoint(CHECKPOINT, {**stored, **(details or {})}, EARLIER)


def restore(run: Run) -> None:
    """Puts model, times and the best candidate to where the last checkpoint was written, if there is one.

    Raises:
        CheckpointError: If the checkpoint is damaged, gone, or belongs to another configuration.
    """
    stored = _load_last(run.folder)
    if stored is None:
        rows = run.folder.read_metrics()
        # What the first checkpoint's iteration records, it records before that checkpoint.
        first, stages = run.config.checkpoint_every, {"vae", "vae_selection"}
        if run.config.initial_vae:
            stages = {"energy", "selection", "guard"}
        if any(row.get("stage") not in stages or row.get("iteration", 0) > first for row in rows):
            raise CheckpointError(
                f"{run.folder.path} has no checkpoint, though the run has come further than the first one: "
                "restore it from a copy, or start a new run"
            )
        run.console.tell("no checkpoint was written yet: the run starts anew")
        return
    try:
        run.model.load_state_dict(stored["model"])
        run.seconds, run.best = dict(stored["seconds"]), dict(stored["best"])
        # Checkpoints of before VAEs were chosen hold none.
        run.best_vae = dict(stored.get("best_vae", {}))
        run.guard = GuardMemory.from_state_dict(stored["guard"]) if stored.get("guard") else None
        # What is taken over here needn't stay in memory twice.
        run.num_rows = int(stored["num_metrics"])
        run.stored = {name: value for name, value in stored.items() if name not in TAKEN}
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the checkpoint in {run.folder.path} doesn't fit its config.yaml ({reason}): was it changed? start anew"
        ) from error


def _load_last(folder: RunFolder) -> dict[str, Any] | None:
    """Reads the last checkpoint; if it is damaged or gone, the error says whether the one before it is whole."""
    try:
        stored = folder.load_checkpoint(CHECKPOINT)
        if stored is not None:
            return stored
        reason = f"{folder.path} has lost its last checkpoint"
    except CheckpointError as error:
        reason = str(error)
    try:
        is_whole = folder.load_checkpoint(EARLIER) is not None
    except CheckpointError:
        is_whole = False
    last, earlier = (folder.checkpoints / f"{name}.pt" for name in (CHECKPOINT, EARLIER))
    if is_whole:
        raise CheckpointError(f"{reason}; the one before it is whole: to go on from there, mv {earlier} {last}")
    if last.exists():
        raise CheckpointError(reason)
    return None


def with_way_on(error: CheckpointError | OSError, folder: RunFolder) -> CheckpointError | OSError:
    """Returns the error of a write that failed during a run, with what is left to go on from; others as they are."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(cause, OSError) or isinstance(cause, BrokenPipeError):
        return error
    text = str(error) if isinstance(error, CheckpointError) else f"cannot write: {error.strerror}"
    stored = folder.load_checkpoint(CHECKPOINT)
    if stored is None:
        return CheckpointError(f"{text}; no checkpoint was written yet: start anew where there is space")
    way_on = f"make space, and go on with `vaebm train --resume {folder.path}`"
    return CheckpointError(f"{text}; the last checkpoint is whole (stage {stored['stage']}): {way_on}")
