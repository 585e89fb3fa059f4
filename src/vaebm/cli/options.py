"""The options of ``vaebm train``: one for each field of the configuration, typed, explained and defaulted by it."""

from __future__ import annotations

import re
from argparse import HelpFormatter
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NoReturn, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentParser

from vaebm.cli.parsing import UsageError, explain
from vaebm.cli.request import ACCEPT
from vaebm.recipes import PLANAR_RECIPES, RECIPES, Config, PlanarConfig
from vaebm.recipes.config import KIND_NAMES

DESCRIPTION = """Trains a VAEBM: the VAE first, then the energy network. NAME is a recipe, {recipes}: a complete
configuration, whose values are the defaults below. A --config file replaces some of them, and options replace single
ones after it; lists are written '[16,32]'. For images of your own:
vaebm train --data PATH."""
USAGE = """vaebm train NAME [--output RUN] [--config FILE] [--SECTION.KEY VALUE …]
       vaebm train --data SOURCE [--image-size N] [--budget TIME] …
       vaebm train --resume RUN"""
METAVARS = {bool: "true|false", int: "N", float: "X", str: "WORD"}


class OptionParser(ArgumentParser):
    """A parser without abbreviations, whose errors are ``UsageError``."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises a ``UsageError`` that says what was expected, or names the nearest option."""
        wrong = re.fullmatch(r'(?s)Parser key "([^"]+)":.*Got value: (.*)', message)
        if wrong is not None:
            known = {action.dest: action.metavar for action in self._actions}
            text = f"--{wrong[1]} is {wrong[2]}: expected {_expected(known.get(wrong[1]))}"
        else:
            text = explain(message, self._option_string_actions)
        raise UsageError(f"{text}; see vaebm train --help") from ex


class _Formatter(HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)


@dataclass(frozen=True)
class _Leaf:
    path: str
    kind: Any
    default: Any
    meaning: str


def option_parser(base: Config | PlanarConfig) -> OptionParser:
    """Returns the parser of ``vaebm train``.

    Arguments:
        base: The configuration whose values are the defaults.
    """
    parser = OptionParser(
        prog="vaebm train",
        usage=USAGE,
        description=DESCRIPTION.format(recipes=" or ".join([*RECIPES, *PLANAR_RECIPES])),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the recipe")
    parser.add_argument("--output", metavar="RUN", help="the run folder to make (default runs/NAME-DATE-TIME-…)")
    parser.add_argument("--config", metavar="FILE", help="YAML file with values that replace the recipe's")
    parser.add_argument("--dry-run", action="store_true", help="only tell the configuration and what it will cost")
    parser.add_argument(
        "--resume", metavar="RUN", help="a run folder to go on with; no other option beside it but the next"
    )
    parser.add_argument(
        ACCEPT, action="store_true", help="go on with a run though its images aren't those that it began with"
    )
    sections = [item for item in fields(base) if is_dataclass(getattr(base, item.name))]
    meanings = _meanings(type(base))
    run = parser.add_argument_group("the run")
    for leaf in _leaves(base, ""):
        _add(run, leaf)
    for section in sections:
        group = parser.add_argument_group(f"{section.name}: {_uncapitalized(meanings[section.name])}")
        for leaf in _leaves(getattr(base, section.name), f"{section.name}."):
            _add(group, leaf)
    return parser


def _leaves(config: Any, prefix: str) -> Iterator[_Leaf]:
    kinds, meanings = get_type_hints(type(config)), _meanings(type(config))
    for item in fields(config):
        value = getattr(config, item.name)
        if not is_dataclass(value):
            yield _Leaf(prefix + item.name, kinds[item.name], value, meanings[item.name])


def _meanings(cls: type) -> dict[str, str]:
    described = parse_docstring(cls.__doc__ or "").params
    words = {entry.arg_name: (entry.description or "").replace("``", "").split() for entry in described}
    return {name: " ".join(parts).removesuffix(".") for name, parts in words.items()}


def _add(group: Any, leaf: _Leaf) -> None:
    metavar = METAVARS.get(leaf.kind, "LIST")
    meaning = f"{_uncapitalized(leaf.meaning)} (default {_short(leaf.default)})"
    group.add_argument(
        f"--{leaf.path}", type=leaf.kind, default=leaf.default, metavar=metavar, help=meaning.replace("%", "%%")
    )


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(_short, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _uncapitalized(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _expected(metavar: Any) -> str:
    kinds = {METAVARS[kind]: words for kind, words in KIND_NAMES.items()}
    return kinds.get(metavar, "a list such as '[16,32]', of numbers, as many as in --help")
