r"""Largest singular values of all convolutions of a network, by power iteration with explicit vectors.

For a convolution with weights reshaped to a matrix W (out × rest) and a unit vector u, one power iteration sets
v ∝ Wᵀu, u ∝ W v; then σ_max ≈ uᵀ W v, differentiable in W with u and v held fixed. The vectors are handed in and out,
so that a checkpoint sees them.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
    Spectral Normalization for Generative Adversarial Networks, https://arxiv.org/abs/1802.05957
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class SpectralNorms:
    """The singular values (L,) of L convolutions and the vectors to go on from."""

    values: Tensor
    vectors: dict[str, Tensor]


def _weights(network: nn.Module) -> dict[str, Tensor]:
    convolutions = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    return {name: module.weight.flatten(1) for name, module in convolutions.items()}


def spectral_vectors(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws one random unit vector (out_channels,) for each convolution of a network, by its name."""
    device = generator.device
    return {
        name: functional.normalize(torch.randn(len(weight), generator=generator, device=device).to(weight), dim=0)
        for name, weight in _weights(network).items()
    }


def spectral_norms(network: nn.Module, vectors: dict[str, Tensor], num_iterations: int = 4) -> SpectralNorms:
    """Estimates σ_max of each convolution's weight.

    Arguments:
        network: The network.
        vectors: The vectors of the previous call, or of ``spectral_vectors``.
        num_iterations: The number of power iterations.

    Returns:
        The singular values, differentiable in the weights, and the new vectors.

    Example:
        >>> layer = nn.Conv2d(2, 4, 3)
        >>> vectors = spectral_vectors(layer, torch.Generator().manual_seed(0))
        >>> norms = spectral_norms(layer, vectors, num_iterations=100)
        >>> exact = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        >>> torch.allclose(norms.values, exact, rtol=1e-3)
        True
    """
    values, updated = [], {}
    for name, weight in _weights(network).items():
        left = vectors[name]
        with torch.no_grad():
            for _ in range(num_iterations):
                right = functional.normalize(left @ weight, dim=0)
                left = functional.normalize(weight @ right, dim=0)
        values.append(left @ weight @ right)
        updated[name] = left
    return SpectralNorms(torch.stack(values) if values else torch.zeros(0), updated)
