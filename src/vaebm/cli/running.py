"""A run: what every part of it needs, and what its checkpoint holds."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock

from vaebm.checkpoint import CheckpointError, RunFolder
from vaebm.cli.progress import Console
from vaebm.cli.provenance import numerics
from vaebm.cli.stop import Interrupted, StopRequest
from vaebm.data import Splits
from vaebm.distributed import Engine
from vaebm.evaluation import Judge
from vaebm.models import VAEBM
from vaebm.recipes import Config, to_dict
from vaebm.recipes.config import SamplingConfig
from vaebm.sampling import Langevin
from vaebm.training import GuardMemory

AnyRun = TypeVar("AnyRun", bound="Run")
CHECKPOINT, EARLIER = "last", "previous"
# What of a checkpoint is taken over at once.
TAKEN = {"model", "seconds", "of_which", "best", "best_vae", "guard", "num_metrics", "identity"}
# What of the configuration may change between a run and its checkpoint: lengths, looks, figures, and where and how it
# is computed. Images and a given VAE are told by their hashes.
FREE = (
    "data.source", "initial_vae", "vae.num_iterations", "energy.num_iterations", "vae.recompute",
    "energy.buffer_on_disk", "energy.compile_decoder", "guard", "sampling", "selection", "evaluation", "precision",
    "device", "report_every", "sample_every", "checkpoint_every",
)  # fmt: skip
# What torch and we raise where a checkpoint holds something else than is asked of it.
MISFITS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
NO_SPACE, NO_RIGHT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), (errno.EACCES, errno.EPERM, errno.EROFS)
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
        of_which: How much of it went into looks at the model, and into checkpoints.
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
    of_which: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    best_vae: dict[str, Any] = field(default_factory=dict)
    guard: GuardMemory | None = None
    num_rows: int = 0
    stored: dict[str, Any] = field(default_factory=dict)
    lock: FileLock | None = None

    def spend(self, what: str, seconds: float) -> None:
        """Notes that a part of the time went into looks or checkpoints."""
        self.of_which[what] = self.of_which.get(what, 0.0) + seconds

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

    @property
    def kernel(self) -> Langevin:
        """What moves chains that generate while training goes on."""
        return replace(self.config.sampling, step_size=self.longest_step).kernel

    def generator(self, purpose: str) -> torch.Generator:
        """Returns a generator for one of ``PURPOSES``, seeded by the run's seed."""
        return torch.Generator().manual_seed(self.config.seed * 1000 + PURPOSES.index(purpose) + 1)

    def record(self, row: Mapping[str, Any]) -> None:
        """Adds a row to the metrics."""
        self.num_rows += 1
        if self.engine.is_main:
            self.folder.append_metrics(row)

    def leaving_at_once(self) -> AbstractContextManager[None]:
        """Lets a signal end the block wherever it is; of several processes none may leave the others alone."""
        return self.stop.leaving_at_once() if self.engine.num_processes == 1 else nullcontext()

    def is_stopping(self) -> bool:
        """Whether a signal has asked any process to stop; all processes ask this at the same iteration."""
        asked = torch.tensor(float(bool(self.stop.name)), device=self.engine.device)
        if float(self.engine.mean(asked)) > 0 and not self.stop.name:
            self.stop.name = "another process"
        return bool(self.stop.name)


def introduce(run: Run) -> None:
    """Tells where a run goes on, and on how many processes and threads."""
    engine, threads = run.engine, torch.get_num_threads()
    processes = f", {engine.num_processes} processes" if engine.num_processes > 1 else ""
    run.console.tell(f"run folder {run.folder.path}, {engine.device}, {engine.precision}, {threads} threads{processes}")


def tell_other_numerics(run: Run) -> None:
    """Tells with what a run began that makes its last bits, and that is another now; for the main process."""
    began, now = run.folder.read_provenance(), numerics(run.engine)
    for name in now.keys() & began.keys():
        if began[name] != now[name]:
            run.console.tell(
                f"the run began with {began[name]} {name}, now {now[name]}: "
                "its weights will differ from it in the last bits"
            )


