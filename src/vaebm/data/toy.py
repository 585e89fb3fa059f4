r"""Densities of the plane that are known exactly, by name, for tests of what a model's density is worth.

Each is a mixture of M round Gaussians, p(y) = 1/M Σ_m N(y; c_m, σ² I), y in original coordinates. Networks see points
as images (2, 1, 1) in [−1, 1], by the affine map x = y/r with r the ``extent``; log p(y) = log p(x) − 2 log r.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models (25 Gaussians),
    https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.data.errors import DataError

__all__ = ["PLANAR_DENSITIES", "PlanarDensity", "planar_density"]

_SIGMA = 0.0839


@dataclass(frozen=True, eq=False)
class PlanarDensity:
    """A mixture of round Gaussians of the plane.

    Arguments:
        name: What it is called.
        centres: The centres c_m, shape (M, 2), float64.
        sigma: The standard deviation σ of each.
        extent: Half the width of the square that is mapped to [−1, 1]², r.
        modes: The centres whose masses are looked at, shape (K, 2); all of them for separate modes.
    """

    name: str
    centres: Tensor
    sigma: float
    extent: float
    modes: Tensor

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws points (count, 2), float64."""
        chosen = torch.randint(len(self.centres), (count,), generator=generator)
        noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
        return self.centres[chosen] + self.sigma * noise

    def log_prob(self, points: Tensor) -> Tensor:
        """Returns the exact log p(y) of points (N, 2), shape (N,), float64, in nats."""
        square = torch.cdist(points.double(), self.centres).square()
        constant = math.log(2 * math.pi * self.sigma**2) + math.log(len(self.centres))
        return torch.logsumexp(-0.5 * square / self.sigma**2, 1) - constant

    def to_images(self, points: Tensor) -> Tensor:
        """Maps points (N, 2) to images (N, 2, 1, 1), float32."""
        return (points / self.extent).float().view(-1, 2, 1, 1)

    def to_points(self, images: Tensor) -> Tensor:
        """Maps images (N, 2, 1, 1) to points (N, 2), float64."""
        return images.double().view(-1, 2) * self.extent

    @property
    def log_jacobian(self) -> float:
        """log |dx/dy| = −2 log r: what turns a log-density of images into one of points."""
        return -2 * math.log(self.extent)


def _gaussians() -> Tensor:
    steps = torch.arange(-2, 3, dtype=torch.float64)
    return torch.cartesian_prod(steps, steps)


def _ring() -> Tensor:
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    return 2 * torch.stack([angles.cos(), angles.sin()], 1)


def _spirals() -> Tensor:
    turns = torch.linspace(0.25, 1, 60, dtype=torch.float64).sqrt() * 3 * math.pi
    arm = (turns / (3 * math.pi) * 2.3)[:, None] * torch.stack([turns.cos(), turns.sin()], 1)
    return torch.cat([arm, -arm])


def _circles() -> Tensor:
    angles = torch.arange(100, dtype=torch.float64) * (math.pi / 50)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    return torch.cat([2.2 * circle, 1.1 * circle[::2]])


_CENTRES = {"gaussians": _gaussians, "ring": _ring, "spirals": _spirals, "circles": _circles}
PLANAR_DENSITIES = tuple(_CENTRES)


def planar_density(name: str) -> PlanarDensity:
    """Returns a density by name: gaussians (a grid of 25), ring (8 of them), spirals, circles.

    Raises:
        DataError: If there is none of this name.

    Example:
        >>> density = planar_density("gaussians")
        >>> points = density.sample(20_000, torch.Generator().manual_seed(0))
        >>> round(float(density.log_prob(points).mean()), 1)
        -1.1
    """
    if name not in _CENTRES:
        raise DataError(f"unknown density {name!r}: expected one of {', '.join(PLANAR_DENSITIES)}")
    centres = _CENTRES[name]()
    modes = centres if name in ("gaussians", "ring") else centres[::10]
    return PlanarDensity(name, centres, _SIGMA, 4.0, modes)
