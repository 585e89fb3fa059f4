"""Small fully connected networks, trained in minutes of CPU time whatever the images, for the scikit-learn face."""

from __future__ import annotations

import math
from dataclasses import replace

from vaebm.recipes.config import Config, DataConfig, EvaluationConfig
from vaebm.recipes.mnist import mnist


def quick(image_shape: tuple[int, int, int], num_training: int) -> Config:
    """Returns a complete configuration for images of any kind, that doesn't depend on the machine: MNIST's, shortened.

    Arguments:
        image_shape: The shape (C, H, W) of one image.
        num_training: The number of training images.
    """
    base = mnist()
    num_latents = 64 if math.prod(image_shape) > 1000 else 32
    return replace(
        base,
        data=DataConfig(source=""),
        vae_network=replace(base.vae_network, latent_groups=(num_latents,)),
        vae=replace(base.vae, num_iterations=4000),
        energy=replace(base.energy, num_iterations=2000),
        selection=replace(base.selection, num_samples=min(1000, num_training)),
        evaluation=EvaluationConfig(num_samples=min(5000, num_training), steps_curve=(0, 15, 30, 60, 120)),
    )
