r"""Depthwise convolutions whose weights learn in bfloat16 at the speed of float32.

On CPUs torch's gradient by a depthwise weight takes longer in bfloat16 than in float32, and is then most of a training
step (``benchmarks/training.py stage1`` measures it). With y = w ∗ x, the gradient by x is the mirrored w ∗ dy, a
forward pass; only the gradient by w is taken in float32, so no less accurate than without this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["DepthwiseConv2d"]


class _LowPrecision(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor) -> Tensor:
        low = weight.to(values.dtype)
        ctx.save_for_backward(values, low)
        return functional.conv2d(values, low, padding=low.shape[-1] // 2, groups=len(low))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        values, low = ctx.saved_tensors
        count, margin = len(low), low.shape[-1] // 2
        by_values = by_weight = None
        if ctx.needs_input_grad[0]:
            by_values = functional.conv2d(grad, low.flip(2, 3), padding=margin, groups=count)
        if ctx.needs_input_grad[1]:
            by_weight = torch.ops.aten.convolution_backward(
                grad.float(), values.float(), low.float(), None,
                [1, 1], [margin, margin], [1, 1], False, [0, 0], count, [False, True, False],
            )[1]  # fmt: skip
        return by_values, by_weight


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel by itself, without bias; the resolution stays.

    Arguments:
        channels: The number of channels.
        kernel_size: The odd size of the kernel.

    Example:
        >>> DepthwiseConv2d(6, 5)(torch.zeros(2, 6, 8, 8)).shape
        torch.Size([2, 6, 8, 8])
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        learns = torch.is_grad_enabled() and self.weight.requires_grad
        if learns and hidden.device.type == "cpu" and _is_low(hidden):
            found: Tensor = _LowPrecision.apply(hidden.bfloat16(), self.weight)  # type: ignore[no-untyped-call]
            return found
        return super().forward(hidden)


def _is_low(hidden: Tensor) -> bool:
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return hidden.dtype == torch.bfloat16
