"""Densities of the plane: a VAEBM whose density is known by quadrature, in two minutes.

The energy learns by the importance-sampled likelihood. With ``energy.objective contrastive`` it learns from chains:
with jumps between local steps it gets as far, without them local moves lead it astray (``benchmarks/gaussians.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from vaebm.data import PLANAR_DENSITIES
from vaebm.evaluation import FEWEST_STEPS
from vaebm.recipes.config import check_chains
from vaebm.recipes.errors import ConfigError
from vaebm.recipes.ranges import check_leaves
from vaebm.training import EnergySettings, GuardSettings, VAESettings


@dataclass(frozen=True)
class PlanarVAEConfig:
    """The arguments of the VAE of points, which has two latents and fully connected layers.

    Arguments:
        widths: Hidden units of the body's layers.
        scale_kind: fixed, shared (one learned pixel scale) or pixel (predicted for each coordinate).
        scale: The pixel scale, or its floor, in units of the range [−1, 1].
    """

    widths: tuple[int, ...] = (128, 128)
    scale_kind: str = "shared"
    scale: float = 0.005


@dataclass(frozen=True)
class DenseEnergyConfig:
    """The arguments of ``vaebm.models.DenseEnergy``, but the shape.

    Arguments:
        widths: Hidden units of each layer.
        input_scale: What the input in [−1, 1] is multiplied with.
    """

    widths: tuple[int, ...] = (128, 128, 128)
    input_scale: float = 16.0


@dataclass(frozen=True)
class PlanarEvaluationConfig:
    """What is measured at the end.

    Arguments:
        grid_size: The number of grid points along each axis.
        latent_grid_size: The number of grid points along each latent.
        num_samples: The number of chains in the histogram.
        num_steps: Their length.
        num_draws: The number of draws of the VAE behind the importance-sampled log Z.
        temperatures: The lengths of the ladders of annealed importance sampling.
        num_annealed: The number of annealed chains.
        seed: The seed of everything that is drawn to measure.
    """

    grid_size: int = 400
    latent_grid_size: int = 400
    num_samples: int = 10_000
    num_steps: int = 200
    num_draws: int = 400_000
    temperatures: tuple[int, ...] = (2, 5, 10, 30, 100)
    num_annealed: int = 500
    seed: int = 2023


@dataclass(frozen=True)
class PlanarConfig:
    """The complete configuration of a run on a density of the plane.

    Arguments:
        density: gaussians (a grid of 25), ring, spirals or circles.
        vae_network: The VAE.
        vae: How the VAE is trained.
        energy_network: The energy network.
        energy: How the energy network is trained.
        guard: When that counts as diverged, and what is done then.
        evaluation: What is measured at the end.
        seed: The seed of everything random but the measurements.
        report_every: Figures are recorded after so many iterations.
        checkpoint_every: A checkpoint is written after so many iterations.
    """

    # No VAE of points is given from elsewhere.
    initial_vae: ClassVar[str] = ""

    density: str = "gaussians"
    vae_network: PlanarVAEConfig = field(default_factory=PlanarVAEConfig)
    vae: VAESettings = field(
        default_factory=lambda: VAESettings(num_iterations=3000, batch_size=512, learning_rate=3e-3, dequantization=0.0)
    )
    energy_network: DenseEnergyConfig = field(default_factory=DenseEnergyConfig)
    energy: EnergySettings = field(
        default_factory=lambda: EnergySettings(
            num_iterations=2400,
            batch_size=512,
            learning_rate=3e-3,
            objective="importance_sampled",
            num_prior_samples=4096,
            kernel="mala",
            jump_probability=0.5,
            num_steps=10,
            step_size=0.02,
            replay_probability=1.0,
            buffer_size=10_000,
            matched_noise=False,
            spectral=0.0,
            ema_decay=0.99,
        )
    )
    guard: GuardSettings = field(default_factory=GuardSettings)
    evaluation: PlanarEvaluationConfig = field(default_factory=PlanarEvaluationConfig)
    seed: int = 0
    report_every: int = 10
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        if self.density not in PLANAR_DENSITIES:
            raise ConfigError(f"density is {self.density!r}: expected one of {', '.join(PLANAR_DENSITIES)}")
        check_leaves(self)
        check_chains(self.energy)
        for name, is_asked in (
            ("vae.recompute", self.vae.recompute),
            ("energy.buffer_on_disk", self.energy.buffer_on_disk),
        ):
            if is_asked:
                raise ConfigError(f"{name} is true, but is for images: set it to false")
        if self.evaluation.num_steps < FEWEST_STEPS:
            steps = self.evaluation.num_steps
            raise ConfigError(f"evaluation.num_steps is {steps}: the diagnostics need chains of {FEWEST_STEPS} or more")
        for name, value in (("spectral", 0.0), ("initial_spread", 0.2)):
            if getattr(self.energy, name) != value:
                raise ConfigError(f"energy.{name} has no effect on the fully connected energy of points: leave it out")
        if any(count < 2 for count in self.evaluation.temperatures):
            raise ConfigError("evaluation.temperatures holds a ladder of one temperature: expected two or more")


PLANAR_RECIPES: dict[str, Callable[[], PlanarConfig]] = {
    name: partial(PlanarConfig, density=name) for name in PLANAR_DENSITIES
}