def see_through(run: AnyRun, *parts: Callable[[AnyRun], object]) -> bool:
    """Does the parts of a run's work and closes it; returns whether it came to its end, or was stopped by a signal.

    Raises:
        CheckpointError: If something can't be read or written; it says how to go on.
    """
    try:
        for part in parts:
            part(run)
    except KeyboardInterrupt as error:
        saved = "all is saved" if isinstance(error, Interrupted) else "left at once, the last checkpoint stands"
        run.console.tell(f"stopped by {run.stop.name}; {saved}. Go on with: vaebm train --resume {run.folder.path}")
        return False
    except (CheckpointError, OSError) as error:
        raise with_way_on(error, run.folder) from error
    finally:
        run.close()
    return True


def save_checkpoint(run: Run, stage: str, details: Mapping[str, Any] | None = None) -> None:
    """Writes all that the run needs to go on.

    Arguments:
        run: The run.
        stage: ``vae``, ``energy``, or ``trained`` when both stages are done.
        details: What the stage itself needs.
    """
    if not run.engine.is_main:
        return
    stored = {
        "stage": stage,
        "model": run.model.state_dict(),
        "seconds": run.seconds,
        "of_which": run.of_which,
        "best": run.best,
        "best_vae": run.best_vae,
        "guard": None if run.guard is None else run.guard.state_dict(),
        "num_metrics": run.num_rows,
        "identity": identity_of(run.config, run.folder.read_provenance()),
    }
    began = time.monotonic()
    run.folder.save_checkpoint(CHECKPOINT, {**stored, **(details or {})}, EARLIER)
    run.spend("checkpoints", time.monotonic() - began)


