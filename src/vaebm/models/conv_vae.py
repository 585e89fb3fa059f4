r"""A small VAE with a convolutional or fully connected body and one or several latent groups.

Prior: z_1 ~ N(0, I), z_l ~ N(μ_l(z_<l), σ_l(z_<l)) with learned networks. Posterior: residual to the prior,
μ_q = μ_p + Δμ(x, z_<l), σ_q = σ_p exp(Δ(x, z_<l)). Pixels: N(mean(z), scale), the mean squashed into [−1, 1].

References:
    Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114
    NVAE: A Deep Hierarchical Variational Autoencoder (residual posterior), https://arxiv.org/abs/2007.03898
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.distributions import NoiseLayout, Normal
from vaebm.models.vae import Decoded, ElboTerms
from vaebm.nn import at_least_float32

BODIES = ("dense", "convolutional")
SCALES = ("fixed", "shared", "pixel")
NORMALIZATIONS = ("none", "layer")


def _dense(sizes: Sequence[int], is_normalized: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for incoming, outgoing in pairwise(sizes):
        layers += [nn.Linear(incoming, outgoing), *([nn.LayerNorm(outgoing)] if is_normalized else []), nn.SiLU()]
    return nn.Sequential(*layers)


def _activated(convolution: nn.Conv2d, is_normalized: bool) -> list[nn.Module]:
    # One group: the mean and variance of a whole image, as those of a layer of hidden units.
    return [convolution, *([nn.GroupNorm(1, convolution.out_channels)] if is_normalized else []), nn.SiLU()]


class _Upsample(nn.Module):
    """Nearest up-sampling to a fixed size, so that odd sizes come back."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.interpolate(hidden, self.size, mode="nearest")


def _sizes(image_shape: Sequence[int], depth: int) -> list[tuple[int, int]]:
    sizes = [(image_shape[1], image_shape[2])]
    for _ in range(depth):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def _convolutional_encoder(
    image_shape: Sequence[int], widths: Sequence[int], num_features: int, is_normalized: bool
) -> nn.Sequential:
    layers: list[nn.Module] = []
    incoming = image_shape[0]
    for width in widths:
        layers += _activated(nn.Conv2d(incoming, width, 5, 2, 2), is_normalized)
        incoming = width
    height, width = _sizes(image_shape, len(widths))[-1]
    return nn.Sequential(*layers, nn.Flatten(), *_dense([incoming * height * width, num_features], is_normalized))


def _convolutional_decoder(
    image_shape: Sequence[int],
    widths: Sequence[int],
    num_latents: int,
    num_hidden: int,
    out_channels: int,
    is_normalized: bool,
) -> nn.Sequential:
    sizes = _sizes(image_shape, len(widths))
    channels = list(reversed(widths))
    height, width = sizes[-1]
    unflatten = nn.Unflatten(1, (channels[0], height, width))
    layers = [*_dense([num_latents, num_hidden, channels[0] * height * width], is_normalized), unflatten]
    for incoming, outgoing, size in zip(channels, [*channels[1:], channels[-1]], reversed(sizes[:-1]), strict=True):
        layers += [_Upsample(size), *_activated(nn.Conv2d(incoming, outgoing, 5, padding=2), is_normalized)]
    return nn.Sequential(*layers, nn.Conv2d(channels[-1], out_channels, 3, padding=1))


def _dense_decoder(
    image_shape: Sequence[int], widths: Sequence[int], num_latents: int, out_channels: int, is_normalized: bool
) -> nn.Sequential:
    shape = (out_channels, *image_shape[1:])
    out = nn.Linear(widths[0], math.prod(shape))
    return nn.Sequential(_dense([num_latents, *reversed(widths)], is_normalized), out, nn.Unflatten(1, shape))


class _Body(NamedTuple):
    encoder: nn.Sequential
    decoder: nn.Sequential
    num_features: int


