"""A run of the plane: what it needs besides what every run does, and how it begins or goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from vaebm.checkpoint import RunFolder
from vaebm.cli.progress import Console
from vaebm.cli.provenance import describe_origin, describe_resumption
from vaebm.cli.request import config_from, read_yaml
from vaebm.cli.running import Run, introduce, restore, tell_other_numerics
from vaebm.cli.stop import StopRequest
from vaebm.data import PlanarDensity
from vaebm.distributed import make_engine
from vaebm.recipes import ConfigError, PlanarConfig, build_planar_model, to_dict


class Request(NamedTuple):
    """What a command line asks for; ``is_resumed``: the run has begun before."""

    config: PlanarConfig
    folder: RunFolder
    is_resumed: bool


@dataclass
class PlanarRun(Run):
    """A run of the plane: its points are drawn, and there are no splits and no judges.

    ``best``: the averaged energy network with the largest density gain so far: gain, iteration, energy (its tensors);
    when stage 2 has ended, the gain of the one that is kept.
    """

    config: PlanarConfig  # type: ignore[assignment]  # of the plane
    splits: None  # type: ignore[assignment]  # there are none


class PointBatches:
    """An endless iterator of batches of points of a density, as images (B, 2, 1, 1).

    Arguments:
        density: The density.
        batch_size: The number of points B.
        generator: Where they come from. Its state is stored with the batches', so give it to nothing else.
    """

    def __init__(self, density: PlanarDensity, batch_size: int, generator: torch.Generator) -> None:
        self.density, self.batch_size, self.generator = density, batch_size, generator

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        """The next batch."""
        return self.density.to_images(self.density.sample(self.batch_size, self.generator))

    def state_dict(self) -> dict[str, Any]:
        """What the coming batches depend on."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where another run stopped."""
        self.generator.set_state(state["generator"].cpu())


def resumed_path(arguments: Sequence[str]) -> str | None:
    """Returns the run folder behind ``--resume``, or None.

    Example:
        >>> resumed_path(["--resume", "RUN"]), resumed_path(["--resume=RUN"]), resumed_path(["ring"])
        ('RUN', 'RUN', None)
    """
    for place, word in enumerate(arguments):
        if word.startswith("--resume="):
            return word.removeprefix("--resume=")
        if word == "--resume":
            return next(iter(arguments[place + 1 :]), None)
    return None


def goes_on(arguments: Sequence[str]) -> bool:
    """Whether a command line goes on with a run of the plane."""
    path = resumed_path(arguments)
    config = None if path is None else RunFolder(Path(path)).config
    return config is not None and config.is_file() and "density" in read_yaml(config)


def stored_config(folder: RunFolder) -> PlanarConfig:
    """Reads the configuration of a run.

    Raises:
        ConfigError: If it isn't complete: a value that is missing would silently become another one.
    """
    values = read_yaml(folder.config)
    config: PlanarConfig = config_from(folder.config, PlanarConfig, values)
    if to_dict(config) != values:
        way_out = "restore it from a copy, or start anew if an older vaebm began it"
        raise ConfigError(f"{folder.config} isn't the complete configuration of a run: {way_out}")
    return config


def begin(request: Request, stop: StopRequest, arguments: Sequence[str]) -> PlanarRun:
    """Builds all that a run needs, and makes the run folder or reads what it holds.

    Arguments:
        request: What was asked for.
        stop: Whether a signal asks to stop.
        arguments: The command line, for the record.

    Raises:
        CheckpointError: If the run folder isn't empty, or what it holds can't be used.
        EngineError: If what a launcher says makes no sense.
    """
    config, folder = request.config, request.folder
    engine = make_engine("fp32", "cpu")
    torch.manual_seed(config.seed)
    model = build_planar_model(config)
    console = Console(folder.log if engine.is_main else None, is_quiet=not engine.is_main)
    run = PlanarRun(folder, config, engine, None, model, [], console, stop)
    if request.is_resumed:
        if engine.is_main:
            run.lock = folder.lock()
            folder.remove_leftovers()
        restore(run)
    if engine.is_main and request.is_resumed:
        run.num_rows = folder.keep_metrics(run.num_rows)
        folder.write_provenance(describe_resumption(folder.read_provenance(), engine))
    elif engine.is_main:
        run.lock = folder.claim()
        origin = describe_origin(config.seed, arguments, engine)
        folder.create(yaml.safe_dump(to_dict(config), sort_keys=False), origin, run.lock)
    engine.wait()
    introduce(run)
    if engine.is_main:
        tell_other_numerics(run)
    return run
