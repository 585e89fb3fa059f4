r"""What a model of the plane is worth, by quadrature: nothing is sampled, so nothing is left to luck.

On a grid of points y (cells of area a) and of latents z (cells of weight w_z, N(z; 0, I) times their area, sum 1):

    p(y) = Σ_z w_z N(x₁; m₁(z), s₁(z)) N(x₂; m₂(z), s₂(z)) · |dx/dy|,    h(y) = p(y) exp(−E(x(y))) / Z,
    Z = Σ_y a p(y) exp(−E(x(y))).

The sum over z is one product of matrices, since both coordinates factorise. ∫ p must be 1 to a thousandth: the grid of
points is then wide and fine enough. The grid of latents is fine enough if half of it changes nothing.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models (25 Gaussians),
    https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.data.toy import PlanarDensity
from vaebm.models import VAEBM
from vaebm.models.vaebm import OFFICIAL_LEAST_SCALE

_TOLERANCE = 1e-3
_LARGEST_MOVE = 1e-2
_LATENT_REACH = 6.0


@dataclass(frozen=True, eq=False)
class Grid:
    """A square grid: points (n², 2) in original coordinates, row by row, n, and the area of a cell."""

    points: Tensor
    size: int
    cell: float


@dataclass(frozen=True, eq=False)
class PlanarModel:
    """Densities on a grid, each (n²,), float64: the true one, the VAE's, the VAEBM's; and log Z in nats.

    ``official`` is what the official potential samples from the same networks (``VAEBM.official_log_density``).
    """

    grid: Grid
    truth: Tensor
    vae: Tensor
    vaebm: Tensor
    official: Tensor
    log_z: float


@dataclass(frozen=True)
class PlanarFigures:
    """What a density on a grid is worth beside the true one.

    Arguments:
        log_likelihood: The mean of its log under the true density, nats.
        gap: How far that is below the true density's own.
        mode_masses: The mass nearest to each mode.
        within_four_sigma: The mass within 4σ of a centre.
        total_variation: Half the integral of the absolute difference to the true density.
    """

    log_likelihood: float
    gap: float
    mode_masses: tuple[float, ...]
    within_four_sigma: float
    total_variation: float


def make_grid(density: PlanarDensity, size: int = 400) -> Grid:
    """Returns a grid over the square that holds the density.

    Example:
        >>> from vaebm.data.toy import planar_density
        >>> grid = make_grid(planar_density("ring"), 10)
        >>> tuple(grid.points.shape), round(grid.cell, 2)
        ((100, 2), 0.64)
    """
    axis = _midpoints(density.extent, size)
    return Grid(torch.cartesian_prod(axis, axis), size, (2 * density.extent / size) ** 2)


@torch.no_grad()
def planar_model(model: VAEBM, density: PlanarDensity, size: int = 400, latent_size: int = 400) -> PlanarModel:
    """Computes the densities of a VAE of two latents and of the VAEBM on it.

    Arguments:
        model: The VAEBM of points (2, 1, 1), its chain image sampled.
        density: The true density.
        size: The number of grid points along each axis.
        latent_size: The number of grid points along each latent.

    Raises:
        ValueError: If the model is another kind of model, ∫ p differs from 1 by more than a thousandth, or half as many
            latents along each axis move the VAE's log-likelihood by more than a hundredth.
    """
    if tuple(model.image_shape) != (2, 1, 1) or model.noise_layout.latent_size != 2:
        raise ValueError("quadrature needs a VAE of points (2, 1, 1) with two latents")
    if model.image_fields.chain_image != "sampled":
        raise ValueError("chain_image is 'mean', so the model has no density over points: expected 'sampled'")
    grid = make_grid(density, size)
    vae = _vae_density(model, density, size, latent_size).flatten()
    mass = float(vae.sum()) * grid.cell
    if abs(mass - 1) > _TOLERANCE:
        raise ValueError(
            f"the VAE's density adds up to {mass:.4f} on the grid, expected 1: train it longer, or make the grid finer"
        )
    coarse = _vae_density(model, density, size, latent_size // 2).flatten()
    moved = measure_planar(vae, grid, density).log_likelihood - measure_planar(coarse, grid, density).log_likelihood
    if abs(moved) > _LARGEST_MOVE:
        raise ValueError(
            f"a latent grid of half the size moves the log-likelihood by {moved:.3f} nats: make the latent grid finer"
        )
    images = density.to_images(grid.points)
    energies = torch.cat(
        [model.energy(batch.to(next(model.parameters()))).double() for batch in torch.split(images, 20_000)]
    )
    log_product = vae.clamp(min=1e-300).log() - energies
    log_z = float(torch.logsumexp(log_product, 0)) + math.log(grid.cell)
    sampled = (
        _vae_density(model, density, size, latent_size, is_official=True).flatten().clamp(min=1e-300).log() - energies
    )
    official = torch.softmax(sampled, 0) / grid.cell
    return PlanarModel(grid, density.log_prob(grid.points).exp(), vae, (log_product - log_z).exp(), official, log_z)


def measure_planar(values: Tensor, grid: Grid, density: PlanarDensity) -> PlanarFigures:
    """Measures a density on a grid.

    Arguments:
        values: The density at the grid's points, shape (n²,).
        grid: The grid.
        density: The true density.
    """
    truth = density.log_prob(grid.points)
    weights = truth.exp() * grid.cell
    log_likelihood = float((weights * values.clamp(min=1e-300).log()).sum())
    nearest = torch.cdist(grid.points, density.modes).argmin(1)
    masses = torch.zeros(len(density.modes), dtype=torch.float64).index_add(0, nearest, values * grid.cell)
    near = torch.cdist(grid.points, density.centres).min(1).values <= 4 * density.sigma
    return PlanarFigures(
        log_likelihood,
        float((weights * truth).sum()) - log_likelihood,
        tuple(masses.tolist()),
        float(values[near].sum()) * grid.cell,
        0.5 * float((values - truth.exp()).abs().sum()) * grid.cell,
    )


def histogram(points: Tensor, grid: Grid, density: PlanarDensity) -> Tensor:
    """Returns the density (n²,) of points (N, 2), counted in the grid's cells; points outside are left out."""
    index = ((points + density.extent) / (2 * density.extent) * grid.size).floor().long()
    inside = ((index >= 0) & (index < grid.size)).all(1)
    flat = index[inside, 0] * grid.size + index[inside, 1]
    counts = torch.bincount(flat, minlength=grid.size**2).double()
    return counts / (len(points) * grid.cell)


