"""scikit-learn's 8×8 digits: a whole run in less than a minute, for tests and for a first look."""

from __future__ import annotations

from vaebm.models import ImageFields
from vaebm.recipes.config import (
    Config,
    DataConfig,
    EnergyNetworkConfig,
    EvaluationConfig,
    SamplingConfig,
    VAENetworkConfig,
)
from vaebm.training import EnergySettings, VAESettings


def digits() -> Config:
    """Returns the recipe."""
    return Config(
        data=DataConfig(source="digits"),
        vae_network=VAENetworkConfig(latent_groups=(16,), widths=(256, 128), scale_kind="pixel", scale=0.1),
        vae=VAESettings(num_iterations=800, batch_size=128, kl_weight=1.0),
        energy_network=EnergyNetworkConfig(widths=(32, 64), stem_kernel_size=3, num_hidden=64),
        energy=EnergySettings(
            num_iterations=500,
            batch_size=64,
            learning_rate=1e-3,
            num_steps=8,
            step_size=0.1,
            replay_probability=0.85,
            initial_spread=1.0,
        ),
        images=ImageFields("sampled", "sampled", "mean"),
        sampling=SamplingConfig(num_steps=60, step_size=0.1),
        evaluation=EvaluationConfig(num_samples=700, steps_curve=(0, 8, 15, 30, 60, 80, 150)),
        sample_every=200,
        checkpoint_every=200,
    )
