r"""The spectral penalty of the paper: the sum over all convolutions of their largest singular value.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vaebm.nn import spectral_norms


@dataclass(frozen=True)
class SpectralPenalty:
    """The penalty () and the power-iteration vectors to go on from."""

    value: Tensor
    vectors: dict[str, Tensor]


def spectral_penalty(network: nn.Module, vectors: dict[str, Tensor]) -> SpectralPenalty:
    """Returns Σ σ_max over the convolutions of a network, by four power iterations.

    Arguments:
        network: The energy network.
        vectors: What the previous call returned, or ``vaebm.nn.spectral_vectors``.
    """
    norms = spectral_norms(network, vectors)
    return SpectralPenalty(norms.values.sum(), norms.vectors)
