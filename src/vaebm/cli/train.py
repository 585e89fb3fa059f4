"""``vaebm train``: one command from images to a model, its figures and a report."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

from vaebm.checkpoint import RunFolder
from vaebm.cli.finish import finish
from vaebm.cli.parsing import UsageError, explain, nearest
from vaebm.cli.progress import Console
from vaebm.cli.provenance import describe_origin
from vaebm.cli.stages import Interrupted, Run, StopRequest, train_stages
from vaebm.data import load_splits
from vaebm.distributed import make_engine
from vaebm.recipes import RECIPES, Config, ConfigError, build_model, from_dict, load_judges, to_dict

USAGE = f"""usage: vaebm train NAME [--output RUN] [--config FILE] [--OPTION VALUE …]
       vaebm train --resume RUN

Trains a VAEBM: the VAE first, then the energy network. NAME is a recipe: {", ".join(RECIPES)}."""


class _Parser(ArgumentParser):  # type: ignore[misc]
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises a ``UsageError`` that names the nearest option."""
        text = explain(message, self._option_string_actions)
        raise UsageError(f"{text}; see vaebm train --help") from ex


@dataclass(frozen=True)
class _Request:
    config: Config
    folder: RunFolder
    resumed: bool


def _parser() -> ArgumentParser:
    parser = _Parser(prog="vaebm train", usage=USAGE, add_help=True, allow_abbrev=False)
    parser.add_argument("name", nargs="?", help="the recipe")
    parser.add_argument("--output", type=str | None, default=None, help="the run folder to make (default runs/NAME-DATE-TIME)")
    parser.add_argument("--config", type=str | None, default=None, help="YAML file with values that replace the recipe's; the command line is stronger")
    parser.add_argument("--resume", type=str | None, default=None, help="a run folder to go on with; no other option beside it")
    parser.add_class_arguments(Config, None)
    return parser


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _first_pass(arguments: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, word in enumerate(arguments):
        name, _, value = word.partition("=")
        if name in ("--config", "--resume"):
            if not value and index + 1 == len(arguments):
                raise UsageError(f"{name} needs a value; see vaebm train --help")
            found[name] = value or arguments[index + 1]
    return found


def parse(arguments: Sequence[str]) -> _Request:
    """Turns a command line into a configuration and a run folder: recipe first, then the file, then the options."""
    special = _first_pass(arguments)
    if "--resume" in special:
        if len(arguments) != (1 if "=" in arguments[0] else 2):
            raise UsageError("--resume takes no other option: the run's own configuration goes on")
        folder = RunFolder(Path(special["--resume"])).open()
        return _Request(from_dict(Config, yaml.safe_load(folder.read_config())), folder, True)
    parser = _parser()
    positional = [word for word in arguments if word in RECIPES]
    if positional:
        base = RECIPES[positional[0]]()
        if "--config" in special:
            base = from_dict(Config, _merge(to_dict(base), _read_yaml(special["--config"])))
        parser.set_defaults(_flat(to_dict(base)))
    options = parser.parse_args(list(arguments))
    if options.name not in RECIPES:
        hint = nearest(options.name, RECIPES) if options.name else ""
        raise UsageError(f"unknown recipe {options.name!r}{hint}: expected one of {', '.join(RECIPES)}")
    config = _config(options)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return _Request(config, RunFolder(Path(options.output or f"runs/{options.name}-{stamp}")), False)


def _config(options: Namespace) -> Config:
    values = {name: value for name, value in options.as_dict().items() if name not in ("name", "output", "config", "resume")}
    config: Config = from_dict(Config, values)
    return config


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}; name a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no options: expected lines such as 'seed: 1'")
    return values


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(name), dict)
        merged[name] = _merge(below[name], value) if both else value
    return merged


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    request = parse(arguments)
    config, folder = request.config, request.folder
    engine = make_engine(config.precision, config.device)
    splits = load_splits(config.data.source, config.data.split_seed)
    torch.manual_seed(config.seed)
    model = build_model(config, splits.training.shape).to(engine.device)
    stored = folder.load_checkpoint("last") or {} if request.resumed else {}
    if request.resumed:
        folder.keep_metrics(stored.get("num_metrics", 0))
    else:
        folder.create(yaml.safe_dump(to_dict(config), sort_keys=False), describe_origin(config.seed, arguments))
    console = Console(folder.log)
    console.tell(f"run folder {folder.path}, {engine.device}, {engine.precision}, {torch.get_num_threads()} threads")
    judges = load_judges(splits.training.shape)
    state = Run(folder, config, engine, splits, model, judges, console, StopRequest(), stored)
    try:
        with state.stop.listening():
            train_stages(state)
            finish(state)
    except Interrupted:
        console.tell(f"stopped by {state.stop.name}; everything is saved. Go on with: vaebm train --resume {folder.path}")
        return 130
    console.tell(f"report: {folder.report}")
    return 0
