r"""A frozen NVAE and energy network in the form in which chains run them.

Everything that is constant along a chain is computed once: batch norms and weight normalisations are folded into the
convolutions, the factor 1/1.1 of the energy network's swish into the weights behind it; no parameter has a gradient.
Feature maps lie channels last. In float32 images, energies and gradients are those of the model but for rounding; in
bfloat16 they are those of a model whose weights are rounded.

References:
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.models.energy import EnergyNetwork
from vaebm.models.nvae import CLAMP, LEAST_SCALE, NVAE, gaussian, pixel_likelihood
from vaebm.models.vae import Decoded, ElboTerms
from vaebm.models.vaebm import VAEBM
from vaebm.nn import ResidualBlock, at_least_float32
from vaebm.nn.folding import Convolution, FoldedCell, Transport, plain_convolution

SWISH_SLOPE = 1.1


def folded(model: VAEBM, dtype: torch.dtype = torch.float32) -> VAEBM:
    """Returns a frozen copy of a model of NVAE and residual energy network that does the same with less work.

    Arguments:
        model: The model; its parameters are copied, later changes of them aren't seen.
        dtype: The type that networks compute in: float32, float64 or bfloat16. Noise, means, scales and energies stay
            float32 or better.

    Raises:
        TypeError: If the VAE isn't an ``NVAE``, or the energy network no ``EnergyNetwork`` of residual blocks.
    """
    if not isinstance(model.vae, NVAE) or not isinstance(model.energy, EnergyNetwork):
        kinds = f"{type(model.vae).__name__} and {type(model.energy).__name__}"
        raise TypeError(f"a model of {kinds} can't be folded: expected NVAE and EnergyNetwork")
    return VAEBM(FoldedNVAE(model.vae, dtype), FoldedEnergy(model.energy, dtype), model.image_fields, model.sampling)


def can_fold(model: VAEBM) -> bool:
    """Whether ``folded`` takes a model."""
    return (
        isinstance(model.vae, NVAE)
        and isinstance(model.energy, EnergyNetwork)
        and model.energy.arguments["blocks"] == "residual"
    )


def for_chains(model: VAEBM) -> VAEBM:
    """Returns the form of a frozen model that chains should follow: folded where there is one, else the model itself.

    Under autocast a folded model computes in autocast's type, else in the model's own.
    """
    if not can_fold(model):
        return model
    parameter = next(model.parameters())
    device = parameter.device.type
    is_cast = torch.is_autocast_enabled(device)
    return folded(model, torch.get_autocast_dtype(device) if is_cast else parameter.dtype)


class FoldedNVAE(nn.Module):
    """The decoder of an ``NVAE`` as a constant.

    Arguments:
        vae: The NVAE.
        dtype: The type that it computes in.
    """

    start: Tensor

    def __init__(self, vae: NVAE, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.image_shape, self.noise_layout, self.num_groups = vae.image_shape, vae.noise_layout, vae.num_groups
        self.least_scale = vae.least_scale
        self.register_buffer("start", vae.start.detach().clone())
        self.groups = nn.ModuleList(_FoldedGroup(group) for group in vae.groups)
        self.rises = nn.ModuleList(FoldedCell(cell) for cell in vae.rises)  # type: ignore[arg-type]
        self.outward = nn.Sequential(*(FoldedCell(cell) for cell in vae.outward))  # type: ignore[arg-type]
        self.pixels = plain_convolution(vae.pixels)
        _lay_out(self, dtype)

    def _steps(self) -> Iterator[tuple[nn.Module | None, Any]]:
        groups = iter(self.groups)
        for scale, count in enumerate(self.num_groups):
            for place in range(count):
                yield self.rises[scale - 1] if scale and not place else None, next(groups)

    def decode(self, latent_noise: Tensor) -> Decoded:
        """Transports latent noise (B, latent_size) to latents and on to the pixel likelihood."""
        hidden = self.start.expand(len(latent_noise), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        latents: list[Tensor] = []
        prior_scales: list[Tensor] = []
        for (rise, group), noise in zip(self._steps(), self.noise_layout.split(latent_noise), strict=True):
            hidden = group.cells(hidden if rise is None else rise(hidden))
            latent, scale = group.draw(hidden, noise)
            latents.append(latent)
            prior_scales.append(scale)
            hidden = group.merge(hidden, latent)
        maps = self.pixels(functional.elu(self.outward(hidden)))
        pixels = pixel_likelihood(maps, self.image_shape, self.least_scale)
        return Decoded(pixels.mean, pixels.scale, latents, prior_scales)

    def elbo_terms(self, images: Tensor, posterior_noise: Tensor) -> ElboTerms:
        """Isn't there: a folded NVAE has no encoder.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a folded NVAE has no encoder: take the ELBO of the model that it was made of")


