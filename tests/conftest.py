"""What tests of several packages share: a VAE whose likelihood is known exactly, and energies of known form."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from vaebm.distributions import NoiseLayout, Normal
from vaebm.models import Decoded, ElboTerms

# Of several files of one name the search for doctests takes one; there are none in them.
collect_ignore_glob = ["*conftest.py"]

# The tensors of these tests are too small to be worth sharing.
torch.set_num_threads(1)


# Packages whose longest files take long: they go first, so that no worker is left alone with one in the end.
FIRST = ("training", "cli", "recipes", "sklearn_face", "evaluation", "models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the files of tests by their packages, otherwise as they were."""

    def rank(item: pytest.Item) -> int:
        package = item.path.parent.name
        return FIRST.index(package) if package in FIRST else len(FIRST)

    items.sort(key=rank)


class LinearGaussianVAE(nn.Module):
    """z ~ N(0, I), x = W z + b + s ε, with the exact posterior unless it is moved away from it; float64.

    W has orthogonal columns, so that the posterior is diagonal: μ = Wᵀ(x − b) / (s² + d²), σ² = s² / (s² + d²), with d²
    the squared lengths of the columns.
    """

    def __init__(self, image_shape: tuple[int, ...] = (1, 2, 3), num_latents: int = 2, scale: float = 0.5) -> None:
        super().__init__()
        size = math.prod(image_shape)
        generator = torch.Generator().manual_seed(7)
        basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
        lengths = torch.linspace(0.4, 1.2, num_latents, dtype=torch.float64)
        self.weight = nn.Parameter(basis[:, :num_latents] * lengths)
        self.bias = nn.Parameter(0.3 * torch.randn(size, generator=generator, dtype=torch.float64))
        self.image_shape, self.scale = image_shape, scale
        self.noise_layout = NoiseLayout(((num_latents,),))
        self.posterior_shift, self.posterior_stretch = 0.0, 1.0

    def posterior(self, images: Tensor) -> Normal:
        lengths = self.weight.square().sum(0)
        mean = (images.flatten(1) - self.bias) @ self.weight / (self.scale**2 + lengths)
        scale = (self.scale**2 / (self.scale**2 + lengths)).sqrt().expand_as(mean)
        return Normal(mean + self.posterior_shift, self.posterior_stretch * scale)

    def decode(self, latent_noise: Tensor) -> Decoded:
        mean = (latent_noise @ self.weight.T + self.bias).view(-1, *self.image_shape)
        return Decoded(mean, torch.full_like(mean, self.scale), [latent_noise])

    def elbo_terms(self, images: Tensor, posterior_noise: Tensor) -> ElboTerms:
        posterior = self.posterior(images)
        latents = posterior.transport(posterior_noise)
        prior = Normal(torch.zeros_like(latents), torch.ones_like(latents))
        decoded = self.decode(latents)
        log_likelihood = Normal(decoded.mean, decoded.scale).log_prob(images)
        return ElboTerms(log_likelihood, posterior.kl(prior)[:, None], decoded.mean, decoded.scale, latents)

    def log_prob(self, images: Tensor) -> Tensor:
        """The exact log p(x) = log N(x; b, W Wᵀ + s² I), by torch.distributions."""
        size = len(self.bias)
        covariance = self.weight @ self.weight.T + self.scale**2 * torch.eye(size, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(self.bias, covariance).log_prob(images.flatten(1))


class ZeroEnergy(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images))


class QuadraticEnergy(nn.Module):
    """E(x) = ½ strength · |x − centre|²."""

    def __init__(self, strength: float = 1.0, centre: float = 0.0) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(strength, dtype=torch.float64))
        self.centre = nn.Parameter(torch.tensor(centre, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return 0.5 * self.strength * (images - self.centre).square().flatten(1).sum(1)


@pytest.fixture(autouse=True)
def _fixed_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def linear_vae() -> LinearGaussianVAE:
    return LinearGaussianVAE()


@pytest.fixture
def zero_energy() -> ZeroEnergy:
    return ZeroEnergy()


@pytest.fixture
def quadratic_energy() -> QuadraticEnergy:
    return QuadraticEnergy(strength=2.0, centre=0.2)
