r"""Inverse-autoregressive flows on maps, as NVAE puts them behind its posterior.

One flow is z ↦ z − μ(z), where entry (c, i, j) of μ depends only on entries before it in the order of rows, columns and
channels, its own value excluded: the Jacobian is triangular with ones, so that the flow keeps volume. μ is a masked 3×3
convolution to six channels for each latent channel, ELU, a masked depthwise 5×5 convolution, ELU twice, and a masked
1×1 convolution. A *pair* follows it by one whose order in space is reversed.

References:
    Improving Variational Inference with Inverse Autoregressive Flow, https://arxiv.org/abs/1606.04934
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.nn.cells import log_normalized

__all__ = ["EXPANSION", "Flow", "FlowPair", "MaskedConv2d"]

EXPANSION = 6


class MaskedConv2d(nn.Module):
    """A convolution with log-scale weight normalisation that sees no entry behind its own in the order of a flow.

    Arguments:
        in_channels: The channels of the input, a multiple of ``num_latents``.
        out_channels: The channels of the output, a multiple of ``num_latents``.
        num_latents: The number of latent channels, in whose order the channels lie.
        kernel_size: The odd size of the kernel.
        sees_itself: Whether an entry sees the input's entries of its own place and latent channel.
        is_reversed: Whether the order in space is reversed; that of channels stays.
        is_depthwise: Whether every channel is convolved on its own.
        has_bias: Whether a bias is added.
    """

    mask: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_latents: int,
        kernel_size: int,
        *,
        sees_itself: bool,
        is_reversed: bool,
        is_depthwise: bool = False,
        has_bias: bool = False,
    ) -> None:
        super().__init__()
        self.num_groups = in_channels if is_depthwise else 1
        plain = nn.Conv2d(in_channels, out_channels, kernel_size, groups=self.num_groups, bias=has_bias)
        place = kernel_size // 2
        mask = torch.zeros_like(plain.weight)
        mask[:, :, :place] = 1
        mask[:, :, place, :place] = 1
        mask = mask.flip(2, 3) if is_reversed else mask
        outgoing = torch.arange(out_channels) // (out_channels // num_latents)
        incoming = outgoing[:, None] if is_depthwise else (torch.arange(in_channels) // (in_channels // num_latents))
        mask[:, :, place, place] = (
            (incoming <= outgoing[:, None]) if sees_itself else (incoming < outgoing[:, None])
        ).to(mask)
        self.register_buffer("mask", mask, persistent=False)
        plain.weight.data.mul_(mask)
        self.convolution = log_normalized(plain, mask)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W)."""
        weight, bias = self.convolution.weight, self.convolution.bias
        return functional.conv2d(hidden, weight, bias, padding=self.mask.shape[2] // 2, groups=self.num_groups)


class Flow(nn.Module):
    """One flow z ↦ z − μ(z).

    Arguments:
        num_latents: The number of channels of z.
        is_reversed: Whether the order in space is reversed.
    """

    def __init__(self, num_latents: int, is_reversed: bool) -> None:
        super().__init__()
        width = EXPANSION * num_latents
        self.first = MaskedConv2d(num_latents, width, num_latents, 3, sees_itself=False, is_reversed=is_reversed)
        self.depthwise = MaskedConv2d(
            width, width, num_latents, 5, sees_itself=True, is_reversed=is_reversed, is_depthwise=True
        )
        self.last = MaskedConv2d(
            width, num_latents, num_latents, 1, sees_itself=True, is_reversed=is_reversed, has_bias=True
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Maps latents (B, C, H, W) to latents of the same shape."""
        hidden = functional.elu(self.depthwise(functional.elu(self.first(latent))))
        shift: Tensor = self.last(functional.elu(hidden))
        return latent - shift


class FlowPair(nn.Module):
    """Two flows, the second in the reversed order of space.

    Example:
        >>> flow = FlowPair(2)
        >>> torch.autograd.functional.jacobian(flow, torch.rand(1, 2, 3, 3)).view(18, 18).det().round(decimals=4)
        tensor(1.)
    """

    def __init__(self, num_latents: int) -> None:
        super().__init__()
        self.forth, self.back = Flow(num_latents, is_reversed=False), Flow(num_latents, is_reversed=True)

    def forward(self, latent: Tensor) -> Tensor:
        """Maps latents (B, C, H, W) to latents of the same shape."""
        moved: Tensor = self.back(self.forth(latent))
        return moved
