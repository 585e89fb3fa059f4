r"""The VAEBM: h(x, z) ∝ p(x, z) · exp(−E(x)), a frozen VAE corrected by an energy network.

In noise space the change of variables cancels every scale of the VAE, so the sampled density is exactly

    log h(noise) = −E(image(noise)) − ½ |noise|² + const,    image = mean(z(noise_z)) + scale(z(noise_z)) · noise_x.

With ``chain_image="mean"`` the energy sees the decoder's mean instead: a density over noise, not p(x)·exp(−E(x)). Where
no field of ``ImageFields`` says sampled, there is no image noise.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vaebm.distributions import NoiseLayout, standard_normal_log_prob

IMAGES = ("sampled", "mean")
OFFICIAL_LEAST_SCALE = math.exp(-2) + 0.01
MOST_AT_ONCE, MOST_NOISE = 250, 5_000_000


@dataclass(frozen=True)
class ImageFields:
    """Which image is meant where, each ``sampled`` (mean + scale·noise) or ``mean``.

    Arguments:
        chain_image: What the energy sees in a chain, sampled or mean.
        loss_image: The negative of the loss, sampled or mean.
        output_image: What generation returns, sampled or mean.

    Raises:
        ValueError: If a field has another value.
    """

    chain_image: str = "sampled"
    loss_image: str = "sampled"
    output_image: str = "mean"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value not in IMAGES:
                raise ValueError(f"{name} is {value!r}: expected one of {', '.join(IMAGES)}")

    @property
    def has_image_noise(self) -> bool:
        """Whether any field needs image noise."""
        return "sampled" in (self.chain_image, self.loss_image, self.output_image)


@dataclass(frozen=True)
class Transported:
    """Noise carried to images: image is what the energy sees in a chain, not clamped; mean and scale of the pixels.

    All (B, C, H, W); latents are one tensor for each group; sampled is mean + scale·noise, None without image noise.
    """

    image: Tensor
    mean: Tensor
    scale: Tensor
    latents: list[Tensor]
    sampled: Tensor | None

    def pick(self, which: str) -> Tensor:
        """Returns the ``sampled`` or the ``mean`` image."""
        if which == "mean":
            return self.mean
        if self.sampled is None:
            raise ValueError("the model has no image noise: expected image 'mean'")
        return self.sampled


class VAEBM(nn.Module):
    """A VAE and an energy network, and the density that they define together.

    Arguments:
        vae: The VAE; satisfies ``vaebm.models.vae.VAE``.
        energy: The energy network, images (B, C, H, W) → (B,).
        image_fields: Which image is meant where.
        sampling: Defaults for generation, ``num_steps``, ``step_size``, perhaps ``persistence``; stored with it.

    Example:
        >>> from vaebm.models import ConvVAE, EnergyNetwork
        >>> vae, energy = ConvVAE((1, 8, 8), (4,), widths=(16,)), EnergyNetwork((1, 8, 8), widths=(4,))
        >>> model = VAEBM(vae, energy, ImageFields())
        >>> model.noise_layout.size, model.log_density(torch.zeros(2, 68)).shape
        (68, torch.Size([2]))
    """

    def __init__(
        self,
        vae: Any,
        energy: nn.Module,
        image_fields: ImageFields | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.sampling = dict(sampling or {})
        self.vae, self.energy = vae, energy
        self.image_fields = image_fields or ImageFields()
        self.image_shape: tuple[int, ...] = tuple(vae.image_shape)
        shape = self.image_shape if self.image_fields.has_image_noise else None
        self.noise_layout = NoiseLayout(vae.noise_layout.latent_shapes, shape)

    @property
    def largest_batch(self) -> int:
        """How many chains run at once unless told otherwise: 250, or fewer of more than 20,000 dimensions.

        Feature maps grow with the noise, and 250 of the paper's NVAE on CIFAR-10 would take some 80 GiB.
        """
        return max(1, min(MOST_AT_ONCE, MOST_NOISE // self.noise_layout.size))

    def transport(self, noise: Tensor) -> Transported:
        """Transports noise (B, D) to latents and images."""
        parts = self.noise_layout.split(noise)
        size = self.noise_layout.latent_size
        decoded = self.vae.decode(noise[:, :size])
        sampled = None
        if self.noise_layout.image_shape is not None:
            sampled = decoded.mean + decoded.scale * parts[-1]
        image = decoded.mean if self.image_fields.chain_image == "mean" or sampled is None else sampled
        return Transported(image, decoded.mean, decoded.scale, decoded.latents, sampled)

    def log_density(self, noise: Tensor) -> Tensor:
        """Returns −E(image(noise)) + log N(noise; 0, I), shape (B,), in nats, float64; exact but for the constant Z."""
        energy: Tensor = self.energy(self.transport(noise).image)
        return standard_normal_log_prob(noise) - energy.double()

    def official_log_density(self, noise: Tensor) -> Tensor:
        """Returns what the official release samples instead of ``log_density``, shape (B,), in nats, float64.

        It is −E(x) + log p(z) + log p(x|z) at z(noise), x(noise), without the Jacobian of the change of variables; its
        p(x|z) has another scale s' than the scale s that x is drawn with; and x is clamped to [−1, 1] first:

            −E − ½|noise_z|² − Σ log σ_l − ½|(x − mean)/s'|² − Σ log s',    s' = max(s, exp(−2) + 0.01).

        For comparison only: its chains follow another density than p(x) · exp(−E(x)).

        Raises:
            ValueError: If the chains see the decoder's mean.
        """
        if self.image_fields.chain_image != "sampled":
            raise ValueError("the chains see the mean: the official potential needs chain_image 'sampled'")
        decoded = self.vae.decode(noise[:, : self.noise_layout.latent_size])
        image_noise = self.noise_layout.split(noise)[-1]
        image = decoded.mean + decoded.scale * image_noise
        claimed = decoded.scale.clamp(min=OFFICIAL_LEAST_SCALE)
        quadratic = ((image.clamp(-1, 1) - decoded.mean) / claimed).double().square().flatten(1).sum(1)
        latent = noise[:, : self.noise_layout.latent_size].double().square().sum(1)
        jacobian = claimed.double().log().flatten(1).sum(1)
        if decoded.log_prior_scale is not None:
            jacobian = jacobian + decoded.log_prior_scale
        energy: Tensor = self.energy(image)
        value: Tensor = -0.5 * (latent + quadratic) - jacobian - energy.double()
        return value

    def unnormalized_log_joint(self, images: Tensor, log_likelihood: Tensor) -> Tensor:
        """Returns log p(x) − E(x), shape (B,), in nats, float64.

        Arguments:
            images: Images x, shape (B, C, H, W).
            log_likelihood: Their log p(x) under the VAE, or a bound on it, shape (B,).

        Raises:
            ValueError: If the energy is one on the decoder's mean, with which the model is no density over images.
        """
        if self.image_fields.chain_image != "sampled":
            raise ValueError("chain_image is 'mean', so the model has no density over images: expected 'sampled'")
        energy: Tensor = self.energy(images)
        return log_likelihood.double() - energy.double()

    @torch.no_grad()
    def noise_of(self, images: Tensor, posterior_noise: Tensor) -> Tensor:
        """Returns the place of images in noise space, shape (B, D): what ``transport`` maps back near them."""
        terms = self.vae.elbo_terms(images, posterior_noise)
        if self.noise_layout.image_shape is None:
            noise: Tensor = terms.noise
            return noise
        decoded = self.vae.decode(terms.noise)
        return torch.cat([terms.noise, ((images - decoded.mean) / decoded.scale).flatten(1)], 1)
