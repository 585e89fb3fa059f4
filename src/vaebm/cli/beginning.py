"""How a run on images begins, or goes on: all that it needs is built, and its folder made or read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import yaml

from vaebm.checkpoint import CheckpointError, RunFolder, tensors_sha256
from vaebm.cli.dry_run import disk_notes, memory_warnings
from vaebm.cli.evaluation import judges_for, left_out
from vaebm.cli.known_images import ChangedError, fingerprint, go_on_with_others, known_splits, source_of, with_images
from vaebm.cli.parsing import UsageError
from vaebm.cli.progress import Console
from vaebm.cli.provenance import describe_origin, describe_resumption
from vaebm.cli.request import ACCEPT
from vaebm.cli.running import Run, introduce, restore, tell_other_numerics
from vaebm.cli.stop import StopRequest
from vaebm.data import DataError, Splits
from vaebm.distributed import make_engine
from vaebm.recipes import Config, NVAEConfig, build_model, take_given_vae, to_dict
from vaebm.recipes.estimates import buffer_bytes, checkpoint_bytes, estimate

LARGEST_USUAL_RATE = 0.05


@dataclass(frozen=True)
class Request:
    """What a command line asks for.

    Arguments:
        config: The complete configuration.
        folder: The run folder.
        resumed: Whether the run has begun before.
        splits: The images, if they are read already.
        reasons: Why a derived configuration is what it is, in sentences.
        accepts_others: Whether a run may go on with other images than it began with.
    """

    config: Config
    folder: RunFolder
    resumed: bool
    splits: Splits | None = None
    reasons: tuple[str, ...] = ()
    accepts_others: bool = False


def begin(request: Request, stop: StopRequest, arguments: Sequence[str]) -> Run:
    """Builds all that a run needs, and makes the run folder or reads what it holds.

    Arguments:
        request: What was asked for.
        stop: Whether a signal asks to stop.
        arguments: The command line, for the record.

    Raises:
        CheckpointError: If the run folder isn't empty, or what it holds can't be used.
        ConfigError: If there is no such network for such images.
        DataError: If the images can't be used.
        EngineError: If there is no such device here.
    """
    config, folder = request.config, request.folder
    engine = make_engine(config.precision, config.device)
    if config.energy.compile_decoder:
        _check_compiler(config)
    splits = _splits(request)
    torch.manual_seed(config.seed)
    model = build_model(config, splits.training.shape).to(engine.device)
    console = Console(folder.log if engine.is_main else None, is_quiet=not engine.is_main)
    told: list[str] = [*request.reasons]
    judges = judges_for(config.data.source, splits.training.shape, told.append)
    run = Run(folder, config, engine, splits, model, judges, console, stop)
    told += _go_on(run, request.accepts_others) if request.resumed else _start(run, request, arguments)
    engine.wait()
    _introduce(run, told)
    return run


def _start(run: Run, request: Request, arguments: Sequence[str]) -> list[str]:
    """Makes the folder of a new run; returns what is to be said."""
    config, folder, told = run.config, run.folder, list[str]()
    given = {}
    if config.initial_vae:
        told.append(take_given_vae(run.model, config))
        given = {"initial_vae_sha256": tensors_sha256(run.model.vae.state_dict())}
    if run.engine.is_main:
        origin = describe_origin(config.seed, arguments, run.engine, request.reasons) | given
        origin["images"] = fingerprint(run.splits, config.data.source)
        run.lock = folder.claim()
        folder.create(yaml.safe_dump(to_dict(config), sort_keys=False), origin, run.lock)
    return told


def _go_on(run: Run, accepts_others: bool) -> list[str]:
    """Takes over what the folder of a run holds; returns what is to be said.

    Raises:
        CheckpointError: If what it holds can't be used, or a given VAE isn't the one that the run began with.
    """
    config, folder, told = run.config, run.folder, list[str]()
    if run.engine.is_main:
        run.lock = folder.lock()
        folder.remove_leftovers()
    restore(run)
    provenance = folder.read_provenance()
    known = provenance.get("images", {})
    found = fingerprint(run.splits, source_of(config, known))
    are_others = accepts_others and known.get("sha256") not in (None, found["sha256"])
    # The main process will change the record: it decides, for another one may read it before or after that.
    (decision,) = run.engine.from_main([are_others])
    if decision:
        told.append(go_on_with_others(run))
    if config.initial_vae and not run.stored:
        told.append(take_given_vae(run.model, config))
        began = provenance.get("initial_vae_sha256")
        if began not in (None, tensors_sha256(run.model.vae.state_dict())):
            raise CheckpointError(
                f"initial_vae {config.initial_vae} isn't the VAE that the run began with any more: put that back, or "
                "start anew"
            )
    if run.engine.is_main:
        there = folder.keep_metrics(run.num_rows)
        if there < run.num_rows:
            lost = f"{run.num_rows - there} of {run.num_rows} records before the checkpoint"
            told.append(f"warning: {folder.metrics} lacks {lost}: curves of the report have a gap")
            run.num_rows = there
        folder.write_provenance(with_images(describe_resumption(folder.read_provenance(), run.engine), found))
    return told


def _check_compiler(config: Config) -> None:
    """Compiles a line, so that a compiler that isn't there is told of before there is any work."""
    if not isinstance(config, NVAEConfig):
        raise UsageError("energy.compile_decoder is for an NVAE: expected false with this VAE")
    try:
        torch.compile(lambda tensor: tensor + 1)(torch.zeros(1))
    except Exception as error:  # torch raises many kinds here
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"energy.compile_decoder needs a compiler that torch.compile can use ({type(error).__name__}: {reason}): "
            "install one, or leave it false"
        ) from error


def _splits(request: Request) -> Splits:
    if request.splits is not None:
        return request.splits
    if not request.resumed:
        return known_splits(request.config, {})
    try:
        known = request.folder.read_provenance().get("images", {})
        return known_splits(request.config, known, request.accepts_others)
    except ChangedError as error:
        raise DataError(f"{error}; to go on with these all the same, add {ACCEPT}") from error
    except DataError as error:
        raise DataError(f"{error}; go on from the folder where the run was started") from error


def _introduce(run: Run, notes: Sequence[str]) -> None:
    engine = run.engine
    introduce(run)
    for note in [*filter(None, [engine.warning]), *notes, *left_out(run.splits)]:
        run.console.tell(note)
    if isinstance(run.config, NVAEConfig):
        for warning in memory_warnings(estimate(run.config, run.splits.training.shape), engine.device):
            run.console.tell(f"warning: {warning}")
    if engine.is_main:
        # Each process has a file of its own.
        on_disk = run.config.energy.buffer_on_disk
        scratch = engine.num_processes * buffer_bytes(run.config, run.model) if on_disk else 0.0
        for note in disk_notes(run.folder.path, checkpoint_bytes(run.config, run.model), scratch):
            run.console.tell(note)
    smallest = 1 / (len(run.splits.calibration) + 1)
    if smallest > LARGEST_USUAL_RATE:
        count = f"{len(run.splits.calibration)} calibration images"
        run.console.tell(
            f"{count}: no p-value will be below {smallest:.2g}, so no image can be flagged at a lower rate"
        )
    if engine.is_main:
        tell_other_numerics(run)
