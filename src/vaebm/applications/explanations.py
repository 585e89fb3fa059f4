r"""Why an image is odd to a VAEBM: where in the image, and compared with what.

*Heat map.* With s(x) = E(x) − ELBO(x) the outlier score, averaged over the same noise as the score itself,

    heat(x) = G_w * Σ_c |∂s/∂x_c|:

the absolute gradient, summed over channels, convolved with a Gaussian of w pixels. It tells where a small change would
change the score most, in nats for each unit of the range [−1, 1]: not always where the defect is.

*Nearest normal image.* A chain climbs, from the image's own place in latent noise,

    −mean_k E(mean(z) + scale(z) · ε_k) − ½ |z|² − t · mean|mean(z) − x|

by z ← z + (η/2) · gradient, without fresh noise. The first two terms are log h of the latent noise z, with the image
noise held at K draws ε_k that all images share; where the model's chains see the decoder's mean, ε is 0. The last one
ties the chain to the image: t nats for a mean absolute difference of 1. An absolute difference is robust; a defect that
covers little of the image has little pull. The start is the posterior mean's noise, brought back to the radius √D where
it lies beyond. The decoder's mean at the end is the image. Nothing is random but ε, so that an image's neighbour
depends neither on the other images nor on their order.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
    Deep Inside Convolutional Networks: Visualising Image Classification Models (gradients as maps),
    https://arxiv.org/abs/1312.6034
    Iterative energy-based projection on a normal data manifold for anomaly localization,
    https://arxiv.org/abs/2002.03734
"""

from __future__ import annotations

import torch
from torch import Tensor

from vaebm.applications.outlier_scores import average_terms, check_images_of, draw_scoring_noise
from vaebm.data import smoothed
from vaebm.models import VAEBM
from vaebm.nn import frozen
from vaebm.sampling.kernel import grad_log_density

__all__ = ["heat_maps", "nearest_normal"]


def heat_maps(
    model: VAEBM,
    images: Tensor,
    *,
    generator: torch.Generator,
    num_posterior_samples: int = 8,
    smoothing: float | None = None,
    batch_size: int = 100,
) -> Tensor:
    """Maps where a change of the image would change its outlier score most.

    Arguments:
        model: The VAEBM; the maps are computed in its precision.
        images: Images (N, C, H, W) in [−1, 1].
        generator: The source of the noise; in the state in which it was for the scores, the maps are of those.
        num_posterior_samples: The number of posterior samples, and of noisy copies; the same as for the scores.
        smoothing: The standard deviation w of the Gaussian in pixels, 0 for none; by default a twentieth of the shorter
            side.
        batch_size: The number of images at once.

    Returns:
        The heat, (N, H, W), not negative, in the model's precision.

    Raises:
        ValueError: If the images have another shape than the model's or are no finite floats, or a number is out of
            range.

    References:
        Deep Inside Convolutional Networks: Visualising Image Classification Models, https://arxiv.org/abs/1312.6034

    Example:
        >>> from vaebm.models import ConvVAE, EnergyNetwork
        >>> model = VAEBM(ConvVAE((1, 8, 8), (4,), widths=(16,)), EnergyNetwork((1, 8, 8), widths=(4,)))
        >>> heat_maps(model, torch.zeros(3, 1, 8, 8), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([3, 8, 8])
    """
    check_images_of(model, images)
    width = min(model.image_shape[1:]) / 20 if smoothing is None else smoothing
    if num_posterior_samples < 1 or width < 0:
        raise ValueError(
            f"num_posterior_samples {num_posterior_samples} and smoothing {width}: expected at least 1 and 0"
        )
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    noise, maps = draw_scoring_noise(model, num_posterior_samples, generator), []
    with frozen(model):
        for batch in torch.split(images.to(device, dtype), batch_size):
            slopes = grad_log_density(lambda pixels: average_terms(model, pixels, noise).joint, batch).grad
            maps.append(slopes.abs().sum(1, keepdim=True))
    heat = torch.cat(maps)
    return (smoothed(heat, width) if width > 0 and len(heat) else heat).squeeze(1)


def nearest_normal(
    model: VAEBM,
    images: Tensor,
    *,
    generator: torch.Generator,
    num_steps: int = 60,
    step_size: float = 0.1,
    tether: float = 150.0,
    num_noises: int = 4,
    batch_size: int = 100,
) -> Tensor:
    """Finds a normal image near each image: a short chain from the image's own latent noise up the density.

    Arguments:
        model: The VAEBM.
        images: Images (N, C, H, W) in [−1, 1].
        generator: The source of the image noise ε that the energy is averaged over.
        num_steps: The number of steps; 0 gives the VAE's reconstruction.
        step_size: The step size η > 0.
        tether: t, what a mean absolute difference of 1 costs, in nats; 0 lets go of the image.
        num_noises: The number K of draws of ε.
        batch_size: The number of images at once.

    Returns:
        Images (N, C, H, W) in [−1, 1], float32.

    Raises:
        ValueError: If the images have another shape than the model's or are no finite floats, or a number is out of
            range.

    References:
        Iterative energy-based projection on a normal data manifold for anomaly localization,
        https://arxiv.org/abs/2002.03734

    Example:
        >>> from vaebm.models import ConvVAE, EnergyNetwork
        >>> model = VAEBM(ConvVAE((1, 8, 8), (4,), widths=(16,)), EnergyNetwork((1, 8, 8), widths=(4,)))
        >>> nearest_normal(model, torch.zeros(3, 1, 8, 8), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([3, 1, 8, 8])
    """
    check_images_of(model, images)
    if num_steps < 0 or not step_size > 0 or tether < 0 or num_noises < 1:
        raise ValueError(
            f"num_steps {num_steps}, step_size {step_size}, tether {tether}, num_noises {num_noises}: expected at "
            "least 0, above 0, at least 0 and at least 1"
        )
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    drawn = torch.randn(num_noises, *model.image_shape, generator=generator, device=generator.device)
    sees_mean = model.image_fields.chain_image == "mean"
    # Of the mean, one look tells as much as several.
    noises = (drawn[:1] * 0 if sees_mean else drawn).to(device, dtype)
    with frozen(model):
        batches = torch.split(images.to(device, dtype), batch_size)
        found = [_climb(model, batch, noises, num_steps, step_size, tether) for batch in batches]
    return torch.cat(found)


def _climb(model: VAEBM, images: Tensor, noises: Tensor, num_steps: int, step_size: float, tether: float) -> Tensor:
    def log_density(latent: Tensor) -> Tensor:
        decoded = model.vae.decode(latent)
        value: Tensor = -0.5 * latent.double().square().sum(1)
        for noise in noises:
            value = value - model.energy(decoded.mean + decoded.scale * noise).double() / len(noises)
        apart: Tensor = (decoded.mean - images).abs().double().flatten(1).mean(1)
        return value - tether * apart

    size = model.noise_layout.latent_size
    with torch.no_grad():
        latent = model.vae.elbo_terms(images, images.new_zeros(len(images), size)).noise
    radius = latent.norm(dim=1, keepdim=True) / size**0.5
    latent = latent / radius.clamp_min(1)
    for _ in range(num_steps):
        latent = latent + 0.5 * step_size * grad_log_density(log_density, latent).grad
    with torch.no_grad():
        mean: Tensor = model.vae.decode(latent).mean
    return mean.float().clamp(-1, 1)
