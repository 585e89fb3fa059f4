"""Parsers that answer a mistake with one line, and what several verbs parse alike."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

LARGEST_SEED, LARGEST = 2**32 - 1, 10**15


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
    """Returns a parser's message in one line, with the nearest known option to an unknown one.

    Example:
        >>> explain("unrecognized arguments: --num-step 3", ["--num-steps", "--seed"])
        'unknown option --num-step (did you mean --num-steps?)'
        >>> explain("unrecognized arguments: --step_size 3", ["--energy.step_size", "--sampling.step_size"])
        'unknown option --step_size (did you mean --energy.step_size or --sampling.step_size?)'
        >>> explain("unrecognized arguments: extra words", [])
        'unexpected extra words'
    """
    text = " ".join(message.split())
    left = re.fullmatch(r"unrecognized arguments: (.*)", text)
    if left is None:
        return text
    unknown = re.match(r"--?[^\s=]+", left[1])
    if unknown is None:
        return f"unexpected {left[1]}"
    return f"unknown option {unknown[0]}{_nearest_option(unknown[0], list(options))}"


def _nearest_option(unknown: str, known: list[str]) -> str:
    if any(option.startswith(f"{unknown}.") for option in known):
        return f" (it is a section: {unknown}.KEY VALUE)"
    within = [option for option in known if option.endswith(f".{unknown.lstrip('-')}")]
    return f" (did you mean {' or '.join(within)}?)" if within else nearest(unknown, known)


def check_folder_of(path: Path) -> None:
    """Raises a ``UsageError`` if a file can't be written because its folder isn't there."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}: make it first")


def check_suffix_of(path: Path, suffix: str) -> None:
    """Raises a ``UsageError`` if a file to write has another suffix: it may be one that is there to be read."""
    if path.suffix.lower() != suffix:
        raise UsageError(f"--output {path}: expected a {suffix} file")


def filled(expected: str) -> Callable[[str], str]:
    """Returns a parser of texts that aren't empty, which says what is expected instead."""

    def parse(text: str) -> str:
        if not text.strip(" ,"):
            raise argparse.ArgumentTypeError(f"{text!r} is empty: expected {expected}")
        return text

    return parse


def positive(text: str) -> int:
    """Parses a whole number of at least 1."""
    return _whole(text, 1, LARGEST)


def natural(text: str) -> int:
    """Parses a whole number of at least 0."""
    return _whole(text, 0, LARGEST)


def seed(text: str) -> int:
    """Parses a whole number that every generator of random numbers takes."""
    return _whole(text, 0, LARGEST_SEED)


def steps(text: str) -> tuple[int, ...]:
    """Parses ascending whole numbers between commas."""
    numbers = tuple(natural(word.strip()) for word in text.split(","))
    if list(numbers) != sorted(set(numbers)):
        raise argparse.ArgumentTypeError(f"{text!r} does not ascend: expected numbers such as 0,30,60")
    return numbers


def _whole(text: str, lowest: int, highest: int) -> int:
    if not re.fullmatch("[0-9]{1,30}", text) or not lowest <= int(text) <= highest:
        expected = f"of at least {lowest}" if highest == LARGEST else f"from {lowest} to {highest}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {expected}")
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


def persistence(text: str) -> float:
    """Parses how much of its momentum a chain keeps: a number from 0 to below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")
    return value


def share(text: str) -> float:
    """Parses a number between 0 and 1, both excluded."""
    try:
        value = positive_number(text)
    except argparse.ArgumentTypeError:
        value = 1.0
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def budget(text: str) -> float:
    """Parses a time such as 90s, 10m, 1h or 1h30m, in seconds.

    Example:
        >>> budget("10m"), budget("1h30m")
        (600.0, 5400.0)
    """
    parts = re.fullmatch(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,8})s)?", text.strip())
    seconds = (
        sum(int(part or 0) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else 0
    )
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 10m or 1h")
    return float(seconds)


def image_size(text: str) -> tuple[int, int]:
    """Parses a height and a width in pixels, such as 32 or 32x48.

    Example:
        >>> image_size("32"), image_size("32x48")
        ((32, 32), (32, 48))
    """
    parts = re.fullmatch(r"([0-9]{1,4})(?:[x×]([0-9]{1,4}))?", text.strip().lower())
    size = (int(parts[1]), int(parts[2] or parts[1])) if parts else (0, 0)
    if not all(8 <= side <= 128 for side in size):
        raise argparse.ArgumentTypeError(f"{text!r} is no size from 8 to 128: expected 32 or, height x width, 32x48")
    return size


def value_range(text: str) -> tuple[float, float]:
    """Parses the values that become black and white, such as 0,4095.

    Example:
        >>> value_range("0,4095")
        (0.0, 4095.0)
    """
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not (low < high and abs(low) < float("inf") and abs(high) < float("inf")):
        raise argparse.ArgumentTypeError(f"{text!r} is no range LOW,HIGH such as 0,4095 (write --value-range=-1,1)")
    return low, high


def add_chains(parser: Parser) -> None:
    """Adds what says how chains run."""
    parser.add_argument(
        "--num-steps",
        type=natural,
        metavar="K",
        help="Langevin steps (default: stored with the model; 0 = the VAE)",
    )
    parser.add_argument(
        "--step-size", type=positive_number, metavar="η", help="step size η (default: stored with the model)"
    )
    parser.add_argument(
        "--persistence",
        type=persistence,
        metavar="C",
        help="how much of their momentum chains keep from step to step, 0 to below 1 (default: stored with the model, "
        "else 0): with 0.7, short chains come further",
    )


def given_chains(options: argparse.Namespace) -> dict[str, Any]:
    """Returns what was said of the chains, by the names of a model's defaults."""
    names = ("num_steps", "step_size", "persistence")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def add_source(parser: Parser) -> None:
    """Adds the option that says where a model's images are."""
    parser.add_argument(
        "--source",
        metavar="PATH",
        help="where the images that the model was trained on are now (default: where they were)",
    )