def _lay_out(module: nn.Module, dtype: torch.dtype) -> None:
    module.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.requires_grad_(False).eval()


class _FoldedGroup(nn.Module):
    def __init__(self, group: Any) -> None:
        super().__init__()
        self.cells = nn.Sequential(*(FoldedCell(cell) for cell in group.cells))
        self.prior_map = None if group.prior_map is None else plain_convolution(group.prior_map)
        width, merger = group.merger.out_channels, group.merger
        # Two convolutions and a sum: no copy of both maps side by side.
        self.merge_hidden = Convolution(merger.weight[:, :width], merger.bias)
        self.merge_latent = Convolution(merger.weight[:, width:])

    def draw(self, hidden: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Returns latents and the prior's scales."""
        if self.prior_map is None:
            prior = gaussian(torch.zeros_like(noise), torch.zeros_like(noise))
            return prior.transport(noise), prior.scale
        drawn: tuple[Tensor, Tensor] = Transport.apply(  # type: ignore[no-untyped-call]
            self.prior_map(functional.elu(hidden)), noise, CLAMP, LEAST_SCALE
        )
        return drawn

    def merge(self, hidden: Tensor, latent: Tensor) -> Tensor:
        latent = latent.to(hidden.dtype, memory_format=torch.channels_last)
        merged: Tensor = self.merge_hidden(hidden) + self.merge_latent(latent)
        return merged


class FoldedEnergy(nn.Module):
    """A residual ``EnergyNetwork`` as a constant.

    Arguments:
        energy: The energy network.
        dtype: The type that it computes in.

    Raises:
        TypeError: If its blocks aren't residual.
    """

    def __init__(self, energy: EnergyNetwork, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if energy.arguments["blocks"] != "residual":
            raise TypeError("an energy network of plain convolutions can't be folded: expected residual blocks")
        self.input_pooling, self.pool = energy.input_pooling, energy.pool
        self.stem = plain_convolution(energy.body[0])
        blocks = [block for block in energy.body if isinstance(block, ResidualBlock)]
        self.blocks = nn.ModuleList(_FoldedBlock(block) for block in blocks)
        self.head, self.log_gain = copy.deepcopy(energy.head), copy.deepcopy(energy.log_gain)
        for part in (self.stem, self.blocks):
            _lay_out(part, dtype)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Returns energies (B,), float32 or better, of images (B, C, H, W); entries outside [−1, 1] are clamped."""
        images = (images.clamp(-1, 1) + 1) / 2
        if self.input_pooling > 1:
            images = functional.avg_pool2d(images, self.input_pooling, ceil_mode=True)
        hidden = functional.silu(self.stem(images.to(self.stem.weight.dtype, memory_format=torch.channels_last)))
        for block in self.blocks:
            hidden = block(hidden)
        pooled = at_least_float32(self.pool(at_least_float32(hidden))) / SWISH_SLOPE
        output: Tensor = at_least_float32(self.head(pooled).squeeze(1))
        return output if self.log_gain is None else output * self.log_gain.exp()


class _FoldedBlock(nn.Module):
    """A residual block whose input and output are silu, 1.1 times what they were."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        factor = 1 / SWISH_SLOPE
        self.first, self.second = plain_convolution(block.first, factor), plain_convolution(block.second, factor)
        self.skip = None if block.skip is None else plain_convolution(block.skip, factor)
        self.down = block.down

    def forward(self, hidden: Tensor) -> Tensor:
        branch = self.second(functional.silu(self.first(hidden)))
        total = branch + (hidden / SWISH_SLOPE if self.skip is None else self.skip(hidden))
        if self.down:
            total = functional.avg_pool2d(total, 2, ceil_mode=True)
        return functional.silu(total)
