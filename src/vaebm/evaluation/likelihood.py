r"""The normaliser log Z of a VAEBM, and what it makes of a likelihood.

Z = ∫ p(x) exp(−E(x)) dx = E[exp(f(noise))] over noise ~ N(0, I), f(noise) = −E(image(noise)). Estimates come from
log-weights log w with E[w] = Z: of draws of the VAE (simple importance sampling), or of annealed chains.

* log Ẑ = log mean w is consistent, and biased low: E[log Ẑ] ≤ log Z. So a likelihood −log Ẑ flatters the model.
* forward_bound = mean of log w, a lower bound of log Z in expectation, by any number of chains. It flatters as well.
* reverse_estimate = mean of log r of chains run down from h: an upper bound in expectation, honest about likelihoods,
  but only from exact draws of h.
* ESS = (Σ w)²/Σ w². Where it is a handful, log Ẑ rests on a handful of draws, and its interval means nothing.

log h(x) = log p(x) − E(x) − log Z ≥ ELBO(x) − E(x) − log Z.

References:
    Annealed Importance Sampling (Neal), https://arxiv.org/abs/physics/9803008
    On the Quantitative Analysis of Decoder-Based Generative Models (Wu, Burda, Salakhutdinov, Grosse),
    https://arxiv.org/abs/1611.04273
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.metrics import Interval
from vaebm.models import VAEBM
from vaebm.sampling import (
    Annealed,
    Ladder,
    LogDensity,
    adaptive_ladder,
    anneal,
    anneal_down,
    effective_sample_size,
)

_QUANTILE = 1.959964
_FEWEST = 2
USABLE_ESS = 100.0
_PILOT_CHAINS, _PILOT_ESS, _LONGEST_PILOT = 250, 0.9, 300


@dataclass(frozen=True)
class Normalizer:
    """What log-weights say of log Z, in nats.

    Arguments:
        log_z: log mean w with its 95 % interval by the delta method.
        forward_bound: The mean of log w with its 95 % interval; a lower bound of log Z in expectation.
        ess: The effective sample size of the weights.
        num_weights: How many weights there are.
    """

    log_z: Interval
    forward_bound: Interval
    ess: float
    num_weights: int

    @property
    def is_usable(self) -> bool:
        """Whether the interval of ``log_z`` may be believed: the weights are worth a hundred draws or more."""
        return self.ess >= USABLE_ESS


def tilt_of(model: VAEBM) -> LogDensity:
    """Returns −E(image(noise)), (B, D) → (B,), float64: what tilts N(0, I) into h."""

    def tilt(noise: Tensor, /) -> Tensor:
        energy: Tensor = model.energy(model.transport(noise).image)
        return -energy.double()

    return tilt


def summarize_weights(log_weights: Tensor) -> Normalizer:
    """Returns what log-weights say of log Z.

    Arguments:
        log_weights: log w with E[w] = Z, shape (N,), two or more.

    Raises:
        ValueError: If there are fewer than two, or one is not a number.

    Example:
        >>> round(summarize_weights(torch.full((10,), 3.0)).log_z.value, 6)
        3.0
    """
    values = log_weights.detach().double().cpu()
    if values.ndim != 1 or len(values) < _FEWEST:
        raise ValueError(f"log-weights of shape {tuple(values.shape)}: expected (N,) with N of at least {_FEWEST}")
    if values.isnan().any():
        raise ValueError("a log-weight is not a number: a chain diverged, choose smaller steps")
    count = len(values)
    log_z = float(torch.logsumexp(values, 0)) - math.log(count)
    # Standard deviation of w / mean w, over √N: the error of log mean w to first order.
    error = float((values - log_z).exp().std()) / math.sqrt(count)
    return Normalizer(
        _interval(log_z, error),
        _interval(float(values.mean()), float(values.std()) / math.sqrt(count)),
        effective_sample_size(values),
        count,
    )


def importance_weights(model: VAEBM, num_samples: int, generator: torch.Generator, batch_size: int = 1000) -> Tensor:
    """Returns log-weights −E(x) of draws x of the VAE, shape (num_samples,), float64.

    Arguments:
        model: The VAEBM.
        num_samples: The number of draws.
        generator: The source of randomness.
        batch_size: How many draws are made at a time; it doesn't change them.
    """
    tilt, values = tilt_of(model), []
    with torch.no_grad():
        for batch in _draws(model, num_samples, generator, batch_size):
            values.append(tilt(batch))
    return torch.cat(values)


def annealed_weights(
    model: VAEBM, num_chains: int, ladder: Ladder, generator: torch.Generator, num_steps: int = 1, batch_size: int = 250
) -> Annealed:
    """Runs annealed chains from the VAE to the VAEBM.

    Arguments:
        model: The VAEBM, its parameters frozen.
        num_chains: The number of chains.
        ladder: Temperatures and kernels, such as of ``vaebm.sampling.adaptive_ladder``.
        generator: The source of randomness.
        num_steps: The number of kernel steps at each temperature.
        batch_size: How many chains run at a time.

    Returns:
        Log-weights with E[w] = Z, and the chains' ends.
    """
    noises = _draws(model, num_chains, generator, batch_size)
    return _joined([anneal(tilt_of(model), noise, ladder, generator, num_steps) for noise in noises])


def pilot_ladder(model: VAEBM, generator: torch.Generator) -> Ladder:
    """Finds temperatures and step sizes by a pilot run, for ladders of any length (``resized_ladder``).

    Arguments:
        model: The VAEBM, its parameters frozen.
        generator: The source of randomness.
    """
    (noise,) = _draws(model, _PILOT_CHAINS, generator, _PILOT_CHAINS)
    return adaptive_ladder(
        tilt_of(model), noise, generator, conditional_ess=_PILOT_ESS, max_temperatures=_LONGEST_PILOT
    )


@dataclass(frozen=True)
class LikelihoodTerms:
    """Means over images, nats: their ELBO and their energy; what log h bounds but for log Z is ELBO − E."""

    elbo: float
    energy: float


@torch.no_grad()
def likelihood_terms(
    model: VAEBM, images: Tensor, generator: torch.Generator, *, with_pixel_noise: bool, batch_size: int = 500
) -> LikelihoodTerms:
    """Returns the terms of log h(x) ≥ ELBO(x) − E(x) − log Z, both at the same x.

    Arguments:
        model: The VAEBM.
        images: Images (N, C, H, W) in [−1, 1].
        generator: The source of posterior noise, one draw for each image, and of pixel noise.
        with_pixel_noise: Whether x is the image with one draw of the VAE's pixel noise, as the energy is trained on.
        batch_size: The number of images at once.

    Raises:
        ValueError: If the energy is one on the decoder's mean, with which the model is no density over images.
    """
    latent_size, parameter = model.noise_layout.latent_size, next(model.parameters())
    elbos, joints = [], []
    for batch in torch.split(images.to(parameter), batch_size):
        noise = torch.randn(len(batch), latent_size, generator=generator, device=generator.device).to(parameter)
        seen = batch
        if with_pixel_noise:
            scale = model.vae.elbo_terms(batch, torch.zeros_like(noise)).scale
            seen = batch + scale * torch.randn(batch.shape, generator=generator, device=generator.device).to(parameter)
        elbos.append(model.vae.elbo_terms(seen, noise).elbo)
        joints.append(model.unnormalized_log_joint(seen, elbos[-1]))
    elbo, joint = torch.cat(elbos), torch.cat(joints)
    return LikelihoodTerms(float(elbo.mean()), float((elbo - joint).mean()))


def reverse_estimate(
    model: VAEBM, noise: Tensor, ladder: Ladder, generator: torch.Generator, num_steps: int = 1
) -> Interval:
    """Returns the mean of the reverse chains' log-weights with its 95 % interval, in nats.

    It is an upper bound of log Z in expectation if ``noise`` are exact draws of h, and no bound otherwise.

    Arguments:
        model: The VAEBM, its parameters frozen.
        noise: Where the chains start, draws of h, shape (B, D).
        ladder: The ladder that the forward chains climbed.
        generator: The source of randomness.
        num_steps: The number of kernel steps at each temperature.
    """
    return summarize_weights(anneal_down(tilt_of(model), noise, ladder, generator, num_steps).log_weights).forward_bound


def log_likelihood(model: VAEBM, images: Tensor, vae_log_likelihood: Tensor, log_z: float) -> Tensor:
    """Returns log h(x) = log p(x) − E(x) − log Z, shape (B,), nats, float64.

    Arguments:
        model: The VAEBM.
        images: Images x, shape (B, C, H, W).
        vae_log_likelihood: Their log p(x), or a lower bound on it, which makes the result one, shape (B,).
        log_z: log Z. An estimate that is too low makes likelihoods too high.

    Raises:
        ValueError: If the energy is one on the decoder's mean, with which the model is no density over images.
    """
    return model.unnormalized_log_joint(images, vae_log_likelihood) - log_z


def _interval(value: float, error: float) -> Interval:
    return Interval(value, value - _QUANTILE * error, value + _QUANTILE * error)


def _draws(model: VAEBM, count: int, generator: torch.Generator, batch_size: int) -> list[Tensor]:
    parameter = next(model.parameters())
    noise = torch.randn(count, model.noise_layout.size, generator=generator, device=generator.device)
    return list(torch.split(noise.to(parameter), batch_size))


def _joined(parts: list[Annealed]) -> Annealed:
    weights, noise = (torch.cat([getattr(part, name) for part in parts]) for name in ("log_weights", "noise"))
    accepted = torch.stack([len(part.noise) * part.acceptance for part in parts]).sum(0) / len(noise)
    return Annealed(weights, noise, accepted)
