"""An energy network of fully connected layers, for points of the plane and other small inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from vaebm.nn import at_least_float32


class DenseEnergy(nn.Module):
    """Fully connected SiLU layers from images to energies.

    Arguments:
        image_shape: The shape (C, H, W) of one image.
        widths: The hidden units of each layer.
        input_scale: What the input, clamped to [−1, 1], is multiplied with: a network sees details of the size of its
            inverse soon, and finer ones late.

    Raises:
        ValueError: If an argument is not positive.

    Example:
        >>> energy = DenseEnergy((2, 1, 1), widths=(8,))
        >>> import torch
        >>> energy(torch.zeros(5, 2, 1, 1)).shape
        torch.Size([5])
    """

    def __init__(
        self, image_shape: Sequence[int], widths: Sequence[int] = (128, 128, 128), input_scale: float = 8.0
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "image_shape": list(image_shape),
            "widths": list(widths),
            "input_scale": input_scale,
        }
        if not widths or min(*widths, *image_shape) < 1 or not input_scale > 0:
            raise ValueError(f"widths {tuple(widths)} and input_scale {input_scale}: expected positive numbers")
        self.input_scale = input_scale
        layers: list[nn.Module] = []
        for incoming, outgoing in pairwise([math.prod(image_shape), *widths]):
            layers += [nn.Linear(incoming, outgoing), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, images: Tensor) -> Tensor:
        """Returns energies (B,) of images (B, C, H, W); entries outside [−1, 1] are clamped."""
        scaled = self.input_scale * images.clamp(-1, 1).flatten(1)
        energies: Tensor = self.layers(scaled).squeeze(1)
        return at_least_float32(energies)
