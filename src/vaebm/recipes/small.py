"""The paper's recipes cut down to one CPU: everything in about two hours.

The parts are the same, NVAE and a residual energy network, but narrower and less deep. Stage 1 is the paper's: balanced
groups, Adamax, a cosine, the penalties on spectra and batch norms; but with uniform noise of a grey level, so that bits
per dimension are a bound. Stage 2 is that of ``mnist``: few steps for each iteration, most chains going on from the
buffer, noise-matched data. docs/nvae.md says what they reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vaebm.models import ImageFields
from vaebm.recipes.config import (
    DataConfig,
    EnergyNetworkConfig,
    EvaluationConfig,
    SamplingConfig,
    SelectionConfig,
)
from vaebm.recipes.hierarchical import NVAEConfig, NVAENetworkConfig
from vaebm.recipes.mnist import mnist
from vaebm.recipes.paper import NOTES as PAPER_NOTES
from vaebm.recipes.paper import RecipeNotes, cifar10

NETWORK = EnergyNetworkConfig(
    blocks="residual",
    widths=(32, 64, 64, 128, 128),
    stem_kernel_size=3,
    num_hidden=0,
    pooling="sum",
    halvings=(1, 1, 0, 1, 0),
)


def cifar10_small() -> NVAEConfig:
    """Returns the configuration of CIFAR-10 on one CPU."""
    return NVAEConfig(
        data=DataConfig(source="", image_size=(32, 32), channels=3, flips=True),
        vae_network=NVAENetworkConfig(
            groups=(2, 3),
            latents=8,
            encoder_width=16,
            decoder_width=16,
            encoder_cells=1,
            decoder_cells=1,
            outer_cells=1,
        ),
        vae=replace(
            cifar10().vae,
            num_iterations=4500,
            batch_size=64,
            rate_warmup=0.02,
            dequantization=2 / 255,
            clip_norm=100.0,
        ),
        energy_network=NETWORK,
        energy=replace(
            mnist().energy,
            num_iterations=1300,
            rate_warmup=0.05,
            step_size=0.01,
            replay_probability=0.9,
            ema_decay=0.99,
        ),
        images=ImageFields("sampled", "sampled", "mean"),
        sampling=SamplingConfig(num_steps=60, step_size=0.01),
        selection=SelectionConfig(
            num_candidates=3, after=0.6, num_samples=500, num_steps=(30, 60, 120), vae_every=1000
        ),
        evaluation=EvaluationConfig(
            num_samples=2000, steps_curve=(0, 15, 30, 60, 120), num_posterior_samples=2, num_test=3000
        ),
        sample_every=500,
        checkpoint_every=200,
    )


def stacked_mnist_small() -> NVAEConfig:
    """Returns the configuration of StackedMNIST on one CPU.

    Its latents are fewer and coarser, maps of 4×4 and 8×8. The pixel scale is fixed: a predicted one learns where the
    background is, which is always the same, and leaves the colours alone. The weight of the divergence is that of a
    scale of 0.3.
    """
    pictures = cifar10_small()
    return replace(
        pictures,
        data=DataConfig(source="stacked_mnist", image_size=(32, 32), channels=3),
        vae_network=replace(pictures.vae_network, groups=(4, 4), outer_blocks=2, scale_kind="fixed", least_scale=0.2),
        vae=replace(pictures.vae, num_iterations=3600, kl_weight=2.25),
        energy_network=replace(pictures.energy_network, input_pooling=2),
        energy=replace(pictures.energy, num_iterations=1100, step_size=0.03),
        sampling=replace(pictures.sampling, step_size=0.03),
    )


SMALL_RECIPES: dict[str, Callable[[], NVAEConfig]] = {
    "cifar10-small": cifar10_small,
    "stacked_mnist-small": stacked_mnist_small,
}
NOTES = {
    "cifar10-small": RecipeNotes(
        PAPER_NOTES["cifar10"].images,
        "none; here two hours or a little more of one core of a CPU (docs/nvae.md)",
        "none; what it reaches here stands in docs/nvae.md",
    ),
    "stacked_mnist-small": RecipeNotes(
        PAPER_NOTES["stacked_mnist"].images,
        "none; here two hours or a little more of one core of a CPU (docs/nvae.md)",
        "none; what it reaches here stands in docs/nvae.md",
    ),
}
