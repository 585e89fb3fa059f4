"""Building blocks of the networks: normalised convolutions, residual blocks, spectral norms."""

from vaebm.nn.batch_norm import shared_batches
from vaebm.nn.convolution import NORMALIZATIONS, frozen, initialize_from_data, normalized, swish_1lipschitz
from vaebm.nn.precision import at_least_float32
from vaebm.nn.recompute import Recomputed, set_recomputation
from vaebm.nn.residual import ResidualBlock
from vaebm.nn.spectral import SpectralNorms, spectral_norms, spectral_vectors

__all__ = [
    "NORMALIZATIONS",
    "Recomputed",
    "ResidualBlock",
    "SpectralNorms",
    "at_least_float32",
    "frozen",
    "initialize_from_data",
    "normalized",
    "set_recomputation",
    "shared_batches",
    "spectral_norms",
    "spectral_vectors",
    "swish_1lipschitz",
]
