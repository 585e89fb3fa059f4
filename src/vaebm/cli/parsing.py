"""Parsers that answer a mistake with one line, and what several verbs parse alike."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from typing import NoReturn


class UsageError(ValueError):
    """A command line that can't be understood; the message is one line."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `` (did you mean …?)`` for the nearest known word, or nothing.

    Example:
        >>> nearest("tran", ["train", "sample"])
        ' (did you mean train?)'
    """
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


class Parser(argparse.ArgumentParser):
    """An ``argparse`` parser without abbreviations, whose errors are ``UsageError``."""

    def __init__(self, verb: str, description: str) -> None:
        super().__init__(prog=f"vaebm {verb}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises a ``UsageError`` that names the nearest option."""
        raise UsageError(f"{explain(message, self._option_string_actions)}; see {self.prog} --help")


def explain(message: str, options: Iterable[str]) -> str:
    """Adds the nearest known option to the first unknown one that a message names."""
    unknown = re.search(r"(--[\w.-]+)", message)
    known = list(options)
    hint = nearest(unknown[1], known) if unknown and unknown[1] not in known else ""
    return f"{' '.join(message.split())}{hint}"


def positive(text: str) -> int:
    """Parses a whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Parses a whole number of at least 0."""
    return _whole(text, 0)


def _whole(text: str, lowest: int) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) < lowest:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {lowest}")
    return int(text)


def positive_number(text: str) -> float:
    """Parses a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def share(text: str) -> float:
    """Parses a number between 0 and 1, both excluded."""
    value = positive_number(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value
