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
        vae_network=VAENetworkConfig(latent_groups=(16,), widths=(256, 128), scale=0.1),
        vae=VAESettings(num_iterations=800, batch_size=128, kl_weight=10.0),
        energy_network=EnergyNetworkConfig(widths=(32, 64), stem_kernel_size=3, num_hidden=64),
        energy=EnergySettings(num_iterations=300, batch_size=64),
        images=ImageFields("sampled", "sampled", "mean"),
        sampling=SamplingConfig(num_steps=45, step_size=0.05),
        evaluation=EvaluationConfig(num_samples=700, steps_curve=(0, 5, 15, 45, 150)),
        sample_every=200,
        checkpoint_every=200,
    )
