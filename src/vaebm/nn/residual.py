"""The residual block of the paper's energy networks.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from vaebm.nn.convolution import normalized, swish_1lipschitz


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a skip, with average pooling where the block halves the resolution.

    Arguments:
        in_channels: The channels of the input.
        out_channels: The channels of the output.
        down: Whether the resolution is halved (rounded up).
        normalization: The reparameterisation of all weights, see ``vaebm.nn.normalized``.

    Example:
        >>> import torch
        >>> ResidualBlock(4, 8, down=True)(torch.zeros(2, 4, 7, 7)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(self, in_channels: int, out_channels: int, down: bool = False, normalization: str = "weight") -> None:
        super().__init__()
        self.first = normalized(nn.Conv2d(in_channels, out_channels, 3, padding=1), normalization)
        self.second = normalized(nn.Conv2d(out_channels, out_channels, 3, padding=1), normalization)
        skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.skip = normalized(skip, normalization) if down or in_channels != out_channels else None
        self.down = down

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W), or to half the resolution."""
        skip = hidden if self.skip is None else self.skip(hidden)
        hidden = skip + self.second(swish_1lipschitz(self.first(hidden)))
        if self.down:
            hidden = functional.avg_pool2d(hidden, 2, ceil_mode=True)
        return swish_1lipschitz(hidden)
