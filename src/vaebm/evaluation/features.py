"""Judges: networks that turn images into the features and class probabilities on which sample quality is measured.

Every set of images goes through bytes first, x ↦ to_float(to_uint8(x)), samples and real images alike. A sampler can
then gain nothing from values that no image file can hold, and figures taken in memory equal those taken from files.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vaebm.data import to_float, to_uint8

__all__ = ["FeatureNetwork", "Judge", "JudgeError", "JudgedImages", "extract"]


class FeatureNetwork(Protocol):
    """Any module with named features; with a `head` as well it is a classifier, and judges classes too."""

    @property
    def num_features(self) -> int:
        """The number of features F."""
        ...

    @property
    def training(self) -> bool:
        """Whether the module is in training mode, which a judge must not be."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """Returns features, (B, F), of images (B, C, H, W) in [-1, 1]."""
        ...


@runtime_checkable
class _Head(Protocol):
    def head(self, features: Tensor) -> Tensor:
        """Returns logits, (B, K), of features (B, F)."""
        ...


@dataclass(frozen=True, eq=False)
class Judge:
    """A feature network with the name and the hash that stand beside every figure it gives.

    Arguments:
        name: What reports call it.
        sha256: The hash of its tensors, in hex (``vaebm.checkpoint.tensors_sha256``).
        classifier: The network, in evaluation mode. Its `head`, if it has one, maps features to logits.
        data: The data set that it was trained on; empty if that isn't known.
    """

    name: str
    sha256: str
    classifier: FeatureNetwork
    data: str = ""


@dataclass(frozen=True, eq=False)
class JudgedImages:
    """What a judge sees in a set of images.

    Arguments:
        features: (N, F), float64, on the CPU.
        probabilities: Class probabilities, (N, K), float64, on the CPU; None if the judge has no head.
    """

    features: Tensor
    probabilities: Tensor | None

    def __len__(self) -> int:
        return len(self.features)

    def take(self, num_images: int) -> "JudgedImages":
        """Returns what was seen in the first images.

        Arguments:
            num_images: How many, at most N.

        Returns:
            The first `num_images` rows.
        """
        probabilities = None if self.probabilities is None else self.probabilities[:num_images]
        return JudgedImages(self.features[:num_images], probabilities)


class JudgeError(ValueError):
    """A judge sees something that isn't finite: its weights are damaged."""


@torch.no_grad()
def extract(judge: Judge, images: Tensor, batch_size: int = 500) -> JudgedImages:
    """Judges images batch by batch, after they have gone through uint8.

    Arguments:
        judge: The judge; its network is on the device of the images.
        images: float, nominally in [-1, 1], (N, C, H, W).
        batch_size: The number of images that the network sees at a time.

    Returns:
        Features, and class probabilities if the judge has a head.

    Raises:
        ValueError: If there is no image, they are of another shape than the judge takes, an image holds NaN, the
            network is in training mode or does not return (B, num_features).
        JudgeError: If features or logits aren't finite.

    Example:
        >>> class Mean(torch.nn.Module):
        ...     num_features = 1
        ...     def features(self, images):
        ...         return images.mean((2, 3))
        >>> judged = extract(Judge("mean", "0" * 64, Mean().eval()), torch.full((2, 1, 4, 4), 7.0))
        >>> judged.features.tolist(), judged.probabilities is None
        ([[1.0], [1.0]], True)
    """
    network = judge.classifier
    if network.training:
        raise ValueError(f"judge {judge.name} is in training mode, expected evaluation mode: call its eval() first")
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"the images have shape {tuple(images.shape)}, expected (N, C, H, W) with N at least 1")
    expected_shape = getattr(network, "image_shape", None)
    if expected_shape is not None and tuple(expected_shape) != tuple(images.shape[1:]):
        raise ValueError(f"judge {judge.name} takes images {tuple(expected_shape)}, found {tuple(images.shape[1:])}")
    channels = getattr(network, "channels", None)
    if channels is not None and images.shape[1] not in channels:
        raise ValueError(
            f"judge {judge.name} takes images of {' or '.join(map(str, channels))} channels, found {images.shape[1]}"
        )
    features, probabilities = [], []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        seen = network.features(to_float(to_uint8(batch)).to(images.device))
        if seen.shape != (len(batch), network.num_features):
            expected = (len(batch), network.num_features)
            raise ValueError(f"judge {judge.name} returned features {tuple(seen.shape)}, expected {expected}")
        features.append(_finite(seen.cpu().double(), judge, "features"))
        if isinstance(network, _Head):
            probabilities.append(_finite(network.head(seen).cpu().double(), judge, "logits").softmax(dim=1))
    return JudgedImages(torch.cat(features), torch.cat(probabilities) if probabilities else None)


def _finite(values: Tensor, judge: Judge, what: str) -> Tensor:
    """Returns values (B, …) as they are.

    Raises:
        JudgeError: If one isn't finite.
    """
    lost = int((~values.isfinite()).any(1).sum())
    if lost:
        raise JudgeError(
            f"judge {judge.name}: its {what} of {lost} of {len(values)} images are NaN or infinite: expected finite "
            "ones; are its weights damaged?"
        )
    return values
