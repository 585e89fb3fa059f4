r"""Small image classifiers whose penultimate layer serves as feature extractor.

A Fréchet or kernel distance needs features in which "looks like a digit" is a direction. The classifiers here are
trained by ``benchmarks/train_judges.py`` before any generator exists, and never tuned for one.

References:
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Fréchet distance on features),
    https://arxiv.org/abs/1706.08500
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def _convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.SiLU())


class _Block(nn.Module):
    """Halves the resolution, then refines: plain convolutions, or one residual pair."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, residual: bool) -> None:
        super().__init__()
        self.down = _convolution(in_channels, out_channels, kernel_size, 2)
        self.refine = nn.Sequential(
            _convolution(out_channels, out_channels, kernel_size, 1),
            *([_convolution(out_channels, out_channels, kernel_size, 1)] if residual else []),
        )
        self.residual = residual

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.down(hidden)
        refined: Tensor = self.refine(hidden)
        return hidden + refined if self.residual else refined


class Classifier(nn.Module):
    """A convolutional classifier of images in [−1, 1] with named features.

    Arguments:
        image_shape: The shape (C, H, W) of one image.
        num_classes: The number of classes K.
        widths: The channels after each halving of the resolution.
        kernel_size: The odd size of the block convolutions.
        residual: Whether blocks are residual.
        num_features: The size F of the penultimate layer.
        dropout: The dropout probability before the last layer.

    Example:
        >>> import torch
        >>> classifier = Classifier((1, 28, 28), num_classes=10, widths=(8, 16), num_features=32)
        >>> classifier(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
        >>> classifier.features(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        num_classes: int,
        widths: Sequence[int] = (32, 64, 128),
        kernel_size: int = 3,
        residual: bool = False,
        num_features: int = 128,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)
        channels, height, width = image_shape
        self.stem = _convolution(channels, widths[0] // 2, 3, 1)
        blocks = []
        incoming = widths[0] // 2
        for outgoing in widths:
            blocks.append(_Block(incoming, outgoing, kernel_size, residual))
            incoming, height, width = outgoing, (height + 1) // 2, (width + 1) // 2
        self.blocks = nn.Sequential(*blocks)
        self.project = nn.Sequential(nn.Flatten(), nn.Linear(incoming * height * width, num_features), nn.SiLU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, num_classes))
        self.num_features = num_features

    def features(self, images: Tensor) -> Tensor:
        """Returns the penultimate activations, shape (B, F), of images (B, C, H, W) in [−1, 1]."""
        hidden: Tensor = self.project(self.blocks(self.stem(images)))
        return hidden

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits, shape (B, K), of images (B, C, H, W) in [−1, 1]."""
        logits: Tensor = self.head(self.features(images))
        return logits


class StackedClassifier(nn.Module):
    """A grey classifier that sees the channels of an image one by one: K classes for each of C channels, K^C for all.

    Arguments:
        classifier: The classifier, of images (1, H, W).
        num_channels: The number of channels C.

    Example:
        >>> import torch
        >>> stacked = StackedClassifier(Classifier((1, 28, 28), num_classes=10, widths=(8, 16), num_features=32))
        >>> features = stacked.features(torch.zeros(2, 3, 32, 32))
        >>> features.shape, stacked.head(features).shape
        (torch.Size([2, 96]), torch.Size([2, 1000]))
    """

    def __init__(self, classifier: Classifier, num_channels: int = 3) -> None:
        super().__init__()
        self.classifier, self.num_channels = classifier, num_channels
        self.num_features = num_channels * classifier.num_features

    def features(self, images: Tensor) -> Tensor:
        """Returns the features (B, C·F) of the middles, H×W, of images (B, C, H', W') in [−1, 1].

        Raises:
            ValueError: If there are other channels, or the images are smaller than the classifier's.
        """
        height, width = self.classifier.image_shape[1:]
        if images.shape[1] != self.num_channels or images.shape[2] < height or images.shape[3] < width:
            expected = f"{self.num_channels} channels of {height}x{width} pixels or more"
            raise ValueError(f"images have shape {tuple(images.shape[1:])}: expected {expected}")
        top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
        middles = images[:, :, top : top + height, left : left + width].flatten(0, 1)[:, None]
        return self.classifier.features(middles).view(len(images), self.num_features)

    def head(self, features: Tensor) -> Tensor:
        """Returns log-probabilities (B, K^C) of features (B, C·F): those of independent channels."""
        each = features.view(len(features), self.num_channels, -1)
        total: Tensor
        total, *others = self.classifier.head(each).log_softmax(-1).unbind(1)
        for other in others:
            total = (total[:, :, None] + other[:, None]).flatten(1)
        return total