def identity_of(config: Config, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what tells checkpoints of a run from those of others: hashes of configuration, images and a given VAE.

    Arguments:
        config: The configuration.
        provenance: Where the run comes from.
    """
    values = to_dict(config)
    for path in FREE:
        section, _, name = path.rpartition(".")
        (values.get(section, {}) if section else values).pop(name, None)
    # 1 and 1.0 are one value, as in a file.
    plain = json.dumps(json.loads(json.dumps(values), parse_int=float), sort_keys=True)
    digest = hashlib.sha256(plain.encode()).hexdigest()
    images, vae = provenance.get("images", {}).get("sha256", {}), provenance.get("initial_vae_sha256", "")
    return {"config": digest, "images": dict(images), "initial_vae": vae}


def _misfit(stored: Mapping[str, Any], run: Run, provenance: Mapping[str, Any]) -> str:
    """Says by what a checkpoint is another run's; nothing if it isn't, or is of before that was kept."""
    told = stored.get("identity")
    if not isinstance(told, dict) or not told:
        return ""
    own, others = identity_of(run.config, provenance), provenance.get("earlier_images", [])
    # A run may have been allowed to go on with other images.
    images = [own["images"], *(one.get("sha256", {}) for one in others)]
    differing = {
        "another configuration": told.get("config") != own["config"],
        "other images": bool(own["images"]) and told.get("images") not in images,
        "another VAE": told.get("initial_vae", "") != own["initial_vae"],
    }
    names = [name for name, differs in differing.items() if differs]
    if not names:
        return ""
    changed = ", or config.yaml was changed" if names == ["another configuration"] else ""
    last = run.folder.checkpoints / f"{CHECKPOINT}.pt"
    return f"{last} is a checkpoint of another run, with {' and '.join(names)}{changed}"


def no_fit(folder: RunFolder, error: Exception) -> CheckpointError:
    """Returns what to say of a checkpoint that holds something else than is asked of it."""
    # A KeyError says nothing but the key.
    kind = "" if type(error) in (RuntimeError, ValueError) else f"{type(error).__name__}: "
    reason = kind + " ".join(str(error).split())[:200]
    return CheckpointError(
        f"the checkpoint in {folder.path} doesn't fit its config.yaml ({reason}): is it of another run, or was the "
        "configuration changed? Put the run's own back, or start anew"
    )


def restore(run: Run) -> None:
    """Puts model, times and the best candidate to where the last checkpoint was written, if there is one.

    Raises:
        CheckpointError: If the checkpoint is damaged, gone, or belongs to another run or configuration.
    """
    provenance = run.folder.read_provenance()
    stored = _load_last(run.folder, lambda found: _misfit(found, run, provenance))
    if stored is None:
        _check_early(run)
        run.console.tell("no checkpoint was written yet: the run starts anew")
        return
    try:
        run.model.load_state_dict(stored["model"])
        run.seconds, run.best = dict(stored["seconds"]), dict(stored["best"])
        run.of_which = dict(stored.get("of_which", {}))
        # Checkpoints of before VAEs were chosen hold none.
        run.best_vae = dict(stored.get("best_vae", {}))
        run.guard = GuardMemory.from_state_dict(stored["guard"]) if stored.get("guard") else None
        # What is taken over here needn't stay in memory twice.
        run.num_rows = int(stored["num_metrics"])
        run.stored = {name: value for name, value in stored.items() if name not in TAKEN}
    except MISFITS as error:
        raise no_fit(run.folder, error) from error


def _check_early(run: Run) -> None:
    """Checks that a run without a checkpoint hasn't come further than its first one."""
    # What the first checkpoint's iteration records, it records before that checkpoint.
    first, stages = run.config.checkpoint_every, {"vae", "vae_selection"}
    if run.config.initial_vae:
        stages = {"energy", "selection", "guard"}
    if any(row.get("stage") not in stages or row.get("iteration", 0) > first for row in run.folder.read_metrics()):
        raise CheckpointError(
            f"{run.folder.path} has no checkpoint, though the run has come further than the first one: "
            "restore it from a copy, or start a new run"
        )


def _load_last(folder: RunFolder, misfit: Callable[[dict[str, Any]], str]) -> dict[str, Any] | None:
    """Reads the last checkpoint; if it can't be used, the error says whether the one before it can."""
    stored = None
    try:
        stored = folder.load_checkpoint(CHECKPOINT)
        reason = f"{folder.path} has lost its last checkpoint" if stored is None else misfit(stored)
        if not reason:
            return stored
    except CheckpointError as error:
        reason = str(error)
    try:
        before = folder.load_checkpoint(EARLIER)
        is_whole = before is not None and not misfit(before)
    except CheckpointError:
        is_whole = False
    last, earlier = (folder.checkpoints / f"{name}.pt" for name in (CHECKPOINT, EARLIER))
    if is_whole:
        raise CheckpointError(f"{reason}; the one before it is whole: to go on from there, mv {earlier} {last}")
    if last.exists():
        raise CheckpointError(f"{reason}: put the run's own back, or start anew" if stored else reason)
    return None


def with_way_on(error: CheckpointError | OSError, folder: RunFolder) -> CheckpointError | OSError:
    """Returns the error of a write that failed during a run, with what is left to go on from; others as they are."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(cause, OSError) or not _is_write(error, cause, folder):
        return error
    text = str(error) if isinstance(error, CheckpointError) else f"cannot write: {error.strerror}"
    stored = folder.load_checkpoint(CHECKPOINT)
    remedy = "make space" if cause.errno in NO_SPACE else "see to the rights of the folder"
    if stored is None:
        return CheckpointError(f"{text}; no checkpoint was written yet: {remedy}, and start anew")
    way_on = f"{remedy}, and go on with `vaebm train --resume {folder.path}`"
    return CheckpointError(f"{text}; the last checkpoint is whole (stage {stored['stage']}): {way_on}")


def _is_write(error: CheckpointError | OSError, cause: OSError, folder: RunFolder) -> bool:
    """Whether something couldn't be written for want of space or rights."""
    if cause.errno in NO_SPACE:
        return True
    if isinstance(error, CheckpointError):
        return cause.errno in NO_RIGHT and str(error).startswith("cannot write")
    name = str(cause.filename or "")
    # What is read of a run is read by way of a CheckpointError.
    return cause.errno in NO_RIGHT and bool(name) and Path(name).resolve().is_relative_to(folder.path.resolve())
