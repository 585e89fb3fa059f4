"""ImageNet features for pictures of any kind: EfficientNet-Lite0, whose weights come inside a package.

Pictures are resized to 128×128 by bilinear interpolation, grey ones are repeated to three channels, and the last
feature map is averaged over space. A distance on these features is comparable with none on others: not with a published
FID, which uses another network at another size.

References:
    EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, https://arxiv.org/abs/1905.11946
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["EfficientNetFeatures"]


class EfficientNetFeatures(nn.Module):
    """An EfficientNet-Lite as a feature network.

    Arguments:
        network: A network with ``extract_features``, images (B, 3, 128, 128) to maps (B, F, H, W).
        num_features: F.
        size: The height and width that images are resized to.
        batch_size: The number of images at once: maps of large images fill the memory.
    """

    def __init__(self, network: nn.Module, num_features: int = 1280, size: int = 128, batch_size: int = 50) -> None:
        super().__init__()
        self.network: Any = network
        self.num_features, self.size, self.batch_size = num_features, size, batch_size

    def features(self, images: Tensor) -> Tensor:
        """Returns features (B, F) of images (B, 1 or 3, H, W) in [−1, 1]."""
        return torch.cat([self._batch(batch) for batch in torch.split(images, self.batch_size)])

    def _batch(self, images: Tensor) -> Tensor:
        # (v − 127)/128 of v = 127.5 (x + 1) is what the weights were trained on.
        seen = (images.expand(-1, 3, -1, -1) * 127.5 + 0.5) / 128
        seen = functional.interpolate(seen, (self.size, self.size), mode="bilinear", antialias=True)
        maps: Tensor = self.network.extract_features(seen.contiguous(memory_format=torch.channels_last))
        return maps.mean((2, 3))
