"""``vaebm train``: one command from images to a model, its figures and a report."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaebm.checkpoint import RunFolder, find_model_folder
from vaebm.cli.beginning import Request, begin
from vaebm.cli.dry_run import describe
from vaebm.cli.finish import finish, has_given_up, is_finished
from vaebm.cli.known_images import known_splits
from vaebm.cli.options import option_parser
from vaebm.cli.own_images import Derived, derive, image_parser, stated_data, take_options
from vaebm.cli.parsing import UsageError, nearest
from vaebm.cli.planar import run as run_planar
from vaebm.cli.planar_run import goes_on
from vaebm.cli.request import ACCEPT, OWN_OPTIONS, config_from, merged_file, read_yaml, recipe_word, run_path
from vaebm.cli.running import Run, see_through
from vaebm.cli.stages import train_stages
from vaebm.cli.stop import GAVE_UP, STOPPED, StopRequest
from vaebm.distributed import keep_freed_memory
from vaebm.recipes import (
    NOTES,
    PLANAR_RECIPES,
    RECIPES,
    Config,
    ConfigError,
    config_class,
    from_dict,
    to_dict,
    with_given_vae,
)
from vaebm.training import diagnosis

# What is said of figures that are no numbers.
UNFIT = re.compile(r"\b(nan|finite|infinite)\b", re.IGNORECASE)


def parse(arguments: Sequence[str]) -> Request | None:
    """Turns a command line into a request: the recipe first, then the file, then the options, whatever their order.

    Arguments:
        arguments: What stands behind ``vaebm train``.

    Returns:
        The request, or None if the command line asked for help or a dry run, and has got it.

    Raises:
        UsageError: If it can't be understood.
        ConfigError: If a value is out of range, or the file can't be used.
        CheckpointError: If there is no run to go on with.
    """
    own, words = take_options([word for word in arguments if word not in ("-h", "--help")])
    first = option_parser(RECIPES.get(recipe_word(words) or "mnist", RECIPES["mnist"])()).parse_args(words)
    if "-h" in arguments or "--help" in arguments:
        option_parser(RECIPES.get(first.name, RECIPES["mnist"])()).print_help()
        print(f"\nimages of your own:\n{image_parser().format_help()}", end="")
        return None
    if first.resume is not None:
        others = [word for word in words if word not in (ACCEPT, "--resume", first.resume)]
        if own.data is not None or others not in ([], [f"--resume={first.resume}"]):
            raise UsageError("--resume takes no other option: the run goes on with its own configuration")
        folder = RunFolder(Path(first.resume)).open()
        return Request(_complete(folder.config), folder, True, accepts_others=first.accept_changed_images)
    if first.accept_changed_images:
        raise UsageError(f"{ACCEPT} is for a run that goes on: expected --resume RUN beside it")
    derived = None if own.data is None else _derived(own, first)
    base = _recipe(first.name) if derived is None else derived.config
    if first.config is not None:
        base = merged_file(base, Path(first.config))
    if derived is not None:
        # A file is weaker than the command line.
        base = replace(base, data=replace(base.data, **stated_data(own)))
    values = option_parser(base).parse_args(words).as_dict()
    told = from_dict(type(base), {name: value for name, value in values.items() if name not in OWN_OPTIONS})
    config = with_given_vae(told)
    if first.dry_run:
        _tell(config, first.name)
        return None
    if derived is None:
        _check_source(config, first.name)
        folder = RunFolder(run_path(first.output, first.name))
        _check_outside(folder.path, config.data.source)
        return Request(config, folder, False, reasons=_without_effect(told, config, _recipe(first.name)))
    splits = derived.splits if config.data == derived.config.data else None
    folder = RunFolder(run_path(first.output, Path(own.data).stem or "images"))
    reasons = (*derived.reasons, *_changed(derived.config, config))
    return Request(config, folder, False, splits, reasons)


def _without_effect(told: Config, config: Config, recipe: Config) -> tuple[str, ...]:
    """Returns a sentence on settings of a VAE that are other than those of one that is given, if there are any."""
    if told.vae_network in (recipe.vae_network, config.vae_network):
        return ()
    return (f"vae_network is that of initial_vae {told.initial_vae}: other values that were given have no effect",)


def _changed(derived: Config, config: Config) -> list[str]:
    """Returns a sentence on what a file or the command line made of derived values, if anything."""
    one, other = dict(_values(to_dict(derived))), dict(_values(to_dict(config)))
    names = [name for name in one if one[name] != other.get(name)]
    return [f"changed by a file or the command line, whatever is said above: {', '.join(names)}"] if names else []


def _values(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _values(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _tell(config: Config, name: str | None) -> None:
    """Tells a configuration and what it will cost."""
    height, width = config.data.image_size
    shape = (config.data.channels, height, width)
    if not all(shape):
        _check_source(config, name)
        shape = known_splits(config, {}).training.shape
    print(describe(config, name, shape))


def _check_source(config: Config, name: str | None) -> None:
    if not config.data.source:
        notes = NOTES.get(name or "")
        raise UsageError(f"{name} brings no images: {notes.images if notes else 'give --data.source PATH'}")


def _check_outside(path: Path, source: str) -> None:
    """Checks that what a run draws doesn't become one of its images."""
    images = Path(os.path.expanduser(source))
    if images.is_dir() and path.resolve().is_relative_to(images.resolve()):
        raise UsageError(f"the run folder {path} lies within the images {source}: name one outside of them by --output")


