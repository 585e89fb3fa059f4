r"""How odd an image is to a VAEBM: its energy, its ELBO, and both together.

log h(x) ≥ ELBO(x) − E(x) − log Z, so *joint* = ELBO − E bounds the log-density from below, up to a constant. All three
keep their own sense (low energy, high ELBO, high joint = normal); ``outlier_score`` = −joint is higher for outliers.

An energy whose loss takes *sampled* images has only ever seen images with pixel noise: there E(x) stands for the mean
of E(x + scale·noise), and joint is a score rather than a bound; so it is with ``chain_image="mean"``.

One draw of noise serves all images, so that scores depend neither on batch size nor on order.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
    Your Classifier is Secretly an Energy Based Model (energy as outlier score), https://arxiv.org/abs/1912.03263
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vaebm.distributed import Engine
from vaebm.models import VAEBM
from vaebm.nn import frozen


@dataclass(frozen=True)
class OutlierScores:
    """Scores of N images, each (N,), float64, in nats."""

    energy: Tensor
    elbo: Tensor
    joint: Tensor

    @property
    def outlier_score(self) -> Tensor:
        """The negative joint, higher = outlier, shape (N,)."""
        return -self.joint


class ScoringNoise(NamedTuple):
    """The noise of K posterior samples, (K, latent_size), and of K noisy copies of an image, (K, C, H, W)."""

    posterior: Tensor
    pixel: Tensor


@torch.no_grad()
def outlier_scores(
    model: VAEBM,
    images: Tensor,
    *,
    num_posterior_samples: int = 8,
    generator: torch.Generator,
    batch_size: int | None = None,
    engine: Engine | None = None,
) -> OutlierScores:
    """Scores images.

    The ELBO is averaged over posterior samples. Where the energy was trained on images with the VAE's pixel noise
    (``loss_image="sampled"``), it is averaged over as many noisy copies.

    Arguments:
        model: The VAEBM.
        images: Images (N, C, H, W) in [−1, 1].
        num_posterior_samples: The number of posterior samples, and of noisy copies, for each image.
        generator: The source of the noise; the same state of it gives the same scores.
        batch_size: The number of images at once, by default twice the model's ``largest_batch``.
        engine: Shares the batches among launched processes; each of them gets all scores.

    Returns:
        energy, elbo and joint, each (N,).

    Raises:
        ValueError: If the images have another shape than the model's, are no finite floats, or there is no
            posterior sample.
    """
    check_images_of(model, images)
    if num_posterior_samples < 1:
        raise ValueError(f"num_posterior_samples is {num_posterior_samples}: expected at least 1")
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    noise = draw_scoring_noise(model, num_posterior_samples, generator)
    batches = torch.split(images, batch_size or 2 * model.largest_batch)
    own = range(len(batches)) if engine is None else engine.deal(len(batches))
    terms = torch.zeros(0, 2, dtype=torch.float64, device=device)
    with frozen(model):
        for place in own:
            found = average_terms(model, batches[place].to(device, dtype), noise)
            terms = torch.cat([terms, torch.stack([found.energy, found.elbo], 1)])
    energy, elbo = (terms if engine is None else engine.gather(terms)).unbind(1)
    return OutlierScores(energy, elbo, elbo - energy)


def check_images_of(model: VAEBM, images: Tensor) -> None:
    """Raises a ``ValueError`` if images aren't finite floats of the model's shape."""
    if images.ndim != 4 or tuple(images.shape[1:]) != model.image_shape:
        expected = ", ".join(map(str, model.image_shape))
        raise ValueError(f"images have shape {tuple(images.shape)}: expected (N, {expected})")
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}: expected floats in [-1, 1]; vaebm.data.to_float converts uint8")
    if not bool(images.isfinite().all()):
        raise ValueError("images hold NaN or infinity: expected finite values in [-1, 1]")


def draw_scoring_noise(model: VAEBM, num_posterior_samples: int, generator: torch.Generator) -> ScoringNoise:
    """Draws the noise that all images are scored with, on the generator's device, and moves it to the model's.

    Arguments:
        model: The VAEBM.
        num_posterior_samples: The number K of posterior samples, and of noisy copies.
        generator: The source of the noise.

    Returns:
        The noise, float32.
    """
    device = next(model.parameters()).device
    latent_shape = (num_posterior_samples, model.noise_layout.latent_size)
    posterior = torch.randn(latent_shape, generator=generator, device=generator.device).to(device)
    pixel_shape = (num_posterior_samples, *model.image_shape)
    return ScoringNoise(posterior, torch.randn(pixel_shape, generator=generator, device=generator.device).to(device))


def average_terms(model: VAEBM, images: Tensor, noise: ScoringNoise) -> OutlierScores:
    """Averages the terms of the scores over noise, in the model's precision and with float64 sums.

    Arguments:
        model: The VAEBM, in evaluation mode.
        images: Images (N, C, H, W) in [−1, 1], of the model's device and type.
        noise: The noise of K samples.

    Returns:
        energy, elbo and joint, each (N,).
    """
    noisy, count = model.image_fields.loss_image == "sampled", len(noise.posterior)
    energy = elbo = images.new_zeros((), dtype=torch.float64)
    for latent, pixel in zip(noise.posterior.unbind(), noise.pixel.unbind(), strict=True):
        terms = model.vae.elbo_terms(images, latent.expand(images.shape[0], -1))
        elbo = elbo + terms.elbo / count
        seen = images + terms.scale * pixel if noisy else images
        energy = energy + model.energy(seen).double() / count
    return OutlierScores(energy, elbo, elbo - energy)
