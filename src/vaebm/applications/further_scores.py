r"""Outlier scores of published work, beside the model's own. Higher = outlier.

*Gradient norm* (JEM's "approximate mass"): |∂ joint/∂x|, the slope of the log-density's bound at the image, averaged
over the noise of the other scores. A normal image lies where the density is flat.

*Likelihood regret*: how much the ELBO of an image gains if its own posterior is fitted to it alone. With a posterior
N(m, s²) over the latent noise, from the encoder's own,

    regret(x) = max_{m, s} ELBO(x; m, s) − ELBO(x; m₀, s₀),
    ELBO(x; m, s) = mean_k log p(x | z(m + s · ε_k)) − KL(N(m, s²) ‖ N(0, 1)),

with K draws ε_k that all images share. The encoder has learned to do this well for normal images. Its scale s₀ is the
difference that one standard deviation of its noise makes: exact for one latent group, a diagonal of it for several.

*Typicality*: |joint − m|, with the median m of the joint of normal images. An image that is likelier than these is odd,
too.

*Complexity corrected*: −joint − L log 2, with the length L of the image in bits as a lossless code writes it, here as a
PNG file. A simple image is likely under any model; by how much, its code tells.

References:
    Your Classifier is Secretly an Energy Based Model (approximate mass), https://arxiv.org/abs/1912.03263
    Likelihood Regret: An Out-of-Distribution Detection Score For Variational Auto-encoder,
    https://arxiv.org/abs/2003.02977
    Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality, https://arxiv.org/abs/1906.02994
    Input complexity and out-of-distribution detection with likelihood-based generative models,
    https://arxiv.org/abs/1909.11480
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaebm.applications.outlier_scores import average_terms, check_images_of, draw_scoring_noise
from vaebm.distributions import Normal
from vaebm.models import VAEBM
from vaebm.nn import frozen
from vaebm.sampling.kernel import grad_log_density

__all__ = ["complexity_corrected", "gradient_norms", "likelihood_regrets", "typicality"]

LEAST_SCALE = 1e-3


def typicality(joint: Tensor, of_normal: Tensor) -> Tensor:
    """Returns |joint − m| in nats, shape (N,).

    Arguments:
        joint: The joint of images, (N,).
        of_normal: The joint of normal images that no network learned from, (M,), whose median m is.

    Example:
        >>> typicality(torch.tensor([-7.0, -1.0]), torch.tensor([-4.0, -5.0, -3.0]))
        tensor([3., 3.])
    """
    return (joint - of_normal.median()).abs()


def complexity_corrected(joint: Tensor, bits: Tensor) -> Tensor:
    """Returns −joint − bits · log 2 in nats, shape (N,).

    Arguments:
        joint: The joint of images, (N,).
        bits: Their lengths as a lossless code writes them, in bits, (N,); see ``vaebm.evaluation.png_bits``.

    Example:
        >>> complexity_corrected(torch.tensor([-7.0]), torch.tensor([10.0]))
        tensor([0.0685])
    """
    return -joint - math.log(2) * bits


def gradient_norms(
    model: VAEBM,
    images: Tensor,
    *,
    generator: torch.Generator,
    num_posterior_samples: int = 8,
    batch_size: int = 100,
) -> Tensor:
    """Returns |∂ joint/∂x| of images, in nats for each unit of the range [−1, 1], (N,), float64.

    Arguments:
        model: The VAEBM.
        images: Images (N, C, H, W) in [−1, 1].
        generator: The source of the noise; in the state in which it was for ``outlier_scores``, it is the same.
        num_posterior_samples: The number of posterior samples, and of noisy copies.
        batch_size: The number of images at once.

    Raises:
        ValueError: If the images have another shape than the model's, or are no finite floats.
    """
    check_images_of(model, images)
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    noise, norms = draw_scoring_noise(model, num_posterior_samples, generator), [torch.zeros(0, device=device).double()]
    with frozen(model):
        for batch in torch.split(images.to(device, dtype), batch_size):
            slopes = grad_log_density(lambda pixels: average_terms(model, pixels, noise).joint, batch).grad
            norms.append(slopes.double().flatten(1).norm(dim=1))
    return torch.cat(norms)


def likelihood_regrets(
    model: VAEBM,
    images: Tensor,
    *,
    generator: torch.Generator,
    num_steps: int = 100,
    learning_rate: float = 0.02,
    num_noises: int = 4,
    batch_size: int = 100,
) -> Tensor:
    """Returns the likelihood regret of images by the VAE alone, in nats, (N,), float64, not negative.

    Arguments:
        model: The VAEBM; its energy takes no part.
        images: Images (N, C, H, W) in [−1, 1].
        generator: The source of the K draws ε_k.
        num_steps: The number of steps of Adam.
        learning_rate: Its rate, for m and log s.
        num_noises: K.
        batch_size: The number of images at once.

    Raises:
        ValueError: If the images have another shape than the model's or are no finite floats, or there is no noise.
    """
    check_images_of(model, images)
    if num_noises < 1:
        raise ValueError(f"num_noises is {num_noises}: expected at least 1")
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    shape = (num_noises, model.vae.noise_layout.size)
    noise = torch.randn(shape, generator=generator, device=generator.device).to(device, dtype)
    found = [torch.zeros(0, device=device).double()]
    with frozen(model), torch.enable_grad():
        for batch in torch.split(images.to(device, dtype), batch_size):
            found.append(_regrets(model, batch, noise, num_steps, learning_rate))
    return torch.cat(found)


def _regrets(model: VAEBM, images: Tensor, noise: Tensor, num_steps: int, learning_rate: float) -> Tensor:
    with torch.no_grad():
        still = torch.zeros(len(images), noise.shape[1], dtype=noise.dtype, device=noise.device)
        mean = model.vae.elbo_terms(images, still).noise
        log_scale = (model.vae.elbo_terms(images, still + 1).noise - mean).abs().clamp(min=LEAST_SCALE).log()
    mean.requires_grad_()
    log_scale.requires_grad_()
    optimizer = torch.optim.Adam([mean, log_scale], learning_rate)
    first = best = _elbos(model, images, mean, log_scale, noise).detach()
    for _ in range(num_steps):
        optimizer.zero_grad()
        torch.autograd.backward(-_elbos(model, images, mean, log_scale, noise).sum())
        optimizer.step()
        # Adam may step too far, also out of all numbers: an image's best is kept.
        best = torch.fmax(best, _elbos(model, images, mean, log_scale, noise).detach())
    return best - first


def _elbos(model: VAEBM, images: Tensor, mean: Tensor, log_scale: Tensor, noise: Tensor) -> Tensor:
    scale = log_scale.exp()
    likelihoods = []
    for draw in noise:
        decoded = model.vae.decode(mean + scale * draw)
        likelihoods.append(Normal(decoded.mean, decoded.scale).log_prob(images))
    divergence = (mean.square() + scale.square() - 1).double().sum(1) / 2 - log_scale.double().sum(1)
    return torch.stack(likelihoods).double().mean(0) - divergence
