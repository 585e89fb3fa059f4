"""Latent Gaussians, pixel likelihoods and the layout of their noise."""

from vaebm.distributions.layout import NoiseLayout
from vaebm.distributions.normal import Normal, bits_per_dim, standard_normal_log_prob

__all__ = ["NoiseLayout", "Normal", "bits_per_dim", "standard_normal_log_prob"]
