"""Training, selection, calibration and test images, fixed by a seed.

Every choice (chain length, checkpoint, guard) is made on the selection split, p-values rest on the calibration split,
and the test split is read once. The order is a sort of the raw words of a PCG64 stream, which numpy keeps from version
to version (that of `Generator.permutation` may change), so that a split is the same on every machine and in every
year.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaebm.data.errors import DataError
from vaebm.data.images import ImageSet, Skipped

__all__ = ["Splits", "make_splits"]


class Splits(NamedTuple):
    """The four disjoint parts of a data set.

    Arguments:
        training: What weights are fitted to.
        selection: What every choice is made on.
        calibration: What p-values rest on.
        test: What the table is measured on, once.
    """

    training: ImageSet
    selection: ImageSet
    calibration: ImageSet
    test: ImageSet

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What the source held too and could not be read; it is kept with the training and the test images."""
        return (*self.training.skipped, *self.test.skipped)


def make_splits(
    pool: ImageSet,
    test: ImageSet | None,
    num_selection: int,
    num_calibration: int,
    num_test: int = 0,
    seed: int = 0,
) -> Splits:
    """Split a pool of images at random, by a permutation that depends on its size and the seed only.

    Arguments:
        pool: N images.
        test: A test set of its own, or None: then it is taken from the pool.
        num_selection: How many of the pool are for selection.
        num_calibration: How many of the pool are for calibration.
        num_test: How many of the pool are for the test; 0 if there is a test set.
        seed: Which permutation.

    Returns:
        The four parts; training holds what the others leave of the pool.

    Raises:
        DataError: If a part would be empty, or the test images differ in shape.

    Example:
        >>> pool = ImageSet(np.zeros((20, 1, 8, 8), dtype=np.uint8), np.arange(20), name="pool")
        >>> splits = make_splits(pool, None, num_selection=3, num_calibration=2, num_test=5)
        >>> [len(part) for part in splits], splits.selection.labels
        ([10, 3, 2, 5], array([6, 0, 7]))
    """
    if test is not None and num_test:
        raise DataError(f"{pool.name}: has a test set, and {num_test} test images were asked of the pool: expected 0")
    if test is not None and test.shape != pool.shape:
        raise DataError(
            f"{pool.name}: test images are {test.shape}, the others {pool.shape}: expected the same (C, H, W)"
        )
    num_training = len(pool) - num_selection - num_calibration - num_test
    counts = {"training": num_training, "selection": num_selection, "calibration": num_calibration}
    counts["test"] = num_test if test is None else len(test)
    if min(counts.values()) < 1:
        parts = ", ".join(f"{count} {part}" for part, count in counts.items())
        raise DataError(
            f"{pool.name}: {len(pool)} images would be split into {parts}: expected at least 1 in each: give more"
        )
    training, selection, calibration, rest = np.split(
        _permutation(len(pool), seed), np.cumsum([num_training, num_selection, num_calibration])
    )
    return Splits(
        training=replace(pool.take(training, f"{pool.name} training"), skipped=pool.skipped),
        selection=pool.take(selection, f"{pool.name} selection"),
        calibration=pool.take(calibration, f"{pool.name} calibration"),
        test=pool.take(rest, f"{pool.name} test") if test is None else test,
    )


def evenly_spaced(size: int, most: int) -> NDArray[np.int64]:
    """Returns the places of at most so many of a number of things: the first, the last, and those evenly between.

    Test sets and folders are often sorted by class: their first images are of few classes.

    Arguments:
        size: How many there are.
        most: How many are wanted at most.

    Example:
        >>> evenly_spaced(9, 3)
        array([0, 4, 8])
        >>> evenly_spaced(2, 3)
        array([0, 1])
    """
    return np.linspace(0, max(size - 1, 0), min(size, most)).round().astype(np.int64)


def _permutation(size: int, seed: int) -> NDArray[np.int64]:
    if seed < 0:
        raise DataError(f"the seed of a split is {seed}: expected 0 or more")
    return np.argsort(np.random.PCG64(seed).random_raw(size), kind="stable").astype(np.int64)
