r"""Convolutions and linear layers whose weights are reparameterised, and their data-dependent initialisation.

Symbols: a layer maps a to W a + b. *Weight* normalisation writes W = g v / |v| per output channel; *spectral*
normalisation writes W = v / σ_max(v), so that the layer is 1-Lipschitz.

References:
    Weight Normalization: A Simple Reparameterization to Accelerate Training of Deep Neural Networks,
    https://arxiv.org/abs/1602.07868
    Spectral Normalization for Generative Adversarial Networks, https://arxiv.org/abs/1802.05957
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

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
        return parametrizations.weight_norm(layer)
    if normalization == "spectral":
        return parametrizations.spectral_norm(layer)
    return layer


@torch.no_grad()
def initialize_from_data(network: nn.Module, images: Tensor, standard_deviation: float = 0.2) -> None:
    """Sets scale and bias of every weight-normalised layer so that its outputs start centred with a given spread.

    One forward pass initialises the layers in the order in which they run, each on the already initialised ones before
    it. Layers that aren't weight-normalised keep their values. Call it once, before training, never after loading.

    Arguments:
        network: The network, changed in place.
        images: A batch of its input, shape (B, C, H, W).
        standard_deviation: The spread of each output channel after the call.
    """

    def initialize(layer: Any, inputs: Any, output: Tensor) -> Tensor:
        axes = [axis for axis in range(output.ndim) if axis != 1]
        mean, spread = output.mean(axes), output.std(axes)
        factor = standard_deviation / (spread + 1e-6)
        scale = layer.parametrizations.weight.original0
        scale.mul_(factor.view(-1, *[1] * (scale.ndim - 1)))
        layer.bias.copy_((layer.bias - mean) * factor)
        shape = [1, -1] + [1] * (output.ndim - 2)
        return (output - mean.view(shape)) * factor.view(shape)

    handles = [
        module.register_forward_hook(initialize)
        for module in network.modules()
        if hasattr(module, "parametrizations") and hasattr(module.parametrizations.weight, "original1")
    ]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
