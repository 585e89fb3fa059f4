"""One flat tensor for all noise: latent groups top-down, each flattened in (C, H, W) order, then the image noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseLayout:
    """Where each part of a flat noise tensor (B, D) lies.

    Arguments:
        latent_shapes: The shape of each latent group, top-down.
        image_shape: The shape (C, H, W) of the image noise, or None if the model uses none.

    Example:
        >>> layout = NoiseLayout(((8,), (4, 2, 2)), (1, 4, 4))
        >>> layout.size, layout.latent_size
        (40, 24)
        >>> [tuple(part.shape) for part in layout.split(torch.zeros(3, 40))]
        [(3, 8), (3, 4, 2, 2), (3, 1, 4, 4)]
    """

    latent_shapes: tuple[tuple[int, ...], ...]
    image_shape: tuple[int, ...] | None = None

    @property
    def latent_size(self) -> int:
        """The number of latent noise entries."""
        return sum(math.prod(shape) for shape in self.latent_shapes)

    @property
    def size(self) -> int:
        """The number D of all noise entries."""
        return self.latent_size + (math.prod(self.image_shape) if self.image_shape else 0)

    def split(self, noise: Tensor) -> list[Tensor]:
        """Splits noise (B, D) into views: one tensor for each latent group, then the image noise if there is any.

        Raises:
            ValueError: If the noise has another size than the layout.
        """
        if noise.ndim != 2 or noise.shape[1] != self.size:
            raise ValueError(f"noise has shape {tuple(noise.shape)}: expected (B, {self.size})")
        shapes = [*self.latent_shapes, *([self.image_shape] if self.image_shape else [])]
        flat = torch.split(noise, [math.prod(shape) for shape in shapes], dim=1)
        return [part.view(noise.shape[0], *shape) for part, shape in zip(flat, shapes, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Joins what ``split`` returned into noise (B, D)."""
        return torch.cat([part.flatten(1) for part in parts], dim=1)
