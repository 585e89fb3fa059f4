"""What the commands that train read alike: options of their own, YAML files, where a run goes."""

from __future__ import annotations

import datetime
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vaebm.cli.parsing import UsageError
from vaebm.distributed import launched_processes
from vaebm.recipes import ConfigError, from_dict, to_dict

ACCEPT = "--accept-changed-images"
OWN_OPTIONS = ("name", "output", "config", "resume", "accept_changed_images", "dry_run")
FLAGS = ("--help", "--dry-run", "--strict", ACCEPT)
ConfigT = TypeVar("ConfigT")


def recipe_word(arguments: Sequence[str]) -> str | None:
    """Returns the word of a command line that no option takes, or None.

    Example:
        >>> recipe_word(["--seed", "1", "gaussians", "--output=RUN"])
        'gaussians'
    """
    before = ""
    for word in arguments:
        takes_value = before.startswith("--") and "=" not in before and before not in FLAGS
        if not word.startswith("-") and not takes_value:
            return word
        before = word
    return None


def run_path(output: str | None, name: str) -> Path:
    """Returns the folder that a run goes to: the one that is named, or one of its own below ``runs``."""
    if output is None and launched_processes() > 1:
        raise UsageError("several processes need one run folder: expected --output RUN")
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    # Two runs may begin in the same second.
    return Path(output or f"runs/{name}-{stamp}-{secrets.token_hex(2)}")


def merged_file(base: ConfigT, path: Path) -> ConfigT:
    """Returns a configuration with some of its values replaced by those of a YAML file.

    Raises:
        ConfigError: If the file can't be read, or holds an unknown key or a value out of range.
    """
    merged: ConfigT = config_from(path, type(base), _merge(to_dict(base), read_yaml(path)))
    return merged


def config_from(path: Path, cls: type, values: Mapping[str, Any]) -> Any:
    """Returns the configuration that a file's values make.

    Raises:
        ConfigError: If they make none; the message names the file.
    """
    try:
        return from_dict(cls, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns the values of a YAML file.

    Raises:
        ConfigError: If it can't be read, or holds no values.
    """
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