def _make_body(
    body: str,
    image_shape: Sequence[int],
    widths: Sequence[int],
    num_latents: int,
    num_hidden: int,
    out_channels: int,
    is_normalized: bool,
) -> _Body:
    if body == "dense":
        encoder = nn.Sequential(nn.Flatten(), _dense([math.prod(image_shape), *widths], is_normalized))
        return _Body(encoder, _dense_decoder(image_shape, widths, num_latents, out_channels, is_normalized), widths[-1])
    encoder = _convolutional_encoder(image_shape, widths, num_hidden, is_normalized)
    decoder = _convolutional_decoder(image_shape, widths, num_latents, num_hidden, out_channels, is_normalized)
    return _Body(encoder, decoder, num_hidden)


def _posterior(num_features: int, num_above: int, num_hidden: int, size: int, is_normalized: bool) -> nn.Module:
    if num_above == 0:
        return nn.Linear(num_features, 2 * size)
    hidden = _dense([num_features + num_above, num_hidden], is_normalized)
    return nn.Sequential(hidden, nn.Linear(num_hidden, 2 * size))


def _prior(num_above: int, num_hidden: int, size: int, is_normalized: bool) -> nn.Module:
    hidden = _dense([num_above, num_hidden, num_hidden], is_normalized)
    return nn.Sequential(hidden, nn.Linear(num_hidden, 2 * size))


class ConvVAE(nn.Module):
    """A VAE for images from 8×8 to 128×128 with 1 or 3 channels; with a dense body also for points, (2, 1, 1).

    Arguments:
        image_shape: The shape (C, H, W) of one image.
        latent_groups: The number of latents of each group, top-down.
        body: ``dense`` (fully connected) or ``convolutional``.
        widths: The sizes of the body's layers: hidden units, or channels after each halving of the resolution.
        num_hidden: The width of the networks of conditional prior and posterior.
        scale_kind: ``fixed``: the pixel scale is ``scale``; ``shared``: one learned scale, at least ``scale``;
            ``pixel``: the decoder predicts a scale for each pixel, at least ``scale``.
        scale: The pixel scale, or its floor, in units of the range [−1, 1].
        normalization: ``layer`` normalises the hidden units of each image before the activation, ``none`` doesn't. No
            batch norm: an image's ELBO must not depend on its neighbours.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> vae = ConvVAE((1, 8, 8), latent_groups=(4, 2), widths=(32,))
        >>> vae.decode(torch.zeros(3, 6)).mean.shape
        torch.Size([3, 1, 8, 8])
        >>> vae.elbo_terms(torch.zeros(3, 1, 8, 8), torch.zeros(3, 6)).kl.shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_groups: Sequence[int] = (32,),
        body: str = "dense",
        widths: Sequence[int] = (1024, 512),
        num_hidden: int = 256,
        scale_kind: str = "fixed",
        scale: float = 0.1,
        normalization: str = "none",
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "image_shape": list(image_shape),
            "latent_groups": list(latent_groups),
            "body": body,
            "widths": list(widths),
            "num_hidden": num_hidden,
            "scale_kind": scale_kind,
            "scale": scale,
            "normalization": normalization,
        }
        _check(self.arguments)
        self.image_shape = tuple(image_shape)
        self.noise_layout = NoiseLayout(tuple((size,) for size in latent_groups))
        self.num_groups = (len(latent_groups),)
        self.scale_kind, self.scale = scale_kind, scale
        num_latents = sum(latent_groups)
        out_channels = image_shape[0] * (2 if scale_kind == "pixel" else 1)
        is_normalized = normalization == "layer"
        made = _make_body(body, image_shape, widths, num_latents, num_hidden, out_channels, is_normalized)
        self.encoder, self.decoder, num_features = made.encoder, made.decoder, made.num_features
        groups = [(sum(latent_groups[:index]), size) for index, size in enumerate(latent_groups)]
        self.posteriors = nn.ModuleList(
            _posterior(num_features, above, num_hidden, size, is_normalized) for above, size in groups
        )
        self.priors = nn.ModuleList(_prior(above, num_hidden, size, is_normalized) for above, size in groups[1:])
        self.log_scale = nn.Parameter(torch.tensor(math.log(0.3))) if scale_kind == "shared" else None

    @property
    def constant_scale(self) -> float | None:
        """The pixel scale, if it is the same for all pixels of all images and isn't learned."""
        return self.scale if self.scale_kind == "fixed" else None

    def _prior(self, latents: list[Tensor], like: Tensor) -> Normal:
        if not latents:
            return Normal(torch.zeros_like(like), torch.ones_like(like))
        mean, log_scale = at_least_float32(self.priors[len(latents) - 1](torch.cat(latents, 1))).chunk(2, 1)
        return Normal(mean, _soft_clamp(log_scale).exp())

    def _pixels(self, latents: list[Tensor]) -> Normal:
        parameters = at_least_float32(self.decoder(torch.cat(latents, 1)))
        if self.scale_kind == "pixel":
            mean, raw = parameters.chunk(2, 1)
            return Normal(mean.tanh(), self.scale + functional.softplus(raw - 1))
        mean = parameters.tanh()
        scale = mean.new_tensor(self.scale) if self.log_scale is None else self.scale + self.log_scale.exp()
        return Normal(mean, scale.expand_as(mean))

    def decode(self, latent_noise: Tensor) -> Decoded:
        """Transports latent noise (B, latent_size) to latents and on to the pixel likelihood."""
        latents: list[Tensor] = []
        prior_scales: list[Tensor] = []
        for noise in self.noise_layout.split(latent_noise):
            prior = self._prior(latents, noise)
            prior_scales.append(prior.scale)
            latents.append(prior.transport(noise))
        pixels = self._pixels(latents)
        return Decoded(pixels.mean, pixels.scale, latents, prior_scales)

    def elbo_terms(self, images: Tensor, posterior_noise: Tensor) -> ElboTerms:
        """Evaluates the ELBO of images (B, C, H, W) with given posterior noise (B, latent_size)."""
        features = self.encoder(images)
        latents: list[Tensor] = []
        divergences, prior_noise = [], []
        for network, noise in zip(self.posteriors, self.noise_layout.split(posterior_noise), strict=True):
            prior = self._prior(latents, noise)
            shift, log_ratio = at_least_float32(network(torch.cat([features, *latents], 1))).chunk(2, 1)
            posterior = Normal(prior.mean + shift, prior.scale * _soft_clamp(log_ratio).exp())
            latent = posterior.transport(noise)
            divergences.append(posterior.kl(prior))
            prior_noise.append((latent - prior.mean) / prior.scale)
            latents.append(latent)
        pixels = self._pixels(latents)
        log_likelihood = pixels.log_prob(at_least_float32(images))
        noise_at = self.noise_layout.join(prior_noise)
        return ElboTerms(log_likelihood, torch.stack(divergences, 1), pixels.mean, pixels.scale, noise_at)


