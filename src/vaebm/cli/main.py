"""``vaebm``: finds the verb, and turns errors of the user into one line and exit code 2."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from keyword import iskeyword

from vaebm.cli.parsing import UsageError, nearest

VERBS = {
    "data": "tell what a folder of images holds: vaebm data FOLDER --sheet sheet.png",
    "train": "train a VAEBM on images: vaebm train mnist",
    "sample": "draw images, or a chain at work: vaebm sample mnist -n 64 --output grid.png",
    "evaluate": "measure a trained model on its test images: vaebm evaluate RUN",
    "benchmark": "train rivals of a VAEBM for the same time: vaebm benchmark mnist --output FOLDER",
    "likelihood": "estimate log Z, and the likelihood that it makes: vaebm likelihood mnist",
    "score": "tell outliers among images: vaebm score RUN images.npz --output scores.csv",
    "import": "turn a published NVAE checkpoint into a model folder: vaebm import checkpoint.pt --output FOLDER",
    "export": "write a scorer that runs without torch: vaebm export RUN --onnx scorer.onnx",
}
HELP = """usage: vaebm VERB …

A VAE and an energy network that work together: trains, samples, evaluates and applies VAEBMs.

{verbs}

vaebm VERB --help tells more of each; vaebm --version tells the version.
"""


def _user_errors() -> tuple[type[Exception], ...]:
    from vaebm.checkpoint import CheckpointError
    from vaebm.data import DataError
    from vaebm.distributed import EngineError
    from vaebm.evaluation import JudgeError
    from vaebm.recipes import ConfigError

    return (UsageError, DataError, CheckpointError, ConfigError, EngineError, JudgeError)


def module_of(verb: str) -> str:
    """Returns the name of a verb's module."""
    return f"vaebm.cli.{verb}{'_' * iskeyword(verb)}"


MEMORY = ("can't allocate memory", "Storage size calculation overflowed", "not enough memory", "out of memory")


def explain(error: Exception) -> str | None:
    """Returns what to tell the user of an error, or None if it is one of this program."""
    if isinstance(error, _user_errors()):
        return str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in MEMORY)
    ):
        return "the memory of this machine is not enough for that: choose fewer images or smaller settings"
    if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.strerror}): free some space"
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if error.filename is not None and not str(error.filename).startswith(package):
        return f"can't use {error.filename} ({error.strerror}): check the path"
    return None


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Arguments:
        arguments: What stands behind ``vaebm`` on the command line.

    Returns:
        The exit code: 0, 2 for an error of the user, 3 where the guard gave up, 130 after an interruption.
    """
    try:
        return _dispatch(arguments)
    except UsageError as error:
        message = str(error)
    except KeyboardInterrupt:
        print("vaebm: interrupted", file=sys.stderr)
        return 130
    except SystemExit as leaving:
        # argparse leaves so when it has shown its help.
        return 0 if leaving.code is None else int(leaving.code)
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        message = explained
    print(f"vaebm: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _dispatch(arguments: Sequence[str]) -> int:
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help"):
        print(HELP.format(verbs="\n".join(f"  {name:<12}{text}" for name, text in VERBS.items())), end="")
        return 0
    if verb == "--version":
        from vaebm import __version__

        print(f"vaebm {__version__}")
        return 0
    if verb not in VERBS:
        kind = "option" if verb.startswith("-") else "verb"
        raise UsageError(f"unknown {kind} {verb!r}{nearest(verb, VERBS)}: expected one of {', '.join(VERBS)}")
    command: Callable[[Sequence[str]], int] = import_module(module_of(verb)).run
    return command(arguments[1:])


def main() -> None:
    """The entry point of the command ``vaebm``."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # η, ² and … must not end a run where the terminal can't show them.
            stream.reconfigure(errors="replace")
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Else Python complains once more when it closes the pipe that nobody reads.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # One of several processes: where threads of gloo outlive the others, torch's teardown may abort.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
