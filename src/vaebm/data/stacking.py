"""StackedMNIST: three digits in the three channels of one image, a thousand classes.

Digits are those of one split of MNIST, so that no digit is in two splits of StackedMNIST. Each channel runs through
them in an order of its own, twice for training images; the label is 100 a + 10 b + c. A border of two black pixels
makes them 32×32, as published work has them.

References:
    Unrolled Generative Adversarial Networks, https://arxiv.org/abs/1611.02163
    VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning, https://arxiv.org/abs/1705.07761
"""

from __future__ import annotations

import numpy as np

from vaebm.data.images import ImageSet
from vaebm.data.splits import Splits

__all__ = ["stack_digits", "stack_splits"]

CHANNELS, MARGIN, TRAINING_COPIES = 3, 2, 2


def stack_splits(digits: Splits, seed: int) -> Splits:
    """Stacks each part of a split of digits with itself; training images are twice as many as digits.

    Arguments:
        digits: Grey digits (N, 1, 28, 28) with labels 0 … 9.
        seed: Which orders.
    """
    parts = [
        stack_digits(part, name, TRAINING_COPIES if name == "training" else 1, (seed, index))
        for index, (name, part) in enumerate(digits._asdict().items())
    ]
    return Splits(*parts)


def stack_digits(digits: ImageSet, name: str, num_copies: int, seed: tuple[int, ...]) -> ImageSet:
    """Stacks digits by three.

    Arguments:
        digits: Grey digits (N, 1, H, W) with labels 0 … 9.
        name: Which part they are.
        num_copies: How often each digit is in each channel.
        seed: What the orders depend on.

    Returns:
        num_copies · N images (3, H + 4, W + 4), with labels 0 … 999.

    Example:
        >>> digits = ImageSet(np.zeros((5, 1, 28, 28), dtype=np.uint8), np.arange(5), name="five digits")
        >>> stacked = stack_digits(digits, "training", 2, (0,))
        >>> len(stacked), stacked.shape, int(stacked.labels.max()) < 500
        (10, (3, 32, 32), True)
    """
    labels = digits.labels
    assert labels is not None, "digits have labels"
    orders = np.stack(
        [
            np.concatenate([_order(len(digits), (*seed, channel, copy)) for copy in range(num_copies)])
            for channel in range(CHANNELS)
        ]
    )
    images = np.stack([digits.images[order, 0] for order in orders], axis=1)
    padded = np.pad(images, ((0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    hundreds, tens, ones = labels[orders]
    return ImageSet(padded, 100 * hundreds + 10 * tens + ones, f"stacked_mnist {name}")


def _order(size: int, seed: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    words = np.random.PCG64(np.random.SeedSequence(list(seed))).random_raw(size)
    return np.argsort(words, kind="stable").astype(np.int64)