def _soft_clamp(values: Tensor, limit: float = 5.0) -> Tensor:
    return limit * torch.tanh(values / limit)


def _check(arguments: Mapping[str, Any]) -> None:
    image_shape = arguments["image_shape"]
    is_point = list(image_shape) == [2, 1, 1] and arguments["body"] == "dense"
    is_image = len(image_shape) == 3 and image_shape[0] in (1, 3) and all(8 <= size <= 128 for size in image_shape[1:])
    if not is_image and not is_point:
        raise ValueError(f"image_shape is {tuple(image_shape)}: expected (1 or 3, 8 … 128, 8 … 128)")
    for name in ("latent_groups", "widths"):
        if not arguments[name] or any(size < 1 for size in arguments[name]):
            raise ValueError(f"{name} is {tuple(arguments[name])}: expected one or more positive numbers")
    for name, allowed in (("body", BODIES), ("scale_kind", SCALES), ("normalization", NORMALIZATIONS)):
        if arguments[name] not in allowed:
            raise ValueError(f"{name} is {arguments[name]!r}: expected one of {', '.join(allowed)}")
    if arguments["normalization"] == "layer" and 1 in (*arguments["widths"], arguments["num_hidden"]):
        raise ValueError(
            "normalization is 'layer' with a layer of width 1, which it makes constant: expected 2 or more"
        )
    for name in ("num_hidden", "scale"):
        if not arguments[name] > 0:
            raise ValueError(f"{name} is {arguments[name]}: expected a positive number")
