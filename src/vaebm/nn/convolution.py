r"""Convolutions and linear layers whose weights are reparameterised, and their data-dependent initialisation.

Symbols: a layer maps a to W a + b. *Weight* normalisation writes W = g v / |v| per output channel; *spectral*
normalisation writes W = v / σ_max(v), with v as a matrix (out × rest): a linear layer becomes 1-Lipschitz, a
convolution of kernel size k and stride s, whose patches overlap, ⌈k/s⌉-Lipschitz.

References:
    Weight Normalization: A Simple Reparameterization to Accelerate Training of Deep Neural Networks,
    https://arxiv.org/abs/1602.07868
    Spectral Normalization for Generative Adversarial Networks, https://arxiv.org/abs/1802.05957
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.parametrize import is_parametrized

NORMALIZATIONS = ("weight", "spectral", "none")


def swish_1lipschitz(hidden: Tensor) -> Tensor:
    """Returns x·sigmoid(x)/1.1, a swish whose slope stays below one, of any shape."""
    return functional.silu(hidden) / 1.1


def normalized(layer: nn.Module, normalization: str) -> nn.Module:
    """Reparameterises a convolution or linear layer.

    Arguments:
        layer: The layer, changed in place.
        normalization: One of ``NORMALIZATIONS``.

    Returns:
        The same layer.

    Raises:
        ValueError: If the normalisation is unknown.

    Example:
        >>> layer = normalized(nn.Linear(3, 2), "weight")
        >>> layer(torch.zeros(1, 3)).shape
        torch.Size([1, 2])
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"unknown normalization {normalization!r}: expected one of {', '.join(NORMALIZATIONS)}")
    if normalization == "weight":
        parametrizations.weight_norm(layer)
    if normalization == "spectral":
        parametrizations.spectral_norm(layer)
    return layer


def _is_weight_normalized(layer: Any) -> bool:
    return is_parametrized(layer, "weight") and hasattr(layer.parametrizations.weight, "original1")


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Runs a network as a constant: in evaluation mode, without gradients by its parameters, its weights computed once.

    Gradients by the input still flow. Afterwards every parameter and module is as before; in training mode spectral
    normalisation would move its vectors within a chain.

    Arguments:
        network: The network.

    Example:
        >>> layer = normalized(nn.Linear(2, 1), "weight")
        >>> with frozen(layer):
        ...     layer(torch.ones(1, 2)).requires_grad
        False
    """
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    modes = [(module, module.training) for module in network.modules()]
    network.requires_grad_(False).eval()
    try:
        with parametrize.cached():
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def initialize_from_data(network: nn.Module, images: Tensor, standard_deviation: float = 0.2) -> None:
    """Sets scale and bias of every weight-normalised layer so that its outputs start centred with a given spread.

    A layer without a bias gets the spread and keeps its mean.

    One forward pass initialises the layers in the order in which they run, each on the already initialised ones before
    it. Layers that aren't weight-normalised keep their values. Call it once, before training, never after loading.

    Arguments:
        network: The network, changed in place.
        images: A batch of its input, shape (B, C, H, W), of at least two images.
        standard_deviation: The spread of each output channel after the call.

    Raises:
        ValueError: If there are less than two images, which have no spread.

    Example:
        >>> layer = normalized(nn.Conv2d(1, 4, 3), "weight")
        >>> images = torch.rand(8, 1, 8, 8)
        >>> initialize_from_data(layer, images)
        >>> torch.allclose(layer(images).std((0, 2, 3)), torch.tensor(0.2), rtol=1e-3)
        True
    """
    if len(images) < 2:
        raise ValueError(f"{len(images)} images for the initialisation: expected at least 2")

    def initialize(layer: Any, inputs: Any, output: Tensor) -> Tensor:
        axes = [axis for axis in range(output.ndim) if axis != 1]
        mean, spread = output.mean(axes), output.std(axes)
        factor = standard_deviation / (spread + 1e-6)
        scale = layer.parametrizations.weight.original0
        scale.mul_(factor.view(-1, *[1] * (scale.ndim - 1)))
        mean = mean if layer.bias is not None else torch.zeros_like(mean)
        if layer.bias is not None:
            layer.bias.copy_((layer.bias - mean) * factor)
        shape = [1, -1] + [1] * (output.ndim - 2)
        return (output - mean.view(shape)) * factor.view(shape)

    layers = [module for module in network.modules() if _is_weight_normalized(module)]
    handles = [layer.register_forward_hook(initialize) for layer in layers]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
