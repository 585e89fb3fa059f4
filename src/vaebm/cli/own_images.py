"""``vaebm train --data SOURCE``: images of one's own, whose configuration is derived from them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vaebm.cli.costs import measure_costs
from vaebm.cli.evaluation import judges_for
from vaebm.cli.parsing import Parser, UsageError, budget, image_size, value_range
from vaebm.data import DataError, Splits, advised_range, inspect_source, load_splits
from vaebm.distributed import launched_processes, make_engine
from vaebm.recipes import Config, images
from vaebm.recipes.config import DataConfig
from vaebm.recipes.images import Counts, finest_detail, within

SIDES = range(8, 129)
DEFAULT_BUDGET = 1800.0


@dataclass(frozen=True)
class Derived:
    """A configuration, the images it was derived from, and why it is so, in sentences."""

    config: Config
    splits: Splits
    reasons: tuple[str, ...]


def image_parser() -> Parser:
    """Returns the parser of what describes images of one's own."""
    parser = Parser("train", "Trains a VAEBM on images of your own; their size and number choose the configuration.")
    parser.usage = "vaebm train --data SOURCE [--image-size N] [--budget TIME] …"
    parser.add_argument("--data", metavar="SOURCE", help="a folder of images, an npz, npy, idx or parquet file, a name")
    parser.add_argument(
        "--image-size", type=image_size, metavar="N|HxW", help="the size that images are brought to, from 8 to 128"
    )
    parser.add_argument("--channels", type=int, choices=(1, 3), help="grey or colour; needed where both occur")
    parser.add_argument("--fit", choices=("stretch", "crop"), help="how images get the size (default stretch)")
    parser.add_argument(
        "--value-range", type=value_range, metavar="LOW,HIGH", help="what becomes black and white (default: the type's)"
    )
    parser.add_argument("--strict", action="store_true", help="refuse unreadable files instead of leaving them out")
    parser.add_argument(
        "--budget", type=budget, metavar="TIME", help="about how long the run may take: 10m, 1h (default 30m)"
    )
    return parser


def take_options(words: Sequence[str]) -> tuple[Namespace, list[str]]:
    """Takes what describes images of one's own out of a command line.

    Arguments:
        words: What stands behind ``vaebm train``.

    Returns:
        Its values, and the words that are left.

    Raises:
        UsageError: If a value can't be used, or images are described though there are none.
    """
    options, rest = image_parser().parse_known_args(list(words))
    if options.data is None:
        named = [name for name, value in vars(options).items() if value not in (None, False)]
        if named:
            option = f"--{named[0].replace('_', '-')}"
            raise UsageError(f"{option} goes with --data SOURCE: see vaebm train --help for the settings of a recipe")
    return options, list(rest)


def stated_data(options: Namespace) -> dict[str, Any]:
    """Returns what a command line states of its images, by the fields of ``DataConfig``."""
    fields = ("image_size", "channels", "fit", "value_range", "strict")
    stated = {name: getattr(options, name) for name in fields if getattr(options, name) not in (None, False)}
    return {"source": options.data, **stated}


def derive(options: Namespace, seed: int, tell: Callable[[str], None]) -> Derived:
    """Reads images and derives a configuration from them.

    Arguments:
        options: What ``take_options`` returned.
        seed: The seed of the run.
        tell: Is told what goes on.

    Returns:
        The configuration, the images and the reasons.

    Raises:
        DataError: If the images can't be used.
        ConfigError: If the budget isn't enough.
        UsageError: If there are several processes.
    """
    if launched_processes() > 1:
        raise UsageError(
            "--data measures this machine in one process: expected a --config of such a run for several processes"
        )
    data = DataConfig(**stated_data(options))
    tell(f"reading {data.source}")
    notes = []
    found = inspect_source(data.source, data.preprocessing, data.strict, num_drawn=0)
    if found.num_repeated:
        notes.append(
            f"{found.num_repeated:,} images are copies of others: a copy on both sides of a split flatters what is "
            "measured there"
        )
    if not any(data.value_range) and (advised := advised_range(found)) is not None:
        data = replace(data, value_range=advised)
        notes.append(
            f"value range: black is {advised[0]:.10g} and white {advised[1]:.10g}, which is what the values use"
        )
    splits = load_splits(data.source, data.split_seed, data.preprocessing, data.strict)
    shape = splits.training.shape
    if any(side not in SIDES for side in shape[1:]):
        raise DataError(
            f"{data.source}: images are {shape[1]}x{shape[2]}: expected 8 to 128 pixels a side, bring them to a size "
            "with --image-size 64"
        )
    counts = Counts(*(len(part) for part in (splits.training, splits.selection, splits.calibration, splits.test)))
    pixels = torch.from_numpy(splits.training.images)
    base = replace(images(shape, data, counts.training, finest_detail(pixels)), seed=seed)
    judges = judges_for(data.source, shape, notes.append)
    tell("measuring what an iteration costs here")
    costs = measure_costs(base, pixels, judges[0] if judges else None, make_engine(base.precision, base.device))
    planned = within(base, costs, counts, options.budget or DEFAULT_BUDGET)
    return Derived(planned.config, splits, (*notes, *planned.reasons))
