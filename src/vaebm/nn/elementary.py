r"""Layers in elementary operations, for runtimes that have convolutions in float32 only.

In float64 onnxruntime multiplies matrices, but doesn't convolve, pool, resize, or take a softplus or an ELU. All
of these can be said in products of matrices, slices and elementwise functions:

* a convolution is Σ_i W_i x_i, with x_i the pixels that meet row i of the kernel;
* average pooling is P_h x P_wᵀ, with the rows of P the windows, each divided by its number of pixels;
* nearest-neighbour resizing picks rows and columns; bilinear resizing is P_h x P_wᵀ, two entries a row;
* softplus(x) = max(x, 0) + log(1 + exp(−|x|)), and ELU(x) = max(x, 0) + exp(min(x, 0)) − 1.

``elementary()`` puts these in the place of torch's functions, wherever they are called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["elementary"]


def elementary() -> TorchFunctionMode:
    """Returns a context in which layers run in elementary operations, to the same numbers but for rounding.

    Convolutions without dilation, average pooling without padding, nearest-neighbour resizing, bilinear resizing whose
    corners stay, batch norms in evaluation mode, group normalisation, softplus and ELU are replaced; everything else
    runs as it is.

    Raises:
        NotImplementedError: Within the context, where such a layer has other settings.

    Example:
        >>> layer, image = torch.nn.Conv2d(2, 3, 3, stride=2, padding=1).double(), torch.rand(1, 2, 9, 8).double()
        >>> with elementary():
        ...     replaced = layer(image)
        >>> torch.allclose(replaced, layer(image), rtol=1e-12)
        True
    """
    return _Elementary()


class _Elementary(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return REPLACED.get(func, func)(*args, **(kwargs or {}))


def _pair(value: Any) -> tuple[int, int]:
    # What a tracer knows of a shape is a tensor without axes.
    is_one = isinstance(value, int) or (isinstance(value, Tensor) and not value.ndim)
    first, second = (value, value) if is_one else value
    return int(first), int(second)


def _conv2d(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    if isinstance(padding, str) or _pair(dilation) != (1, 1):
        raise NotImplementedError("a convolution with dilation or a named padding: expected neither")
    (down, right), (top, left) = _pair(stride), _pair(padding)
    padded = functional.pad(images, (left, left, top, top)) if top or left else images
    out, channels, tall, wide = (int(size) for size in weight.shape)
    height = (int(padded.shape[2]) - tall) // down + 1
    width = (int(padded.shape[3]) - wide) // right + 1
    # Groups are one more axis in front of the channels.
    lead = () if groups == 1 else (groups,)
    if lead:
        padded = padded.reshape(-1, groups, channels, int(padded.shape[2]), int(padded.shape[3]))
    rows = weight.reshape(groups, out // groups, channels, tall, wide).permute(3, 0, 1, 4, 2)
    rows = rows.reshape(tall, *lead, out // groups, wide * channels)
    # All columns of the kernel at once and row by row: a graph of few nodes that needs little memory.
    columns = [padded[..., j : j + right * (width - 1) + 1 : right] for j in range(wide)]
    side_by_side = torch.cat(columns, -3) if wide > 1 else columns[0]
    total: Any = 0
    for i, taps in enumerate(rows.unbind()):
        met = side_by_side[..., i : i + down * (height - 1) + 1 : down, :]
        total = total + taps @ met.reshape(-1, *lead, wide * channels, height * width)
    result: Tensor = total.reshape(-1, out, height, width)
    return result if bias is None else result + bias.view(out, 1, 1)


def _windows(size: int, window: int, like: Tensor) -> Tensor:
    place = np.arange(size) // window
    belongs = place == np.arange(-(-size // window))[:, None]
    # By numpy, so that a traced graph holds one constant and not its making.
    return torch.from_numpy(belongs / belongs.sum(1, keepdims=True)).to(like)


def _avg_pool2d(
    images: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, *other: Any
) -> Any:
    # What else there is only matters with padding.
    (tall, wide), (height, width) = _pair(kernel_size), (int(images.shape[2]), int(images.shape[3]))
    is_tiled = stride in (None, []) or _pair(stride) == (tall, wide)
    is_plain = _pair(padding) == (0, 0) and other in ((), (True,), (True, None))
    if not is_tiled or not is_plain or (not ceil_mode and (height % tall or width % wide)):
        raise NotImplementedError("average pooling with padding, overlap or a remainder: expected none of these")
    return _windows(height, tall, images) @ images @ _windows(width, wide, images).T


def _interpolate(
    images: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **other: Any
) -> Any:
    keeps_corners = bool(other.pop("align_corners", False))
    if (mode, keeps_corners) not in (("nearest", False), ("bilinear", True)) or any(other.values()):
        raise NotImplementedError(
            "resizing with interpolation: expected mode nearest, or bilinear with corners that stay"
        )
    there = int(images.shape[2]), int(images.shape[3])
    if size is None:
        factors = scale_factor if isinstance(scale_factor, list | tuple) else (scale_factor, scale_factor)
        if any(factor != int(factor) for factor in factors):
            raise NotImplementedError(f"resizing by {scale_factor}: expected a whole factor")
        size = tuple(side * int(factor) for side, factor in zip(there, factors, strict=True))
    if keeps_corners:
        tall, wide = (_between(*sides, images) for sides in zip(there, _pair(size), strict=True))
        return tall @ images @ wide.T
    for axis, wanted in zip((2, 3), _pair(size), strict=True):
        picked = torch.arange(wanted, device=images.device) * int(images.shape[axis]) // wanted
        images = images.index_select(axis, picked)
    return images


def _between(size: int, wanted: int, like: Tensor) -> Tensor:
    places = np.linspace(0, size - 1, wanted)[:, None]
    return torch.from_numpy(np.maximum(0, 1 - np.abs(places - np.arange(size)))).to(like)


def _batch_norm(
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training or running_mean is None or running_var is None:
        raise NotImplementedError("a batch norm of the batch's own statistics: expected evaluation mode")
    scale = 1 / (running_var + eps).sqrt()
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale
    shift = shift if bias is None else shift + bias
    shape = (-1, *[1] * (images.ndim - 2))
    return images * scale.view(shape) + shift.view(shape)


def _group_norm(
    images: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    channels = int(images.shape[1])
    grouped: Any = images.reshape(-1, num_groups, math.prod(int(size) for size in images.shape[1:]) // num_groups)
    centred = grouped - grouped.mean(2, keepdim=True)
    scaled = centred / (centred.square().mean(2, keepdim=True) + eps).sqrt()
    result: Tensor = scaled.reshape(-1, *(int(size) for size in images.shape[1:]))
    shape = (channels, *[1] * (images.ndim - 2))
    result = result if weight is None else result * weight.view(shape)
    return result if bias is None else result + bias.view(shape)


def _softplus(values: Tensor) -> Tensor:
    return values.clamp(min=0) + (1 + (-values.abs()).exp()).log()


def _elu(values: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    return values.clamp(min=0) + alpha * (values.clamp(max=0).exp() - 1)


REPLACED: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.conv2d: _conv2d,
    functional.conv2d: _conv2d,
    functional.avg_pool2d: _avg_pool2d,
    functional.interpolate: _interpolate,
    functional.batch_norm: _batch_norm,
    functional.elu: _elu,
    functional.group_norm: _group_norm,
    functional.softplus: _softplus,
}
