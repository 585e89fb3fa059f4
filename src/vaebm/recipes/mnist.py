"""MNIST on a laptop: everything in ten minutes on two CPU cores.

The VAE is trained on the plain ELBO with a learned scale for each pixel and normalised layers; docs/training.md has
what other VAEs reach in the same minutes. The energy sees squares of 2×2 pixels, so that it learns shapes and not the
blur that no decoder can undo. Each iteration runs 8 steps, and 17 of 20 chains go on from the buffer: chains live for
some 50 steps, and the energy learns more often than with fewer and longer ones. A little L2 keeps it calm.

StackedMNIST by the same settings, with three times the latents and a VAE twice as wide.
"""

from __future__ import annotations

from dataclasses import replace

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


def mnist() -> Config:
    """Returns the recipe."""
    return Config(
        data=DataConfig(source="mnist"),
        vae_network=VAENetworkConfig(
            latent_groups=(32,), widths=(512, 256), scale_kind="pixel", scale=0.1, normalization="layer"
        ),
        vae=VAESettings(num_iterations=8000, batch_size=128, learning_rate=4e-3, kl_weight=1.0, betas=(0.9, 0.99)),
        energy_network=EnergyNetworkConfig(widths=(64, 128), stem_kernel_size=3, input_pooling=2),
        energy=EnergySettings(
            num_iterations=4000,
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
        selection=SelectionConfig(num_candidates=3, after=0.6, num_samples=1000),
        evaluation=EvaluationConfig(num_samples=5000, steps_curve=(0, 8, 15, 30, 60, 80, 150)),
        sample_every=1000,
        checkpoint_every=500,
    )


def stacked_mnist_quick() -> Config:
    """Returns the recipe of StackedMNIST: three digits in the channels of one picture, three times the latents."""
    digits = mnist()
    return replace(
        digits,
        data=DataConfig(source="stacked_mnist", image_size=(32, 32), channels=3),
        vae_network=replace(digits.vae_network, latent_groups=(96,), widths=(1024, 512)),
        selection=replace(digits.selection, num_samples=500),
        evaluation=replace(digits.evaluation, num_samples=2000, num_test=3000),
    )