def _derived(own: Namespace, first: Namespace) -> Derived:
    """Derives a configuration from images, if nothing that is quickly found out stands in the way."""
    if first.name is not None:
        raise UsageError(
            f"--data {own.data} derives its own settings: expected no recipe beside it; for those of {first.name}: "
            f"vaebm train {first.name} --data.source {own.data}"
        )
    path = run_path(first.output, Path(own.data).stem or "images")
    if first.output is not None:
        RunFolder(path).check_new()
    _check_outside(path, own.data)
    return derive(own, first.seed, print_now)


def print_now(text: str) -> None:
    """Shows a line of before there is a run."""
    print(text, flush=True)


def _recipe(name: str | None) -> Config:
    recipes = " or ".join([*RECIPES, *PLANAR_RECIPES])
    if name is None:
        raise UsageError(f"which recipe? expected vaebm train {recipes}, or --data SOURCE; see vaebm train --help")
    if name not in RECIPES:
        own = f"; for images of your own: vaebm train --data {name}" if Path(name).exists() else ""
        close = nearest(name, [*RECIPES, *PLANAR_RECIPES])
        raise UsageError(f"unknown recipe {name!r}{close}: expected {recipes}{own}")
    return RECIPES[name]()


def _complete(path: Path) -> Config:
    """Reads the configuration of a run: a key that is missing would silently become another value."""
    values = read_yaml(path)
    config: Config = config_from(path, config_class(values), values)
    missing = sorted(_keys(to_dict(config)) - _keys(values))
    if missing:
        raise ConfigError(
            f"{path} lacks {', '.join(missing[:3])}{', …' * (len(missing) > 3)}: restore it from a copy, or "
            "start anew if an older vaebm began it"
        )
    return config


def _keys(values: Mapping[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for name, value in values.items():
        found |= _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}"}
    return found


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    if recipe_word(arguments) in PLANAR_RECIPES or goes_on(arguments):
        return run_planar(arguments)
    request = parse(arguments)
    if request is None:
        return 0
    folder = request.folder
    if request.resumed and is_finished(folder):
        print(f"the run {folder.path} is finished; report: {folder.report}")
        return GAVE_UP if has_given_up(folder) else 0
    keep_freed_memory()
    stop = StopRequest()
    with stop.listening():
        begun = begin(request, stop, arguments)
        if not see_through(begun, train_stages, finish_in_words):
            return STOPPED
    begun.console.tell(f"report: {folder.report}")
    if begun.guard is not None and begun.guard.has_given_up:
        begun.console.tell(diagnosis(begun.guard.acts, begun.config.energy))
        return GAVE_UP
    return 0


def finish_in_words(begun: Run) -> None:
    """Ends a run, as ``finish``.

    Raises:
        UsageError: If the trained model draws what can't be measured.
    """
    try:
        finish(begun)
    except ValueError as error:
        if not UNFIT.search(str(error)):
            raise
        reason = " ".join(str(error).split())[:200]
        is_saved = find_model_folder(begun.folder.model) is not None
        saved = f"the model is saved in {begun.folder.model}" if is_saved else "there is no model to save"
        raise UsageError(
            f"samples of the trained model can't be measured ({reason}); {saved}: start anew with a smaller "
            "--sampling.step_size or --energy.learning_rate, and see what the log says of the candidates"
        ) from error
