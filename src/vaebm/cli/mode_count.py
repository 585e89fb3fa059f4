"""How many classes the samples of a model reach, and how evenly: `vaebm evaluate MODEL --modes N`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.cli.chain_looks import watch_chains
from vaebm.cli.parsing import UsageError
from vaebm.data import Splits, evenly_spaced, to_float
from vaebm.distributed import Engine
from vaebm.evaluation import Judge, Probe, extract, fit_probe
from vaebm.metrics import class_shares, mode_coverage, uniform_kl
from vaebm.models import VAEBM
from vaebm.recipes.config import SamplingConfig
from vaebm.reports.content import IntervalFigure, ModeRow

CHUNK, MOST_SHOWN = 2000, 50


@dataclass(frozen=True, eq=False)
class Counting:
    """Judges that know classes; or a linear probe, and what is told of it in each of its rows."""

    judges: Sequence[Judge]
    probe: Probe | None = None


def counting_judges(
    judges: Sequence[Judge], splits: Splits, source: str, tell: Callable[[str], None], are_chosen: bool = False
) -> Counting:
    """Returns the judges that know classes; where none does, a linear probe on the first one's features.

    Arguments:
        judges: The judges at hand.
        splits: The images.
        source: Where they come from.
        tell: Is told what goes on.
        are_chosen: Whether the judges are the user's choice. Else classifiers of other data don't count: they would
            find the classes that they know in anything.

    Raises:
        UsageError: If there is no judge, or there are no labels that a probe could learn.
    """
    counting = [judge for judge in judges if hasattr(judge.classifier, "head")]
    if not are_chosen:
        counting = [judge for judge in counting if judge.data in ("", source)]
    if counting:
        return Counting(counting)
    if not judges:
        raise UsageError(
            f"--modes counts classes, and nothing at hand sees images of {source}: expected a classifier, --judges "
            "FOLDER, or the extra 'features' and labelled images"
        )
    try:
        probe = fit_probe(judges[0], splits.training, splits.selection)
    except ValueError as error:
        raise UsageError(
            f"--modes counts classes, and no judge of {source} knows any ({error}): expected a classifier, --judges "
            "FOLDER, or images with labels: one sub-folder for each, or arrays with 'labels' or 'y'"
        ) from error
    tell(
        f"{probe.judge.name}: {len(probe.labels)} labels, {100 * probe.accuracy:.1f} % of {probe.num_held_out:,} "
        "held-out images right"
    )
    return Counting([probe.judge], probe)


def check_mode_count(counting: Sequence[Judge], num_samples: int) -> None:
    """Checks that there are samples enough to meet each class.

    Raises:
        UsageError: If there are not.
    """
    most = max(_num_classes(judge) for judge in counting)
    if num_samples < most:
        raise UsageError(
            f"--modes {num_samples}: too few samples to meet {most:,} classes: expected {most:,} or more; published "
            "tables of StackedMNIST have 26,000"
        )


def count_modes(
    model: VAEBM,
    counting: Counting,
    splits: Splits,
    num_samples: int,
    sampling: SamplingConfig,
    seed: int,
    engine: Engine,
    tell: Callable[[str], None],
) -> list[ModeRow]:
    """Counts the classes of samples of the VAE, of the VAEBM, and of test images, by each judge that knows classes.

    Launched processes share the chains; what is made of them, only the main one has.

    Arguments:
        model: The VAEBM, in evaluation mode.
        counting: The judges.
        splits: The images; the test split is counted beside the samples, as many of them as there are.
        num_samples: The number of samples.
        sampling: How they are drawn.
        seed: The seed of the chains.
        engine: Device, precision and processes.
        tell: Is told what goes on.
    """
    tell(f"drawing {num_samples:,} samples, {sampling.words}")
    generator = torch.Generator().manual_seed(seed)
    steps = sorted({0, sampling.num_steps})
    with engine.autocast():
        looks = watch_chains(model, num_samples, steps, sampling.kernel, generator, engine)
    if not engine.is_main:
        return []
    test = torch.from_numpy(splits.test.images[evenly_spaced(len(splits.test), num_samples)])
    sets = {"test images": test, "VAE": looks[0].images, **({"VAEBM": looks[-1].images} if len(looks) > 1 else {})}
    rows = []
    for judge in counting.judges:
        tell(f"counting classes: {judge.name}")
        rows += [_row(judge, counting.probe, what, images, seed) for what, images in sets.items()]
    return rows


def _row(judge: Judge, probe: Probe | None, what: str, images: Tensor, seed: int) -> ModeRow:
    """Returns what a judge counts among images uint8 (N, C, H, W)."""
    count = _num_classes(judge)
    labels = _labels(judge, images)
    found, shares = mode_coverage(labels, count), class_shares(labels, count).tolist()
    margin = 1.96 * found.kl_error
    return ModeRow(
        judge=judge.name,
        judge_sha256=judge.sha256,
        what=what,
        n=len(images),
        seed=seed,
        num_classes=count,
        num_modes=found.num_modes,
        kl=found.kl,
        kl_by_chance=uniform_kl(len(images), count),
        kl_interval=IntervalFigure(value=found.kl, low=max(0.0, found.kl - margin), high=found.kl + margin),
        shares=shares if count <= MOST_SHOWN else None,
        labels=None if probe is None else probe.labels.tolist(),
        accuracy=None if probe is None else probe.accuracy,
        num_held_out=None if probe is None else probe.num_held_out,
    )


def _labels(judge: Judge, images: Tensor) -> Tensor:
    """Returns the most probable class of each image uint8 (N, C, H, W)."""
    labels = []
    for part in torch.split(images, CHUNK):
        probabilities = extract(judge, to_float(part)).probabilities
        assert probabilities is not None, "such judges were left out"
        labels.append(probabilities.argmax(1))
    return torch.cat(labels)


def _num_classes(judge: Judge) -> int:
    head = getattr(judge.classifier, "head")  # noqa: B009  # not all judges have one
    features = torch.zeros(1, judge.classifier.num_features)
    return int(head(features).shape[1])
