"""``vaebm train``: one command from images to a model, its figures and a report."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from vaebm.checkpoint import RunFolder
from vaebm.cli.evaluation import warn_of_judges
from vaebm.cli.finish import finish, is_finished
from vaebm.cli.options import option_parser
from vaebm.cli.parsing import UsageError, nearest
from vaebm.cli.progress import Console
from vaebm.cli.provenance import describe_origin, describe_resumption, numerics
from vaebm.cli.running import Run, restore
from vaebm.cli.stages import train_stages
from vaebm.cli.stop import Interrupted, StopRequest
from vaebm.data import DataError, load_splits
from vaebm.distributed import make_engine
from vaebm.recipes import RECIPES, Config, ConfigError, build_model, from_dict, load_judges, to_dict

LARGEST_USUAL_RATE = 0.05
OWN_OPTIONS = ("name", "output", "config", "resume")


@dataclass(frozen=True)
class Request:
    """What a command line asks for.

    Arguments:
        config: The complete configuration.
        folder: The run folder.
        resumed: Whether the run has begun before.
    """

    config: Config
    folder: RunFolder
    resumed: bool


def parse(arguments: Sequence[str]) -> Request | None:
    """Turns a command line into a request: the recipe first, then the file, then the options, whatever their order.

    Arguments:
        arguments: What stands behind ``vaebm train``.

    Returns:
        The request, or None if the command line asked for help and has got it.

    Raises:
        UsageError: If it can't be understood.
        ConfigError: If a value is out of range, or the file can't be used.
        CheckpointError: If there is no run to go on with.
    """
    words = [word for word in arguments if word not in ("-h", "--help")]
    first = option_parser(RECIPES["mnist"]()).parse_args(words)
    if len(words) < len(arguments):
        option_parser(RECIPES.get(first.name, RECIPES["mnist"])()).print_help()
        return None
    if first.resume is not None:
        if len(words) != (1 if "=" in words[0] else 2):
            raise UsageError("--resume takes no other option: the run goes on with its own configuration")
        folder = RunFolder(Path(first.resume)).open()
        return Request(_complete(folder.config), folder, True)
    base = _recipe(first.name)
    if first.config is not None:
        base = _merged(base, Path(first.config))
    values = option_parser(base).parse_args(words).as_dict()
    config = from_dict(Config, {name: value for name, value in values.items() if name not in OWN_OPTIONS})
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Request(config, RunFolder(Path(first.output or f"runs/{first.name}-{stamp}")), False)


def _recipe(name: str | None) -> Config:
    recipes = " or ".join(RECIPES)
    if name is None:
        raise UsageError(f"which recipe? expected vaebm train {recipes}; see vaebm train --help")
    if name not in RECIPES:
        own = f"; for images of your own: vaebm train mnist --data.source {name}" if Path(name).exists() else ""
        raise UsageError(f"unknown recipe {name!r}{nearest(name, RECIPES)}: expected {recipes}{own}")
    return RECIPES[name]()


def _complete(path: Path) -> Config:
    """Reads the configuration of a run: a key that is missing would silently become another value."""
    values = _read_yaml(path)
    config = _from_file(path, values)
    missing = sorted(_keys(to_dict(config)) - _keys(values))
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing[:3])}{', …' * (len(missing) > 3)}: restore it from a copy")
    return config


def _merged(base: Config, path: Path) -> Config:
    return _from_file(path, _merge(to_dict(base), _read_yaml(path)))


def _from_file(path: Path, values: Mapping[str, Any]) -> Config:
    try:
        config: Config = from_dict(Config, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(os.path.expanduser(path)).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read {path} ({error.strerror}): expected a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no values: expected lines such as 'seed: 1'")
    return values


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(name), dict)
        merged[name] = _merge(below[name], value) if both else value
    return merged


def _keys(values: Mapping[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for name, value in values.items():
        found |= _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}"}
    return found


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    request = parse(arguments)
    if request is None:
        return 0
    folder = request.folder
    if request.resumed and is_finished(folder):
        print(f"the run {folder.path} is finished; report: {folder.report}")
        return 0
    stop = StopRequest()
    with stop.listening():
        begun = begin(request, stop, arguments)
        try:
            train_stages(begun)
            finish(begun)
        except KeyboardInterrupt as error:
            saved = "all is saved" if isinstance(error, Interrupted) else "left at once, the last checkpoint stands"
            begun.console.tell(f"stopped by {stop.name}; {saved}. Go on with: vaebm train --resume {folder.path}")
            return 130
        finally:
            begun.engine.close()
    begun.console.tell(f"report: {folder.report}")
    return 0


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
    try:
        splits = load_splits(config.data.source, config.data.split_seed)
    except DataError as error:
        if not request.resumed:
            raise
        raise DataError(f"{error}; go on from the folder where the run was started") from error
    torch.manual_seed(config.seed)
    model = build_model(config, splits.training.shape).to(engine.device)
    console = Console(folder.log if engine.is_main else None, is_quiet=not engine.is_main)
    run = Run(folder, config, engine, splits, model, load_judges(splits.training.shape), console, stop)
    if request.resumed:
        restore(run)
    if engine.is_main and request.resumed:
        folder.keep_metrics(run.num_rows)
        folder.write_provenance(describe_resumption(folder.read_provenance(), engine))
    elif engine.is_main:
        folder.create(yaml.safe_dump(to_dict(config), sort_keys=False), describe_origin(config.seed, arguments, engine))
    engine.wait()
    _introduce(run)
    return run


def _introduce(run: Run) -> None:
    engine, threads = run.engine, torch.get_num_threads()
    processes = f", {engine.num_processes} processes" if engine.num_processes > 1 else ""
    run.console.tell(f"run folder {run.folder.path}, {engine.device}, {engine.precision}, {threads} threads{processes}")
    if not run.judges:
        run.console.tell("no classifier at hand takes such images: the quality of samples is not measured")
    warn_of_judges(run.judges, run.config.data.source, run.console.tell)
    smallest = 1 / (len(run.splits.calibration) + 1)
    if smallest > LARGEST_USUAL_RATE:
        count = f"{len(run.splits.calibration)} calibration images"
        run.console.tell(
            f"{count}: no p-value will be below {smallest:.2g}, so no image can be flagged at a lower rate"
        )
    if not engine.is_main:
        return
    began, now = run.folder.read_provenance(), numerics(engine)
    for name in now.keys() & began.keys():
        if began[name] != now[name]:
            run.console.tell(
                f"the run began with {began[name]} {name}, now {now[name]}: "
                "its weights will differ from it in the last bits"
            )
