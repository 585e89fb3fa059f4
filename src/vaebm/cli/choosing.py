"""By what models are chosen: the distance of their samples from the selection split, by the first judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.data import Splits, to_float
from vaebm.evaluation import FEWEST_FOR_INTERVAL, Judge, frechet_to_reference, kernel_to_reference, make_reference


@dataclass(frozen=True)
class Measure:
    """A distance, ``frechet``, or ``kernel`` where images are fewer than features; for so many samples at most."""

    name: str
    num_samples: int
    distance: Callable[[Tensor], float]

    @property
    def title(self) -> str:
        """The name as it is written."""
        return {"frechet": "Fréchet", "kernel": "kernel"}[self.name]


def selection_measure(judge: Judge, splits: Splits, num_samples: int, generator: torch.Generator) -> Measure:
    """Returns what measures samples, images (N, C, H, W) in [−1, 1], against the selection split.

    Arguments:
        judge: What sees them.
        splits: The splits; samples are at most as many as there are training images.
        num_samples: How many samples there will be.
        generator: Draws the training images of the reference.
    """
    count = min(num_samples, len(splits.training))
    images, training = to_float(splits.selection.images), to_float(splits.training.images[:count])
    reference = make_reference(judge, images, training, num_samples=count, generator=generator)
    fewest = min(count, len(splits.selection))
    is_kernel = FEWEST_FOR_INTERVAL <= fewest < judge.classifier.num_features
    measure = kernel_to_reference if is_kernel else frechet_to_reference
    return Measure("kernel" if is_kernel else "frechet", count, lambda samples: measure(samples, reference))
