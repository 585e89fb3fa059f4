"""Small fully connected networks, trained in minutes of CPU time whatever the images, for the scikit-learn face."""

from __future__ import annotations

import math

from vaebm.models import ImageFields
from vaebm.recipes.config import (
    Config,
    DataConfig,
    EnergyNetworkConfig,
    EvaluationConfig,
    SamplingConfig,
    SelectionConfig,
    VAENetworkConfig,
)
from vaebm.training import EnergySettings, VAESettings


def quick(image_shape: tuple[int, int, int], num_training: int) -> Config:
    """Returns a complete configuration for images of any kind, that doesn't depend on the machine.

    Arguments:
        image_shape: The shape (C, H, W) of one image.
        num_training: The number of training images.
    """
    num_values = math.prod(image_shape)
    return Config(
        data=DataConfig(source=""),
        vae_network=VAENetworkConfig(
            latent_groups=(64 if num_values > 1000 else 32,),
            widths=(512, 256),
            scale_kind="pixel",
            scale=0.1,
            normalization="layer",
        ),
        vae=VAESettings(num_iterations=4000, batch_size=128, learning_rate=4e-3, kl_weight=1.0, betas=(0.9, 0.99)),
        energy_network=EnergyNetworkConfig(widths=(64, 128), stem_kernel_size=3, input_pooling=2),
        energy=EnergySettings(
            num_iterations=2000,
            batch_size=64,
            learning_rate=7e-4,
            num_steps=8,
            step_size=0.1,
            replay_probability=0.85,
            buffer_size=2000,
            l2=0.002,
            ema_decay=0.998,
            initial_spread=1.0,
        ),
        images=ImageFields("sampled", "sampled", "mean"),
        sampling=SamplingConfig(num_steps=60, step_size=0.1),
        selection=SelectionConfig(num_candidates=3, after=0.6, num_samples=min(1000, num_training)),
        evaluation=EvaluationConfig(num_samples=min(5000, num_training), steps_curve=(0, 15, 30, 60, 120)),
        sample_every=1000,
        checkpoint_every=500,
    )
