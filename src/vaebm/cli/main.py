"""``vaebm``: finds the verb, and turns errors of the user into one line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from vaebm.cli.parsing import UsageError, nearest

VERBS = {
    "train": "train a VAEBM on images: vaebm train mnist",
    "sample": "draw images, or a chain at work: vaebm sample mnist -n 64 --output grid.png",
    "evaluate": "measure a trained model on its test images: vaebm evaluate RUN",
    "score": "tell outliers among images: vaebm score RUN images.npz --output scores.csv",
}


def _help() -> str:
    lines = [f"  {name:<10}{text}" for name, text in VERBS.items()]
    return "\n".join(
        ["usage: vaebm VERB …", "", "A VAE and an energy network that work together.", "", *lines, "", "vaebm VERB --help tells more of each."]
    )


def _user_errors() -> tuple[type[Exception], ...]:
    from vaebm.checkpoint import CheckpointError
    from vaebm.data import DataError
    from vaebm.distributed import EngineError
    from vaebm.recipes import ConfigError

    return (UsageError, DataError, CheckpointError, ConfigError, EngineError)


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Arguments:
        arguments: What stands behind ``vaebm`` on the command line.

    Returns:
        The exit code: 0, 2 for an error of the user, 130 after an interruption.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        from vaebm import __version__

        print(f"vaebm {__version__}")
        return 0
    try:
        verb = arguments[0]
        if verb not in VERBS:
            raise UsageError(f"unknown verb {verb!r}{nearest(verb, VERBS)}: expected one of {', '.join(VERBS)}")
        command: Callable[[Sequence[str]], int] = import_module(f"vaebm.cli.{verb}").run
        return command(arguments[1:])
    except UsageError as error:
        message = str(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        if not isinstance(error, _user_errors()):
            raise
        message = str(error)
    print(f"vaebm: {' '.join(message.split())}", file=sys.stderr)
    return 2


def main() -> None:
    """The entry point of the command ``vaebm``."""
    sys.exit(run(sys.argv[1:]))