def _midpoints(reach: float, size: int) -> Tensor:
    return ((torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1) * reach


def _vae_density(
    model: VAEBM, density: PlanarDensity, size: int, latent_size: int, is_official: bool = False
) -> Tensor:
    """Returns p(y) on the grid, (n, n); or, up to a constant, what stands in its place in the official potential.

    There x | z has the claimed scale s', and the weight of each z is divided by the product of the scales s: without
    the Jacobian of x = mean + s · noise_x, a volume of noise counts as a volume of x.
    """
    axis = _midpoints(_LATENT_REACH, latent_size)
    latents = torch.cartesian_prod(axis, axis)
    weights = torch.softmax(-0.5 * latents.square().sum(1), 0)
    kept = weights > weights.max() * 1e-12
    latents, weights = latents[kept], weights[kept] / weights[kept].sum()
    places = _midpoints(1.0, size)
    total = torch.zeros(size, size, dtype=torch.float64)
    for batch, weight in zip(torch.split(latents, 20_000), torch.split(weights, 20_000), strict=True):
        decoded = model.vae.decode(batch.to(next(model.parameters())))
        mean, scale, counted = decoded.mean.double().view(-1, 2), decoded.scale.double().view(-1, 2), weight
        if is_official:
            counted, scale = weight / scale.prod(1), scale.clamp(min=OFFICIAL_LEAST_SCALE)
        parts = [
            torch.exp(-0.5 * ((places - mean[:, [index]]) / scale[:, [index]]).square()) / scale[:, [index]]
            for index in (0, 1)
        ]
        total += (counted[:, None] * parts[0]).T @ parts[1]
    return total / (2 * math.pi) * math.exp(density.log_jacobian)
