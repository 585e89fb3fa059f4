"""A published energy network: its tensors, by the names of ``vaebm.models.EnergyNetwork``.

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
WEIGHT_PARTS = ("parametrizations.weight.original0", "parametrizations.weight.original1")
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
    stem = source.shape("conv1.weight")
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
    layers = {"body.0": "conv1"}
    for index in range(len(widths)):
        own, name = f"body.{index + 2}", f"blocks.{index}"
        layers |= {f"{own}.first": f"{name}.conv1", f"{own}.second": f"{name}.conv2"}
        if f"{name}.skip.0.weight" in source:
            layers[f"{own}.skip"] = f"{name}.skip.0"
    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for own, name in layers.items():
        _put_convolution(source, tensors, own, name)
        names |= {f"{own}.{part}": f"{name}.weight" for part in WEIGHT_PARTS} | {f"{own}.bias": f"{name}.bias"}
    _put_linear(source, tensors)
    names |= {f"head.0.{part}": "linear.weight" for part in WEIGHT_PARTS} | {"head.0.bias": "linear.bias"}
    source.check_all_used()
    return Published(arguments, tensors, names, path)


def _energy_layout(source: PublishedTensors, width: int) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    count = 0
    while f"blocks.{count}.conv1.weight" in source:
        count += 1
    widths = tuple(source.shape(f"blocks.{index}.conv1.weight")[0] for index in range(count))
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


def _put_convolution(source: PublishedTensors, tensors: dict[str, Tensor], own: str, name: str) -> None:
    direction, log_norm = source.take(f"{name}.weight"), source.take(f"{name}.log_weight_norm")
    if direction is not None and log_norm is not None:
        length = direction.flatten(1).norm(dim=1).view(-1, *[1] * (direction.ndim - 1))
        tensors[f"{own}.{WEIGHT_PARTS[0]}"] = log_norm.exp() * length / (length + NORM_EPS)
        tensors[f"{own}.{WEIGHT_PARTS[1]}"] = direction
    # Skips have no bias.
    bias = None if name.endswith("skip.0") else source.take(f"{name}.bias")
    if bias is not None:
        tensors[f"{own}.bias"] = bias


def _put_linear(source: PublishedTensors, tensors: dict[str, Tensor]) -> None:
    weight, bias = source.take("linear.weight"), source.take("linear.bias")
    if weight is not None and bias is not None:
        tensors[f"head.0.{WEIGHT_PARTS[0]}"] = weight.norm(dim=1, keepdim=True)
        tensors[f"head.0.{WEIGHT_PARTS[1]}"] = weight
        tensors["head.0.bias"] = bias
