"""Classes for sets that no classifier at hand knows: a linear probe on the features of any network.

A logistic regression on standardised features of labelled images turns a feature network into a judge with classes. Its
accuracy on images that it hasn't seen stands beside every histogram that it makes: classes that it confuses are
confused there too.

References:
    Understanding intermediate layers using linear classifier probes, https://arxiv.org/abs/1610.01644
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaebm.data import ImageSet, evenly_spaced, to_float
from vaebm.evaluation.features import Judge, extract

__all__ = ["Probe", "fit_probe"]

MOST_IMAGES = 5000


class _Probed(nn.Module):
    """A feature network with a linear head on its features."""

    weight: Tensor
    bias: Tensor

    def __init__(self, network: Any, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.network, self.num_features = network, int(network.num_features)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def features(self, images: Tensor) -> Tensor:
        """Returns features (B, F) of images (B, C, H, W)."""
        found: Tensor = self.network.features(images)
        return found

    def head(self, features: Tensor) -> Tensor:
        """Returns logits (B, K) of features (B, F)."""
        logits: Tensor = features.double() @ self.weight.T + self.bias
        return logits


@dataclass(frozen=True, eq=False)
class Probe:
    """A judge with classes, and how well it knows them.

    Arguments:
        judge: The judge; the i-th class is the i-th of ``labels``.
        labels: The labels of the training images, ascending, (K,).
        accuracy: The share of held-out images whose label it tells.
        num_held_out: How many those are.
    """

    judge: Judge
    labels: NDArray[np.int64]
    accuracy: float
    num_held_out: int


def fit_probe(judge: Judge, training: ImageSet, held_out: ImageSet) -> Probe:
    """Fits a linear probe.

    Arguments:
        judge: The feature network.
        training: Labelled images; at most 5,000 of them, evenly spaced, are looked at.
        held_out: Other labelled images.

    Returns:
        The judge with classes, and its accuracy on at most 5,000 held-out images.

    Raises:
        ValueError: If images have no labels, or all the same one.
    """
    from sklearn.linear_model import LogisticRegression

    if training.labels is None or held_out.labels is None:
        raise ValueError(f"{training.name} has no labels, which a probe learns from")
    some, others = _few(training), _few(held_out)
    assert some.labels is not None
    assert others.labels is not None
    labels = np.unique(some.labels)
    if len(labels) < 2:
        raise ValueError(f"all images of {training.name} have the label {labels[0]}: expected at least two labels")
    features = extract(judge, to_float(some.images)).features
    mean, spread = features.mean(0), features.std(0).clamp(min=1e-6)
    model = LogisticRegression(C=0.01, max_iter=500).fit(((features - mean) / spread).numpy(), some.labels)
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if len(labels) == 2:
        # Of two classes scikit-learn keeps the logit of the second.
        weight, bias = torch.cat([-weight / 2, weight / 2]), torch.cat([-bias / 2, bias / 2])
    weight = weight / spread
    network = _Probed(judge.classifier, weight, bias - weight @ mean).eval()
    digest = hashlib.sha256(judge.sha256.encode() + weight.numpy().tobytes() + network.bias.numpy().tobytes())
    probed = Judge(f"probe on {judge.name}", digest.hexdigest(), network, judge.data)
    found = extract(probed, to_float(others.images)).probabilities
    assert found is not None
    told = labels[found.argmax(1).numpy()]
    return Probe(probed, labels, float((told == others.labels).mean()), len(others))


def _few(images: ImageSet) -> ImageSet:
    if len(images) <= MOST_IMAGES:
        return images
    return images.take(evenly_spaced(len(images), MOST_IMAGES).tolist())
