r"""NVAE: a hierarchical VAE with a bidirectional encoder and Gaussian pixels.

Latent groups z_1 … z_L are maps of noise, top-down; the first scales are the coarsest. With h_l the decoder's feature
after the groups before l, and e_l the encoder's feature at the same place,

    p(z_l | z_<l) = N(μ_l(h_l), σ_l(h_l)),        p(z_1) = N(0, 1.01)
    q(z_l | x, z_<l) = N(μ_l + Δμ_l(e_l, h_l), exp(log σ'_l + Δ_l(e_l, h_l)) + 0.01),     σ_l = exp(log σ'_l) + 0.01,

where every mean and log-scale is softly clamped, 5 tanh(·/5), after the sum. Inverse-autoregressive flows, if there are
any, act on the posterior's sample; they keep volume, and the divergence of their group is log q − log p of that sample.
Pixels are N(5 tanh(m/5), exp(5 tanh(s/5)) + 0.01) on [−1, 1].

References:
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.distributions import NoiseLayout, Normal
from vaebm.models.vae import Decoded, ElboTerms
from vaebm.nn import Recomputed, at_least_float32
from vaebm.nn.autoregressive import FlowPair
from vaebm.nn.cells import DecoderCell, EncoderCell, log_normalized

LEAST_SCALE, CLAMP = 0.01, 5.0
SCALE_KINDS = ("pixel", "fixed")
INNER_EXPANSION, OUTER_EXPANSION = 6, 3
MOST_GROUPS = 1000


def groups_per_scale(num_scales: int, num_groups: int, is_adaptive: bool = False, fewest: int = 1) -> tuple[int, ...]:
    """Returns the number of latent groups of each scale, the coarsest first.

    Arguments:
        num_scales: The number of scales.
        num_groups: The number of groups of the finest scale.
        is_adaptive: Whether each coarser scale has half as many (``ada_groups``); else all have the same.
        fewest: The smallest number of groups of a scale.

    Example:
        >>> groups_per_scale(3, 20, is_adaptive=True, fewest=4), groups_per_scale(3, 5)
        ((5, 10, 20), (5, 5, 5))
    """
    counts = [num_groups]
    for _ in range(num_scales - 1):
        counts.append(max(fewest, counts[-1] // 2) if is_adaptive else num_groups)
    return tuple(reversed(counts))


class NVAE(nn.Module):
    """The NVAE with Gaussian pixels that the paper builds on.

    Arguments:
        image_shape: The shape (C, H, W) of one image.
        groups: The number of latent groups of each scale, the coarsest first.
        latents: The number of latent channels of a group.
        encoder_width: The channels of the encoder at full resolution; twice as many after each halving.
        decoder_width: The same of the decoder.
        encoder_cells: The number of residual cells for each group in the encoder.
        decoder_cells: The same in the decoder.
        outer_blocks: How often the resolution is halved before the finest scale.
        outer_cells: The number of residual cells of each of these blocks.
        num_flows: The number of pairs of inverse-autoregressive flows of each group's posterior.
        is_residual: Whether the posterior's parameters add to those of the prior; else they stand alone.
        has_excitation: Whether the channels of each cell are gated (squeeze-excitation).
        scale_kind: pixel (predicted for each pixel), or fixed at ``least_scale``: of images with constant regions, a
            predicted scale learns where these are, and little else.
        least_scale: The least pixel scale, in units of the range [−1, 1].
        outward_cells: The number of residual cells of each outer block of the decoder, 0 for ``outer_cells``.

    Raises:
        ValueError: If an argument is out of range, or the image can't be halved so often.

    Example:
        >>> vae = NVAE((3, 16, 16), groups=(1, 2), latents=2, encoder_width=4, decoder_width=4)
        >>> vae.noise_layout.latent_shapes
        ((2, 4, 4), (2, 8, 8), (2, 8, 8))
        >>> vae.decode(torch.zeros(1, vae.noise_layout.latent_size)).mean.shape
        torch.Size([1, 3, 16, 16])
    """

    # Over forty lines: each argument stands twice, here and in what the model folder keeps, and each part is named.
    def __init__(  # noqa: PLR0913, PLR0917  # the settings of a published architecture, each by its name
        self,
        image_shape: Sequence[int],
        groups: Sequence[int] = (2, 2),
        latents: int = 20,
        encoder_width: int = 32,
        decoder_width: int = 32,
        encoder_cells: int = 2,
        decoder_cells: int = 2,
        outer_blocks: int = 1,
        outer_cells: int = 2,
        num_flows: int = 0,
        is_residual: bool = True,
        has_excitation: bool = True,
        scale_kind: str = "pixel",
        least_scale: float = LEAST_SCALE,
        outward_cells: int = 0,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "image_shape": list(image_shape),
            "groups": list(groups),
            "latents": latents,
            "encoder_width": encoder_width,
            "decoder_width": decoder_width,
            "encoder_cells": encoder_cells,
            "decoder_cells": decoder_cells,
            "outer_blocks": outer_blocks,
            "outer_cells": outer_cells,
            "num_flows": num_flows,
            "is_residual": is_residual,
            "has_excitation": has_excitation,
            "scale_kind": scale_kind,
            "least_scale": least_scale,
            "outward_cells": outward_cells,
        }
        _check(self.arguments)
        self.image_shape = tuple(image_shape)
        layout = scales_of(image_shape, groups, outer_blocks)
        self.noise_layout = NoiseLayout(
            tuple((latents, *scale.size) for scale in layout for _ in range(scale.num_groups))
        )
        self.is_residual, self.least_scale = is_residual, least_scale
        encoder = partial(EncoderCell, has_excitation=has_excitation)
        decoder = partial(DecoderCell, has_excitation=has_excitation)
        inner = partial(decoder, expansion=INNER_EXPANSION)
        self.stem = log_normalized(nn.Conv2d(image_shape[0], encoder_width, 3, padding=1))
        self.inward = Recomputed(*_inward(encoder, encoder_width, outer_blocks, outer_cells))
        self.encoder = nn.ModuleList(_encoder(encoder, layout, encoder_width, encoder_cells))
        peak = encoder_width * layout[0].factor
        self.peak = log_normalized(nn.Conv2d(peak, peak, 1))
        self.start = nn.Parameter(torch.rand(decoder_width * layout[0].factor, *layout[0].size))
        self.groups = nn.ModuleList()
        for scale in layout:
            outer, width = encoder_width * scale.factor, decoder_width * scale.factor
            for _ in range(scale.num_groups):
                cells = [inner(width, width) for _ in range(decoder_cells if len(self.groups) else 0)]
                self.groups.append(_Group(cells, outer, width, latents, num_flows))
        self.rises = nn.ModuleList(
            inner(decoder_width * above.factor, decoder_width * below.factor, up=True)
            for above, below in pairwise(layout)
        )
        self.num_groups = tuple(scale.num_groups for scale in layout)
        self.outward = Recomputed(*_outward(decoder, decoder_width, outer_blocks, outward_cells or outer_cells))
        num_maps = image_shape[0] * (2 if scale_kind == "pixel" else 1)
        self.pixels = log_normalized(nn.Conv2d(decoder_width, num_maps, 3, padding=1))

    @property
    def constant_scale(self) -> float | None:
        """The pixel scale, if it is the same for all pixels of all images."""
        return self.least_scale if self.arguments["scale_kind"] == "fixed" else None

    def _steps(self) -> Iterator[tuple[nn.Module | None, _Group]]:
        """Yields each group, with the cell that doubles the resolution before it, if there is one."""
        groups: Iterator[Any] = iter(self.groups)
        for scale, count in enumerate(self.num_groups):
            for place in range(count):
                yield self.rises[scale - 1] if scale and not place else None, next(groups)

    def _start(self, like: Tensor) -> Tensor:
        # Of a shape, not of len(), so that a traced graph takes any number of images.
        return self.start.expand(like.shape[0], -1, -1, -1)

    def _likelihood(self, hidden: Tensor) -> Normal:
        return pixel_likelihood(self.pixels(functional.elu(self.outward(hidden))), self.image_shape, self.least_scale)

    def decode(self, latent_noise: Tensor) -> Decoded:
        """Transports latent noise (B, latent_size) to latents and on to the pixel likelihood."""
        hidden = self._start(latent_noise)
        latents: list[Tensor] = []
        prior_scales: list[Tensor] = []
        for (rise, group), noise in zip(self._steps(), self.noise_layout.split(latent_noise), strict=True):
            hidden = group.cells(hidden if rise is None else rise(hidden))
            prior = group.prior(hidden, noise)
            prior_scales.append(prior.distribution.scale)
            latents.append(prior.distribution.transport(noise))
            hidden = group.merge(hidden, latents[-1])
        pixels = self._likelihood(hidden)
        return Decoded(pixels.mean, pixels.scale, latents, prior_scales)

    def elbo_terms(self, images: Tensor, posterior_noise: Tensor) -> ElboTerms:
        """Evaluates the ELBO of images (B, C, H, W) with given posterior noise (B, latent_size)."""
        features = self._features(images)
        hidden = self._start(images)
        divergences, prior_noise = [], []
        parts = self.noise_layout.split(posterior_noise)
        for (rise, group), feature, noise in zip(self._steps(), features, parts, strict=True):
            hidden = group.cells(hidden if rise is None else rise(hidden))
            prior = group.prior(hidden, noise)
            found = group.posterior(feature, hidden, prior, noise, self.is_residual)
            divergences.append(found.divergence)
            prior_noise.append((found.latent - prior.distribution.mean) / prior.distribution.scale)
            hidden = group.merge(hidden, found.latent)
        pixels = self._likelihood(hidden)
        log_likelihood = pixels.log_prob(at_least_float32(images))
        noise_at = self.noise_layout.join(prior_noise)
        return ElboTerms(log_likelihood, torch.stack(divergences, 1), pixels.mean, pixels.scale, noise_at)

    def _features(self, images: Tensor) -> list[Tensor]:
        """Returns the encoder's feature for each group, top-down; that of the first is ready for its sampler."""
        hidden = self.inward(self.stem(images))
        features = []
        for block in self.encoder:
            hidden = block(hidden)
            if not isinstance(block, EncoderCell):
                features.append(hidden)
        features[-1] = functional.elu(self.peak(functional.elu(features[-1])))
        return features[::-1]


