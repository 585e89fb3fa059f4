r"""The residual cells of NVAE, and its log-scale weight normalisation.

A cell maps s to skip(s) + 0.1 · SE(branch(s)). The branch of the *encoder* is twice (batch norm, swish, 3×3
convolution); that of the *decoder* an inverted bottleneck: batch norm, 1×1 convolution to a multiple of the channels,
batch norm, swish, depthwise 5×5, batch norm, swish, 1×1 convolution, batch norm. Squeeze-excitation scales each channel
by a gate of all channels' means. Down cells halve the resolution, up cells double it.

Weight normalisation here is W = exp(s) · v / (|v| + 1e-5) for each output channel, with s learned.

References:
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
    Squeeze-and-Excitation Networks, https://arxiv.org/abs/1709.01507
    MobileNetV2: Inverted Residuals and Linear Bottlenecks, https://arxiv.org/abs/1801.04381
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from vaebm.nn.batch_norm import SharedBatchNorm2d
from vaebm.nn.depthwise import DepthwiseConv2d

__all__ = ["BRANCH_SCALE", "DecoderCell", "EncoderCell", "LogScaleNorm", "SqueezeExcitation", "log_normalized"]

BRANCH_SCALE = 0.1
BATCH_NORM_EPS, BATCH_NORM_MOMENTUM = 1e-5, 0.05
SQUEEZE, LEAST_SQUEEZED = 16, 4


class LogScaleNorm(nn.Module):
    """The reparameterisation W = exp(s) · v / (|v| + 1e-5) of a weight, one s for each output channel.

    Arguments:
        weight: The weight at the start, (out_channels, …); s starts at log(|v| + 1e-2), which keeps it nearly as it is.
        mask: Which entries of v count, of the shape of the weight; the others are as good as 0.
    """

    mask: Tensor | None

    def __init__(self, weight: Tensor, mask: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        with torch.no_grad():
            self.log_norm = nn.Parameter((self._norm(weight if mask is None else weight * mask) + 1e-2).log())

    @staticmethod
    def _norm(weight: Tensor) -> Tensor:
        norm: Tensor = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1))
        return norm

    def forward(self, direction: Tensor) -> Tensor:
        """Returns the weight of a direction v, both (out_channels, …)."""
        direction = direction if self.mask is None else direction * self.mask
        return self.log_norm.exp() * direction / (self._norm(direction) + 1e-5)


def log_normalized(convolution: nn.Conv2d, mask: Tensor | None = None) -> nn.Conv2d:
    """Reparameterises a convolution by ``LogScaleNorm``, in place, and returns it."""
    parametrize.register_parametrization(convolution, "weight", LogScaleNorm(convolution.weight.detach(), mask))
    return convolution


def batch_norm(channels: int) -> SharedBatchNorm2d:
    """Returns a batch norm with NVAE's constants."""
    return SharedBatchNorm2d(channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate, a small network of the means of all channels.

    Example:
        >>> SqueezeExcitation(8)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // SQUEEZE, LEAST_SQUEEZED)
        self.squeeze, self.excite = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(hidden.mean((2, 3))))))
        return hidden * gate[:, :, None, None]


class _DownSkip(nn.Module):
    """Halves the resolution by four 1×1 convolutions, one for each place in a square of 2×2 pixels."""

    PLACES = ((0, 0), (1, 1), (0, 1), (1, 0))

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        quarter = out_channels // 4
        sizes = (quarter, quarter, quarter, out_channels - 3 * quarter)
        self.parts = nn.ModuleList(log_normalized(nn.Conv2d(in_channels, size, 1)) for size in sizes)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = functional.silu(hidden)
        # Pixels are picked first: of a 1×1 convolution with a stride, oneDNN's gradient by the weights writes past its
        # memory where maps of few channels lie channels last (https://github.com/uxlfoundation/oneDNN/issues/6035).
        picked = [hidden[:, :, top::2, left::2] for top, left in self.PLACES]
        pieces = [part(pixels) for part, pixels in zip(self.parts, picked, strict=True)]
        return torch.cat(pieces, 1)


class _UpSkip(nn.Module):
    """Doubles the resolution bilinearly, the corners staying in place, and maps the channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = log_normalized(nn.Conv2d(in_channels, out_channels, 1, bias=False))

    def forward(self, hidden: Tensor) -> Tensor:
        resized = functional.interpolate(hidden, scale_factor=2, mode="bilinear", align_corners=True)
        mapped: Tensor = self.convolution(resized)
        return mapped


class EncoderCell(nn.Module):
    """The residual cell of NVAE's encoder; a down cell halves the resolution, and its channels may change.

    Arguments:
        in_channels: The channels of the input.
        out_channels: The channels of the output: those of the input unless ``down``.
        down: Whether the resolution, which must be even, is halved.
        has_excitation: Whether channels are gated.

    Example:
        >>> EncoderCell(8, 16, down=True)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 16, 2, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, down: bool = False, has_excitation: bool = True) -> None:
        super().__init__()
        stride = 2 if down else 1
        first = log_normalized(nn.Conv2d(in_channels, out_channels, 3, stride, padding=1))
        second = log_normalized(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.branch = nn.Sequential(
            batch_norm(in_channels), nn.SiLU(), first, batch_norm(out_channels), nn.SiLU(), second
        )
        self.excitation: nn.Module = SqueezeExcitation(out_channels) if has_excitation else nn.Identity()
        self.skip: nn.Module = _DownSkip(in_channels, out_channels) if down else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W), or to half the resolution."""
        total: Tensor = self.skip(hidden) + BRANCH_SCALE * self.excitation(self.branch(hidden))
        return total


class DecoderCell(nn.Module):
    """The residual cell of NVAE's decoder; an up cell doubles the resolution, and its channels may change.

    Arguments:
        in_channels: The channels of the input.
        out_channels: The channels of the output: those of the input unless ``up``.
        up: Whether the resolution is doubled.
        expansion: The channels inside, as a multiple of those that come in.
        has_excitation: Whether channels are gated.

    Example:
        >>> DecoderCell(8, 4, up=True)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        up: bool = False,
        expansion: int = 6,
        has_excitation: bool = True,
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.branch = nn.Sequential(
            *([nn.UpsamplingNearest2d(scale_factor=2)] if up else []),
            batch_norm(in_channels),
            nn.Conv2d(in_channels, width, 1, bias=False),
            batch_norm(width),
            nn.SiLU(),
            DepthwiseConv2d(width, 5),
            batch_norm(width),
            nn.SiLU(),
            nn.Conv2d(width, out_channels, 1, bias=False),
            batch_norm(out_channels),
        )
        self.excitation: nn.Module = SqueezeExcitation(out_channels) if has_excitation else nn.Identity()
        self.skip: nn.Module = _UpSkip(in_channels, out_channels) if up else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W), or to twice the resolution."""
        total: Tensor = self.skip(hidden) + BRANCH_SCALE * self.excitation(self.branch(hidden))
        return total
