"""ImageNet features for pictures of any kind: EfficientNet-Lite0, whose weights come inside a package, or Inception.

For EfficientNet pictures are resized to 128×128 by bilinear interpolation, grey ones are repeated to three channels,
and the last feature map is averaged over space. A distance on these features is comparable with none on others: not
with a published FID, which uses Inception's 2048 features of pictures of 299×299.

References:
    EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, https://arxiv.org/abs/1905.11946
    Rethinking the Inception Architecture for Computer Vision, https://arxiv.org/abs/1512.00567
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.data import to_uint8

__all__ = ["EfficientNetFeatures", "InceptionFeatures"]


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
        self.channels = (1, 3)
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


class InceptionFeatures(nn.Module):
    """torch-fidelity's Inception as a feature network that knows classes.

    Arguments:
        network: ``FeatureExtractorInceptionV3`` that returns its 2048 pooled features; it takes bytes and resizes them.
        batch_size: The number of images at once.
    """

    num_features = 2048
    channels = (1, 3)

    def __init__(self, network: nn.Module, batch_size: int = 50) -> None:
        super().__init__()
        self.network: Any = network
        self.batch_size = batch_size

    def features(self, images: Tensor) -> Tensor:
        """Returns features (B, 2048) of images (B, 1 or 3, H, W) in [−1, 1]."""
        pixels = torch.from_numpy(to_uint8(images)).to(images.device).expand(-1, 3, -1, -1)
        return torch.cat([self.network(batch)[0] for batch in torch.split(pixels, self.batch_size)])

    def head(self, features: Tensor) -> Tensor:
        """Returns logits (B, 1008) of features: without a bias, as published Inception scores have them."""
        logits: Tensor = features @ self.network.fc.weight.T.to(features)
        return logits
