"""MNIST on a laptop: everything in ten minutes on two CPU cores."""

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


def mnist() -> Config:
    """Returns the recipe."""
    return Config(
        data=DataConfig(source="mnist"),
        vae_network=VAENetworkConfig(latent_groups=(32,), widths=(1024, 512), scale=0.1),
        vae=VAESettings(num_iterations=3000, batch_size=128, kl_weight=25.0),
        energy_network=EnergyNetworkConfig(),
        energy=EnergySettings(num_iterations=1000),
        images=ImageFields("sampled", "sampled", "mean"),
        sampling=SamplingConfig(num_steps=150, step_size=0.05),
        evaluation=EvaluationConfig(),
    )