class Scale(NamedTuple):
    """One scale of the hierarchy: its maps' size (H, W), its number of groups, its channels over the width."""

    size: tuple[int, int]
    num_groups: int
    factor: int


def scales_of(image_shape: Sequence[int], groups: Sequence[int], outer_blocks: int) -> list[Scale]:
    """Returns the scales of a hierarchy, the coarsest first."""
    found = []
    for index, count in enumerate(groups):
        factor = 2 ** (outer_blocks + len(groups) - 1 - index)
        found.append(Scale((image_shape[1] // factor, image_shape[2] // factor), count, factor))
    return found


class _Prior(NamedTuple):
    distribution: Normal
    mean: Tensor
    log_scale: Tensor


class _Posterior(NamedTuple):
    latent: Tensor
    divergence: Tensor


class _Group(nn.Module):
    """What belongs to one latent group: cells before it, prior, posterior, and what takes its latents in.

    The first group has no cells, and its prior is fixed.
    """

    def __init__(
        self, cells: Sequence[nn.Module], encoder_width: int, decoder_width: int, latents: int, num_flows: int
    ) -> None:
        super().__init__()
        self.cells = Recomputed(*cells)
        self.prior_map = log_normalized(nn.Conv2d(decoder_width, 2 * latents, 1)) if cells else None
        self.combiner = log_normalized(nn.Conv2d(decoder_width, encoder_width, 1)) if cells else None
        self.posterior_map = log_normalized(nn.Conv2d(encoder_width, 2 * latents, 3, padding=1))
        self.flows = nn.ModuleList(FlowPair(latents) for _ in range(num_flows))
        self.merger = log_normalized(nn.Conv2d(decoder_width + latents, decoder_width, 1))

    def prior(self, hidden: Tensor, like: Tensor) -> _Prior:
        """Returns the prior at a decoder feature."""
        if self.prior_map is None:
            mean, log_scale = torch.zeros_like(like), torch.zeros_like(like)
        else:
            mean, log_scale = at_least_float32(self.prior_map(functional.elu(hidden))).chunk(2, 1)
        return _Prior(gaussian(mean, log_scale), mean, log_scale)

    def posterior(self, feature: Tensor, hidden: Tensor, prior: _Prior, noise: Tensor, is_residual: bool) -> _Posterior:
        """Returns a sample of the posterior and its divergence from the prior."""
        if self.combiner is not None:
            feature = feature + self.combiner(hidden)
        shift, log_ratio = at_least_float32(self.posterior_map(feature)).chunk(2, 1)
        if is_residual:
            shift, log_ratio = prior.mean + shift, prior.log_scale + log_ratio
        found = gaussian(shift, log_ratio)
        latent = found.transport(noise)
        if not self.flows:
            return _Posterior(latent, found.kl(prior.distribution))
        log_posterior = found.log_prob(latent)
        for flow in self.flows:
            latent = flow(latent)
        return _Posterior(latent, log_posterior - prior.distribution.log_prob(latent))

    def merge(self, hidden: Tensor, latent: Tensor) -> Tensor:
        """Takes latents into the decoder's feature."""
        merged: Tensor = self.merger(torch.cat([hidden, latent.to(hidden.dtype)], 1))
        return merged


def soft_clamp(values: Tensor, limit: float = CLAMP) -> Tensor:
    """Returns values, of any shape, squashed into (−limit, limit), with slope one at zero."""
    return limit * torch.tanh(values / limit)


def gaussian(mean: Tensor, log_scale: Tensor, least_scale: float = LEAST_SCALE) -> Normal:
    """Returns NVAE's Gaussian of raw parameters: both softly clamped, the scale above a least one."""
    return Normal(soft_clamp(mean), soft_clamp(log_scale).exp() + least_scale)


def pixel_likelihood(maps: Tensor, image_shape: Sequence[int], least_scale: float) -> Normal:
    """Returns the pixels' Gaussian of means, and log-scales if there are any: maps (B, C or 2 C, H, W)."""
    maps = at_least_float32(maps)
    if maps.shape[1] > image_shape[0]:
        mean, log_scale = maps.chunk(2, 1)
        return gaussian(mean, log_scale, least_scale)
    return Normal(soft_clamp(maps), torch.full_like(maps, least_scale))


def _inward(cell: Callable[..., nn.Module], width: int, num_blocks: int, num_cells: int) -> list[nn.Module]:
    cells: list[nn.Module] = []
    for block in range(num_blocks):
        channels = width * 2**block
        cells += [cell(channels, channels) for _ in range(num_cells - 1)]
        cells.append(cell(channels, 2 * channels, down=True))
    return cells


def _outward(cell: Callable[..., nn.Module], width: int, num_blocks: int, num_cells: int) -> list[nn.Module]:
    cells: list[nn.Module] = []
    for block in reversed(range(num_blocks)):
        channels = width * 2**block
        cells.append(cell(2 * channels, channels, up=True, expansion=OUTER_EXPANSION))
        cells += [cell(channels, channels, expansion=OUTER_EXPANSION) for _ in range(num_cells - 1)]
    return cells


def _encoder(cell: Callable[..., nn.Module], layout: Sequence[Scale], width: int, num_cells: int) -> list[nn.Module]:
    """Returns the encoder bottom-up: a sequence of cells for each group, and a down cell between scales."""
    blocks: list[nn.Module] = []
    for scale in reversed(layout):
        channels = width * scale.factor
        if blocks:
            blocks.append(cell(channels // 2, channels, down=True))
        blocks += [Recomputed(*(cell(channels, channels) for _ in range(num_cells))) for _ in range(scale.num_groups)]
    return blocks


def _check(arguments: Mapping[str, Any]) -> None:
    image_shape, groups = arguments["image_shape"], arguments["groups"]
    if any(not isinstance(count, int) for count in groups) or sum(groups) > MOST_GROUPS:
        raise ValueError(f"groups is {tuple(groups)}: expected whole numbers, {MOST_GROUPS} in all at most")
    if len(image_shape) != 3 or any(size < 1 for size in image_shape):
        raise ValueError(f"image_shape is {tuple(image_shape)}: expected three positive numbers (C, H, W)")
    if not groups or any(count < 1 for count in groups):
        raise ValueError(f"groups is {tuple(groups)}: expected one or more positive numbers")
    for name, least in (("latents", 1), ("encoder_cells", 1), ("decoder_cells", 1), ("outer_cells", 1),
                        ("outer_blocks", 0), ("num_flows", 0), ("outward_cells", 0)):  # fmt: skip
        if arguments[name] < least:
            raise ValueError(f"{name} is {arguments[name]}: expected {least} or more")
    if arguments["scale_kind"] not in SCALE_KINDS:
        raise ValueError(f"scale_kind is {arguments['scale_kind']!r}: expected {' or '.join(SCALE_KINDS)}")
    if not 0 < arguments["least_scale"] < 1:
        raise ValueError(f"least_scale is {arguments['least_scale']}: expected a number above 0 and below 1")
    for name in ("encoder_width", "decoder_width"):
        if arguments[name] < 4:
            raise ValueError(f"{name} is {arguments[name]}: expected 4 or more")
    factor = 2 ** (arguments["outer_blocks"] + len(groups) - 1)
    if any(size % factor for size in image_shape[1:]):
        raise ValueError(
            f"images of {image_shape[1]}x{image_shape[2]} can't be halved {factor.bit_length() - 1} times, for "
            f"{arguments['outer_blocks']} outer blocks and {len(groups)} scales: expected sides divisible by {factor}"
        )
