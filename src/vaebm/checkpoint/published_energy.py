"""A published energy network: its tensors, by the names of ``vaebm.models.EnergyNetwork``.

Weight normalisation there is W = exp(s) · v / (|v| + 1e-5), here g · v / |v|, and the linear layer has none there. A
filter that is all zeros, which has no direction, becomes g = 0 along ones: the weight is zero, as it is there.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaebm.checkpoint.errors import CheckpointError
from vaebm.checkpoint.published import Published, PublishedTensors, read_content, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

NORM_EPS = 1e-5
FILTERS = "filters, channels, height, width"
NORM, DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"
# Multiples of the first width, and where the resolution is halved.
ENERGY_LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[bool, ...]]] = {
    name: (
        tuple(int(block.rstrip("v")) for block in text.split()),
        tuple(block.endswith("v") for block in text.split()),
    )
    for name, text in {
        "CIFAR-10": "1v 1 2v 2 2v 2",
        "CelebA-64": "1v 1 2v 2 2v 4 4v 4",
        "LSUN-64": "1v 1 2v 2 2 2v 4 4 4v 4",
        "CelebA-HQ-256": "1v 1 2v 2 2v 2 4v 4 4v 4 8v 8",
        "MNIST": "1v 1 2v 2",
    }.items()
}


def read_published_energy(path: str | Path, image_shape: Sequence[int]) -> Published:
    """Reads an energy network.

    Arguments:
        path: ``EBM.pth``, with ``model``.
        image_shape: The shape (C, H, W) of the images of the NVAE that it belongs to.

    Returns:
        The arguments and tensors of ``vaebm.models.EnergyNetwork``.

    Raises:
        CheckpointError: If the file can't be read, holds anything but tensors and plain values, has blocks in no
            published order, or lacks tensors or has too many.
    """
    path = Path(path)
    source = read_tensors(path, read_content(path), "model")
    stem = source.shape("conv1.weight", FILTERS)
    if stem[1] != image_shape[0]:
        raise CheckpointError(f"{path} takes images of {stem[1]} channels: expected {image_shape[0]}, as its NVAE's")
    widths, halvings = _energy_layout(source, stem[0])
    arguments = {
        "image_shape": list(image_shape),
        "blocks": "residual",
        "widths": list(widths),
        "halvings": [int(is_halved) for is_halved in halvings],
        "depth": 1,
        "stem_kernel_size": stem[2],
        "num_hidden": 0,
        "pooling": "sum",
        "normalization": "weight",
        "input_pooling": 1,
    }
    network = _Network(source)
    network.convolution("body.0", "conv1", (stem[0], stem[1], stem[2], stem[2]))
    for index, (incoming, width) in enumerate(zip((stem[0], *widths), widths, strict=False)):
        own, name = f"body.{index + 2}", f"blocks.{index}"
        network.convolution(f"{own}.first", f"{name}.conv1", (width, incoming, 3, 3))
        network.convolution(f"{own}.second", f"{name}.conv2", (width, width, 3, 3))
        if f"{name}.skip.0.weight" in source:
            network.convolution(f"{own}.skip", f"{name}.skip.0", (width, incoming, 1, 1), has_bias=False)
    network.linear("head.0", "linear", widths[-1])
    source.check_all_used()
    return Published(arguments, network.tensors, network.names, path)


def _energy_layout(source: PublishedTensors, width: int) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    count = 0
    while f"blocks.{count}.conv1.weight" in source:
        count += 1
    widths = tuple(source.shape(f"blocks.{index}.conv1.weight", FILTERS)[0] for index in range(count))
    incoming = (width, *widths[:-1])
    has_skip = tuple(f"blocks.{index}.skip.0.weight" in source for index in range(count))
    for multiples, halvings in ENERGY_LAYOUTS.values():
        skips = tuple(
            is_halved or before != after for is_halved, before, after in zip(halvings, incoming, widths, strict=False)
        )
        if widths == tuple(multiple * width for multiple in multiples) and skips == has_skip:
            return widths, halvings
    raise CheckpointError(
        f"{source.path} has blocks of {', '.join(str(size) for size in widths) or 'no'} channels: where they halve the "
        f"resolution isn't stored, and these are of none of the published networks ({', '.join(ENERGY_LAYOUTS)})"
    )


class _Network:
    """The tensors of an energy network; each has its shape before anything is computed from it."""

    def __init__(self, source: PublishedTensors) -> None:
        self.source = source
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[str, str] = {}

    def convolution(self, own: str, name: str, shape: Sequence[int], has_bias: bool = True) -> None:
        """Puts a convolution in, of the shape (filters, channels, height, width)."""
        weight = self.source.take(f"{name}.weight", shape)
        log_norm = self.source.take(f"{name}.log_weight_norm", (shape[0], 1, 1, 1))
        if weight is not None and log_norm is not None:
            length = weight.float().flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            self._put(own, weight, length, log_norm.float().exp() * length / (length + NORM_EPS))
            self._name(own, f"{name}.log_weight_norm", f"{name}.weight")
        if has_bias:
            self._bias(own, name, shape[0])

    def linear(self, own: str, name: str, num_features: int) -> None:
        """Puts the linear layer in, from features to the energy."""
        weight = self.source.take(f"{name}.weight", (1, num_features))
        if weight is not None:
            length = weight.float().norm(dim=1, keepdim=True)
            self._put(own, weight, length, length)
            self._name(own, f"{name}.weight", f"{name}.weight")
        self._bias(own, name, 1)

    def _put(self, own: str, weight: Tensor, length: Tensor, norm: Tensor) -> None:
        self.tensors[f"{own}.{NORM}"] = norm
        self.tensors[f"{own}.{DIRECTION}"] = weight.float().masked_fill(length == 0, 1)

    def _name(self, own: str, norm: str, direction: str) -> None:
        self.names |= {f"{own}.{NORM}": norm, f"{own}.{DIRECTION}": direction}

    def _bias(self, own: str, name: str, size: int) -> None:
        bias = self.source.take(f"{name}.bias", (size,))
        if bias is not None:
            self.tensors[f"{own}.bias"], self.names[f"{own}.bias"] = bias, f"{name}.bias"
