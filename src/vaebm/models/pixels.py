r"""Energy-based models in pixel space, as VAEBMs whose VAE is the identity: what noise space is compared with.

With the reference density p₀ = N(0, s² I) over pixels, x = s · noise, and the model is

    h(x) ∝ p₀(x) · exp(−E(x)),    log h(noise) = −E(s · noise) − ½ |noise|² + const.

So training, chains and measures are those of a VAEBM; only the decoder is missing. The reference keeps chains from
drifting away where the energy, which clamps its input, is flat.

References:
    A Theory of Generative ConvNet (an energy with a Gaussian reference), https://arxiv.org/abs/1602.03264
    Learning Non-Convergent Non-Persistent Short-Run MCMC Toward Energy-Based Model, https://arxiv.org/abs/1904.09770
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaebm.distributions import NoiseLayout
from vaebm.models.vae import Decoded, ElboTerms


class GaussianReference(nn.Module):
    """N(0, s² I) over pixels in the place of a VAE: its one latent group is the image itself, and nothing is learned.

    Arguments:
        image_shape: The shape (C, H, W) of one image.
        scale: The standard deviation s of a pixel, in units of the range [−1, 1].

    Raises:
        ValueError: If the scale is not positive.

    Example:
        >>> reference = GaussianReference((1, 8, 8))
        >>> reference.decode(torch.ones(2, 64)).mean.shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, image_shape: Sequence[int], scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale is {scale}: expected a positive number")
        self.arguments = {"image_shape": list(image_shape), "scale": scale}
        self.image_shape, self.scale = tuple(image_shape), scale
        self.noise_layout = NoiseLayout((self.image_shape,))
        self.num_groups = (1,)

    def decode(self, latent_noise: Tensor) -> Decoded:
        """Returns s · noise (B, C, H, W) as the mean, with a pixel scale of zero."""
        image = self.scale * latent_noise.view(-1, *self.image_shape)
        return Decoded(image, torch.zeros_like(image), [image])

    def elbo_terms(self, images: Tensor, posterior_noise: Tensor) -> ElboTerms:
        """Returns log p₀ of images (B, C, H, W), which is exact: no divergence, and the posterior noise isn't used."""
        noise = images.flatten(1) / self.scale
        constant = noise.shape[1] * (math.log(self.scale) + 0.5 * math.log(2 * math.pi))
        log_likelihood = -0.5 * noise.double().square().sum(1) - constant
        kl = log_likelihood.new_zeros(len(images), 1)
        return ElboTerms(log_likelihood, kl, images, torch.zeros_like(images), noise)


class TemperedEnergy(nn.Module):
    """An energy network over a temperature, E(x) = network(x) / T.

    Langevin steps on it with step size η are gradient steps of size η/2T on the network with noise √η: small T is the
    practice of pixel-space models, whose noise is far smaller than that of Langevin dynamics on the network itself.

    Arguments:
        network: Images (B, C, H, W) → (B,).
        temperature: T.

    Raises:
        ValueError: If the temperature is not positive.

    Example:
        >>> TemperedEnergy(lambda images: images.sum((1, 2, 3)), 0.5)(torch.ones(2, 1, 1, 3))
        tensor([6., 6.])
    """

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}: expected a positive number")
        self.network, self.temperature = network, temperature

    def forward(self, images: Tensor) -> Tensor:
        """Returns energies (B,)."""
        energies: Tensor = self.network(images) / self.temperature
        return energies
