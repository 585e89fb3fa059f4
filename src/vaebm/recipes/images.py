"""Images that have no recipe of their own: settings derived from their size and number, and from the time there is.

Networks follow from the size: each level of a VAE halves the resolution, until a map is at most 8 pixels wide, and the
levels of large images are narrower, so that they cost less than their number of pixels. The energy network sees
squares of pixels, about 16×16 of them: what is finer is the blur that no decoder can undo, and an energy that sees it
runs away from its chains. How often both are trained follows from what an iteration costs on this machine, which is
measured, and from the budget:

    budget = VAE + energy network + what measures the model in the end.

The VAE learns for at most so many passes through the images, and the one whose held-out ELBO is best is kept: few
images are soon learned by heart. The energy network gets the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

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
from vaebm.recipes.errors import ConfigError
from vaebm.training import EnergySettings, VAESettings

NUM_LOOKS, PATIENCE, MOST_PASSES = 20, 6, 60
LARGEST_SEEN = 16
VAE_SHARE, EVALUATION_SHARE, RESERVE = 0.25, 0.3, 0.05
FEWEST_ITERATIONS, MOST_ITERATIONS = 100, 20_000
FEWEST_LATENTS, MOST_LATENTS = 8, 64
LEAST_FLOOR, LARGEST_FLOOR = 0.05, 0.1
STEP_SIZE = 0.1
_OUTLIER_SETS = 5


@dataclass(frozen=True)
class Costs:
    """What work costs on this machine, in seconds.

    Arguments:
        vae_iteration: One iteration of the VAE's stage.
        energy_iteration: One iteration of the energy network's stage, chains included.
        chain_step: One Langevin step of one image.
        scored_image: The scores of one image, to rank it.
        decided_image: The same in float64, as p-values and decisions take it.
        judged_image: What a judge sees in one image; 0 without a judge.
    """

    vae_iteration: float
    energy_iteration: float
    chain_step: float
    scored_image: float
    decided_image: float
    judged_image: float


@dataclass(frozen=True)
class Counts:
    """The number of images of each split."""

    training: int
    selection: int
    calibration: int
    test: int


@dataclass(frozen=True)
class Planned:
    """A complete configuration, and why it is so, in sentences."""

    config: Config
    reasons: tuple[str, ...]


def images(
    image_shape: tuple[int, int, int], data: DataConfig | None = None, count: int | None = None, detail: float = 0.0
) -> Config:
    """Returns the configuration for images of a kind that has no recipe of its own, but for how long is trained.

    Arguments:
        image_shape: The shape (C, H, W) of one image.
        data: Where the images come from, and how they are brought to that shape.
        count: The number of training images, if it is known.
        detail: What ``finest_detail`` returned of them.
    """
    num_levels = levels(image_shape)
    return Config(
        data=data or DataConfig(source=""),
        vae_network=VAENetworkConfig(
            latent_groups=(num_latents(image_shape, count),),
            body="convolutional",
            widths=tuple(max(8, 64 >> (num_levels - 1 - level)) for level in range(num_levels)),
            scale_kind="pixel",
            scale=round(min(max(detail, LEAST_FLOOR), LARGEST_FLOOR), 3),
            normalization="layer",
        ),
        vae=VAESettings(batch_size=128, learning_rate=2e-3, kl_weight=1.0, betas=(0.9, 0.99)),
        energy_network=EnergyNetworkConfig(
            widths=(64, 128),
            stem_kernel_size=3,
            input_pooling=max(1, round(min(image_shape[1:]) / LARGEST_SEEN)),
        ),
        energy=EnergySettings(
            batch_size=64,
            learning_rate=7e-4,
            num_steps=8,
            step_size=STEP_SIZE,
            replay_probability=0.85,
            buffer_size=2000,
            l2=0.002,
            ema_decay=0.99,
            initial_spread=1.0,
        ),
        images=ImageFields("sampled", "sampled", "mean"),
        sampling=SamplingConfig(num_steps=60, step_size=STEP_SIZE),
        selection=SelectionConfig(num_candidates=3, after=0.5, num_steps=(15, 30, 60)),
    )


def levels(image_shape: tuple[int, int, int]) -> int:
    """Returns how often the resolution is halved until a map is at most 8 pixels wide: once at least.

    Example:
        >>> [levels((1, size, size)) for size in (8, 28, 32, 64, 128)]
        [1, 2, 2, 3, 4]
    """
    return max(1, math.ceil(math.log2(max(image_shape[1:]) / 8)))


def num_latents(image_shape: tuple[int, int, int], count: int | None = None) -> int:
    """Returns a quarter of the number of pixels and channels or of images, whichever is less, from 8 to 64.

    Example:
        >>> num_latents((1, 8, 8)), num_latents((3, 64, 64)), num_latents((3, 64, 64), 100)
        (16, 64, 25)
    """
    bound = math.prod(image_shape) // 4
    return max(FEWEST_LATENTS, min(MOST_LATENTS, bound if count is None else min(bound, count // 4)))


def finest_detail(pixels: Tensor, most: int = 500) -> float:
    """Returns how much images vary from pixel to pixel beyond planes and edges, in units of the range [−1, 1].

    It is the median over images of Immerkær's estimate of noise, √(π/2)/6 times the mean of |x ∗ K| with the kernel K
    that planes and straight edges do not pass; a decoder that is sharper than that learns noise.

    Arguments:
        pixels: Images, uint8 (N, C, H, W).
        most: How many of them are looked at.

    References:
        Fast Noise Variance Estimation, J. Immerkær, Computer Vision and Image Understanding 64(2), 1996.

    Example:
        >>> finest_detail(torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8))
        0.0
    """
    chosen = pixels[torch.linspace(0, len(pixels) - 1, min(most, len(pixels))).round().long()]
    values = chosen.float().flatten(0, 1)[:, None] / 127.5
    kernel = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]])
    means = functional.conv2d(values, kernel[None, None]).abs().mean((1, 2, 3)).view(len(chosen), -1).mean(1)
    return round(math.sqrt(math.pi / 2) / 6 * float(means.median()), 4)


def within(config: Config, costs: Costs, counts: Counts, seconds: float) -> Planned:
    """Completes a configuration so that its run takes about as long as there is time.

    Arguments:
        config: What ``images`` returned.
        costs: What work costs.
        counts: How many images there are.
        seconds: The budget.

    Returns:
        The complete configuration, and what was chosen and why.

    Raises:
        ConfigError: If the budget isn't enough for a hundred iterations of each network.
    """
    measured = _measured(config, costs, counts, EVALUATION_SHARE * seconds)
    left = (1 - RESERVE) * seconds - evaluation_seconds(measured, costs, counts)
    passes = MOST_PASSES * counts.training / config.vae.batch_size
    num_vae = int(min(VAE_SHARE * seconds / costs.vae_iteration, max(passes, 3 * FEWEST_ITERATIONS), MOST_ITERATIONS))
    num_energy = int(min((left - num_vae * costs.vae_iteration) / costs.energy_iteration, MOST_ITERATIONS))
    if min(num_vae, num_energy) < FEWEST_ITERATIONS:
        least = evaluation_seconds(_measured(config, costs, counts, 0), costs, counts)
        rest, fewest = 1 - RESERVE - VAE_SHARE, FEWEST_ITERATIONS * costs.energy_iteration
        needed = max(
            FEWEST_ITERATIONS * costs.vae_iteration / VAE_SHARE,
            fewest / (rest - EVALUATION_SHARE),
            (least + fewest) / rest,
        )
        raise ConfigError(
            f"a budget of {duration(seconds)} is not enough for such images on this machine: "
            f"expected {duration(60 * math.ceil(needed / 60))} or more, or a smaller image size"
        )
    complete = replace(
        measured,
        vae=replace(config.vae, num_iterations=num_vae),
        energy=replace(config.energy, num_iterations=num_energy),
        selection=replace(measured.selection, vae_every=max(1, num_vae // NUM_LOOKS), vae_patience=PATIENCE),
        sample_every=max(1, num_energy // 4),
        checkpoint_every=max(1, min(200, num_energy // 10)),
    )
    return Planned(complete, _reasons(complete, costs, counts, seconds))


def _measured(config: Config, costs: Costs, counts: Counts, seconds: float) -> Config:
    """Returns how much is measured: less and less, until it fits."""
    most = max(10, min(counts.training, counts.test, 2000))
    selected = max(10, min(counts.training, counts.selection, 500)) if costs.judged_image else 0
    for curve, posterior, count, num_test in (
        ((0, 15, 30, 60, 120), 8, most, 0),
        ((0, 15, 30, 60, 120), 8, most, 2000),
        ((0, 30, 60), 8, min(most, 1000), 2000),
        ((0, 60), 4, min(most, 500), 1000),
        ((0, 60), 2, min(most, 250), 500),
        ((0, 60), 2, min(most, 100), 250),
    ):
        config = replace(
            config,
            selection=replace(config.selection, num_samples=min(selected, count)),
            evaluation=EvaluationConfig(
                num_samples=count,
                steps_curve=curve,
                num_posterior_samples=posterior,
                num_test=num_test if num_test < counts.test else 0,
            ),
        )
        if evaluation_seconds(config, costs, counts) <= seconds:
            break
    return config


def evaluation_seconds(config: Config, costs: Costs, counts: Counts) -> float:
    """Returns about how long it takes to choose among candidates and to measure the model."""
    measured, selected = config.evaluation, config.selection
    samples = max(measured.steps_curve) * measured.num_samples + 64 * (config.sampling.num_steps + 60)
    chains = samples + selected.num_candidates * selected.num_samples * config.sampling.num_steps
    looks = len(measured.steps_curve) + 1
    chosen = selected.num_candidates * max(1, len(selected.num_steps)) + 1
    num_test = measured.num_test or counts.test
    judged = looks * measured.num_samples + num_test + chosen * selected.num_samples
    decided = (counts.calibration + num_test) * costs.decided_image
    ranked = _OUTLIER_SETS * num_test * costs.scored_image
    scored = (decided + ranked) * measured.num_posterior_samples / 8
    return chains * costs.chain_step + judged * costs.judged_image + scored


def duration(seconds: float) -> str:
    """Returns a time in words.

    Example:
        >>> duration(45), duration(600), duration(5400)
        ('45 s', '10 min', '1 h 30 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return " ".join([f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes or not hours))


def _reasons(config: Config, costs: Costs, counts: Counts, seconds: float) -> tuple[str, ...]:
    network, energy, measured = config.vae_network, config.energy_network, config.evaluation
    passes = config.vae.num_iterations * config.vae.batch_size / counts.training
    vae_time, energy_time = (
        duration(config.vae.num_iterations * costs.vae_iteration),
        duration(config.energy.num_iterations * costs.energy_iteration),
    )
    pooled = f" of squares of {energy.input_pooling}×{energy.input_pooling} pixels" * (energy.input_pooling > 1)
    return (
        f"split: {counts.training:,} training, {counts.selection:,} selection, {counts.calibration:,} calibration, "
        f"{counts.test:,} test images",
        f"VAE: convolutions of widths {list(network.widths)}, so that the smallest map is at most 8 wide; "
        f"{sum(network.latent_groups)} latents; a scale for each pixel, at least {network.scale:g}, for detail finer "
        "than that is taken for noise",
        f"energy network: convolutions of widths {list(energy.widths)}{pooled}",
        f"VAE: at most {config.vae.num_iterations:,} iterations, {passes:.0f} passes, {vae_time}; the best of looks "
        f"every {config.selection.vae_every} is kept, and after {PATIENCE} without a better one the stage ends",
        f"energy network: {config.energy.num_iterations:,} iterations, {energy_time}",
        f"measured on {measured.num_samples:,} samples and {measured.num_test or counts.test:,} test images, about "
        f"{duration(evaluation_seconds(config, costs, counts))} of the budget of {duration(seconds)}",
    )
