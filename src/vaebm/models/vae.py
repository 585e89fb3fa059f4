r"""What a VAE is to the rest of the house.

log p(x) ≥ ELBO(x) = E_q[log p(x|z)] − Σ_l KL(q(z_l|x, z_<l) ‖ p(z_l|z_<l)), with latent groups z_1 … z_L top-down.
Every latent is standard-normal noise, transported: z_l = μ_l(z_<l) + σ_l(z_<l)·noise_l.

References:
    Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114
    Ladder Variational Autoencoders (top-down groups), https://arxiv.org/abs/1602.02282
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vaebm.distributions import NoiseLayout


@dataclass(frozen=True)
class Decoded:
    """The Gaussian pixel likelihood at latents: mean and scale (B, C, H, W), and the latents of each group.

    ``prior_scales`` are the σ_l of each group, in the shape of its latents; None where every prior scale is 1.
    """

    mean: Tensor
    scale: Tensor
    latents: list[Tensor]
    prior_scales: list[Tensor] | None = None

    @property
    def log_prior_scale(self) -> Tensor | None:
        """The sum of log σ_l over all latents, shape (B,), float64; None where every prior scale is 1."""
        if self.prior_scales is None:
            return None
        return torch.stack([scale.log().flatten(1).sum(1, dtype=torch.float64) for scale in self.prior_scales]).sum(0)


@dataclass(frozen=True)
class ElboTerms:
    """The terms of the ELBO for each image, in nats: log_likelihood (B,), kl (B, groups), both float64.

    The reconstruction and the scale are those of the pixel likelihood (B, C, H, W); the noise (B, latent_size) is what
    the prior needs to arrive at the same latents: the image's place in noise space.
    """

    log_likelihood: Tensor
    kl: Tensor
    reconstruction: Tensor
    scale: Tensor
    noise: Tensor

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound, shape (B,), in nats."""
        return self.log_likelihood - self.kl.sum(1)


class VAE(Protocol):
    """A VAE with Gaussian pixels; also a ``torch.nn.Module``."""

    image_shape: tuple[int, ...]
    noise_layout: NoiseLayout

    def decode(self, latent_noise: Tensor) -> Decoded:
        """Transports latent noise (B, latent_size) to latents and on to the pixel likelihood."""
        ...

    def elbo_terms(self, images: Tensor, posterior_noise: Tensor) -> ElboTerms:
        """Evaluates the ELBO of images (B, C, H, W) with given posterior noise (B, latent_size)."""
        ...
