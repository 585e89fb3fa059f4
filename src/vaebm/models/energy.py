r"""The energy network E(x): low energy = likely.

One class for all of them: plain strided convolutions or the paper's residual blocks, then a scalar head. Images are
clamped to [−1, 1] and mapped to [0, 1] first: E∘clamp is what is trained and what is sampled. No batch norm: the energy
of an image must not depend on its neighbours.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.nn import NORMALIZATIONS, ResidualBlock, at_least_float32, normalized, swish_1lipschitz

BLOCKS = ("plain", "residual")
POOLINGS = ("flatten", "sum")


class EnergyFn(Protocol):
    """What an energy is: images (B, C, H, W) to energies (B,), low for data."""

    def __call__(self, images: Tensor, /) -> Tensor: ...


class _Swish(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return swish_1lipschitz(hidden)


class _SumOverSpace(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.sum((2, 3))


class EnergyNetwork(nn.Module):
    """A convolutional network from images to energies.

    Arguments:
        image_shape: The shape (C, H, W) of one image.
        blocks: ``plain`` strided convolutions, or the paper's ``residual`` blocks behind a stem.
        widths: The channels after each halving of the resolution.
        depth: The number of blocks for each width; the first of them halves the resolution.
        stem_kernel_size: The odd size of the first convolution.
        num_hidden: The width of a hidden layer before the scalar, 0 for none.
        pooling: ``flatten`` keeps the place of features, ``sum`` adds them over space (the paper).
        normalization: ``weight`` (with data-dependent initialisation and the spectral penalty), ``spectral`` (with a
            learned output gain, without which the energy is too flat) or ``none``.
        input_pooling: The size of the squares of pixels that are averaged first: an energy of coarser images sees
            shapes better than pixel noise and blur, and costs less.
        halvings: For each of the widths, with depth 1, 1 if its block halves the resolution and 0 if not; empty: the
            first block of each width does.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> energy = EnergyNetwork((1, 8, 8), widths=(4, 8))
        >>> energy(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5])
    """

    # Over forty lines: each argument stands twice, here and in what the model folder keeps.
    def __init__(
        self,
        image_shape: Sequence[int],
        blocks: str = "plain",
        widths: Sequence[int] = (32, 64, 128),
        depth: int = 1,
        stem_kernel_size: int = 5,
        num_hidden: int = 128,
        pooling: str = "flatten",
        normalization: str = "weight",
        input_pooling: int = 1,
        halvings: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "image_shape": list(image_shape),
            "blocks": blocks,
            "widths": list(widths),
            "depth": depth,
            "stem_kernel_size": stem_kernel_size,
            "num_hidden": num_hidden,
            "pooling": pooling,
            "normalization": normalization,
            "input_pooling": input_pooling,
            "halvings": [int(is_halved) for is_halved in halvings],
        }
        _check(self.arguments)
        channels, height, width = image_shape
        self.input_pooling = input_pooling
        height, width = -(-height // input_pooling), -(-width // input_pooling)
        places = [(size, level == 0) for size in widths for level in range(depth)]
        if halvings:
            places = [(width, bool(is_halved)) for width, is_halved in zip(widths, halvings, strict=True)]
        self.body = nn.Sequential(*_body(channels, blocks, places, stem_kernel_size, normalization))
        for _ in range(sum(is_halved for _, is_halved in places)):
            height, width = (height + 1) // 2, (width + 1) // 2
        num_features = widths[-1] * (height * width if pooling == "flatten" else 1)
        self.pool: nn.Module = nn.Flatten() if pooling == "flatten" else _SumOverSpace()
        layers: list[nn.Module] = []
        if num_hidden:
            layers = [normalized(nn.Linear(num_features, num_hidden), normalization), _Swish()]
            num_features = num_hidden
        self.head = nn.Sequential(*layers, normalized(nn.Linear(num_features, 1), normalization))
        self.log_gain = nn.Parameter(torch.zeros(())) if normalization == "spectral" else None

    def _coarse(self, images: Tensor) -> Tensor:
        if self.input_pooling == 1:
            return images
        return functional.avg_pool2d(images, self.input_pooling, ceil_mode=True)

    def features(self, images: Tensor) -> Tensor:
        """Returns the pooled features (B, F) of images (B, C, H, W)."""
        pooled: Tensor = self.pool(self.body(self._coarse((images.clamp(-1, 1) + 1) / 2)))
        return pooled

    def forward(self, images: Tensor) -> Tensor:
        """Returns energies (B,), float32 or better, of images (B, C, H, W); entries outside [−1, 1] are clamped."""
        output = at_least_float32(self.head(self.features(images)).squeeze(1))
        return output if self.log_gain is None else output * self.log_gain.exp()


def _body(
    channels: int, blocks: str, places: Sequence[tuple[int, bool]], stem_kernel_size: int, normalization: str
) -> list[nn.Module]:
    """Returns the layers before the pooling; places are the channels of each block and whether it halves."""
    layers: list[nn.Module] = []
    incoming = channels
    if blocks == "residual":
        incoming = places[0][0]
        stem = nn.Conv2d(channels, incoming, stem_kernel_size, padding=stem_kernel_size // 2)
        layers += [normalized(stem, normalization), _Swish()]
    for index, (width, is_halved) in enumerate(places):
        if blocks == "residual":
            layers.append(ResidualBlock(incoming, width, is_halved, normalization))
        else:
            size = stem_kernel_size if index == 0 else 3
            convolution = nn.Conv2d(incoming, width, size, 2 if is_halved else 1, size // 2)
            layers += [normalized(convolution, normalization), _Swish()]
        incoming = width
    return layers


def _check(arguments: Mapping[str, Any]) -> None:
    for name, allowed in (("blocks", BLOCKS), ("pooling", POOLINGS), ("normalization", NORMALIZATIONS)):
        if arguments[name] not in allowed:
            raise ValueError(f"{name} is {arguments[name]!r}: expected one of {', '.join(allowed)}")
    image_shape, widths, depth = arguments["image_shape"], arguments["widths"], arguments["depth"]
    if len(image_shape) != 3 or any(size < 1 for size in image_shape):
        raise ValueError(f"image_shape is {tuple(image_shape)}: expected three positive numbers (C, H, W)")
    if not widths or any(width < 1 for width in widths) or depth < 1:
        raise ValueError(f"widths {tuple(widths)} and depth {depth}: expected positive numbers, at least one width")
    halvings = arguments["halvings"]
    if any(is_halved not in (0, 1) for is_halved in halvings):
        raise ValueError(f"halvings is {tuple(halvings)}: expected 0 or 1 for each of the widths")
    if halvings and (depth != 1 or len(halvings) != len(widths)):
        raise ValueError(
            f"halvings has {len(halvings)} entries at depth {depth}: expected depth 1 and one for each of the "
            f"{len(widths)} widths"
        )
    if arguments["stem_kernel_size"] % 2 == 0 or arguments["stem_kernel_size"] < 1:
        raise ValueError(f"stem_kernel_size is {arguments['stem_kernel_size']}: expected an odd positive number")
    if not 1 <= arguments["input_pooling"] <= min(image_shape[1:]):
        raise ValueError(f"input_pooling is {arguments['input_pooling']}: expected 1 or more, up to the image's size")
    if arguments["num_hidden"] < 0:
        raise ValueError(f"num_hidden is {arguments['num_hidden']}: expected 0 or a positive number")
