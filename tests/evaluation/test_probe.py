"""A linear probe on features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaebm.data import ImageSet, load_splits, to_float
from vaebm.evaluation import Judge, extract, fit_probe


class Pixels(nn.Module):
    num_features = 64

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


PIXELS = Judge("pixels", "0" * 64, Pixels().eval())


def test_it_learns_digits_from_pixels() -> None:
    splits = load_splits("digits", 0)
    probe = fit_probe(PIXELS, splits.training, splits.selection)
    assert probe.accuracy > 0.9
    assert probe.labels.tolist() == list(range(10))
    assert probe.judge.name == "probe on pixels"
    seen = extract(probe.judge, to_float(splits.test.images))
    assert seen.probabilities is not None
    assert splits.test.labels is not None
    assert float((seen.probabilities.argmax(1).numpy() == splits.test.labels).mean()) > 0.9
    # Other features or labels, another hash.
    assert fit_probe(PIXELS, splits.training, splits.selection).judge.sha256 == probe.judge.sha256
    fewer = splits.training.take(list(range(300)))
    assert fit_probe(PIXELS, fewer, splits.selection).judge.sha256 != probe.judge.sha256


def test_two_labels_of_any_value() -> None:
    splits = load_splits("digits", 0)

    def pair(images: ImageSet) -> ImageSet:
        assert images.labels is not None
        kept = images.take(np.flatnonzero(images.labels < 2))
        assert kept.labels is not None
        return replace(kept, labels=np.where(kept.labels == 1, 7, 3))

    probe = fit_probe(PIXELS, pair(splits.training), pair(splits.selection))
    assert probe.labels.tolist() == [3, 7]
    assert probe.accuracy > 0.95
    seen = extract(probe.judge, to_float(pair(splits.test).images))
    assert seen.probabilities is not None
    assert seen.probabilities.shape[1] == 2


def test_labels_are_needed() -> None:
    splits = load_splits("digits", 0)
    with pytest.raises(ValueError, match="has no labels, which a probe learns from"):
        fit_probe(PIXELS, replace(splits.training, labels=None), splits.selection)
    same = replace(splits.training, labels=np.ones(len(splits.training), np.int64))
    with pytest.raises(ValueError, match="have the label 1: expected at least two"):
        fit_probe(PIXELS, same, splits.selection)


def test_a_judge_of_another_shape_says_so() -> None:
    class Fixed(Pixels):
        image_shape = (1, 8, 8)

    judge = Judge("fixed", "0" * 64, Fixed().eval())
    assert len(extract(judge, torch.zeros(2, 1, 8, 8))) == 2
    with pytest.raises(ValueError, match=r"takes images \(1, 8, 8\), found \(3, 8, 8\)"):
        extract(judge, torch.zeros(2, 3, 8, 8))
