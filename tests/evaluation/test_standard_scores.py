"""FID, KID and IS by torchmetrics."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from vaebm.evaluation import JudgedImages, standard_scores
from vaebm.metrics import feature_statistics, frechet_distance, kernel_distance


def seen(num_images: int, shift: float, seed: int, num_classes: int = 0) -> JudgedImages:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(6, 6, generator=torch.Generator().manual_seed(9)).double()
    features = shift + torch.randn(num_images, 6, generator=generator).double() @ mixing
    probabilities = None
    if num_classes:
        probabilities = (3 * torch.randn(num_images, num_classes, generator=generator).double()).softmax(1)
    return JudgedImages(features, probabilities)


def textbook_frechet(x: Tensor, y: Tensor) -> float:
    a, b = (np.cov(rows.numpy(), rowvar=False) for rows in (x, y))
    root = scipy.linalg.sqrtm(a @ b)
    shift = (x.mean(0) - y.mean(0)).square().sum()
    return float(shift) + float(np.trace(a + b - 2 * root.real))


def test_fid_is_that_of_the_textbook_and_of_our_own_distance() -> None:
    images, reference = seen(300, 0.5, 0), seen(400, 0.0, 1)
    found = standard_scores(images, reference, seed=0)
    assert found.fid == pytest.approx(textbook_frechet(images.features, reference.features), rel=1e-6)
    ours = frechet_distance(feature_statistics(images.features), feature_statistics(reference.features))
    assert found.fid == pytest.approx(ours, rel=1e-6)
    assert (found.num_images, found.num_reference, found.subset_size) == (300, 400, 150)


def test_kid_agrees_with_our_own_distance_and_needs_no_global_seed() -> None:
    images, reference = seen(300, 0.5, 0), seen(400, 0.0, 1)
    before = torch.get_rng_state()
    found, again, other = (standard_scores(images, reference, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert found == again
    assert found.kid != other.kid
    ours = kernel_distance(images.features, reference.features, num_subsets=100, subset_size=150,
                           generator=torch.Generator().manual_seed(5))  # fmt: skip
    # Both are means over random subsets.
    assert found.kid == pytest.approx(ours.mean, abs=4 * found.kid_std / 10)


def test_the_score_is_that_of_its_definition() -> None:
    images = seen(400, 0.0, 2, num_classes=5)
    found = standard_scores(images, seen(100, 0.0, 3), seed=0)
    assert images.probabilities is not None
    marginal = images.probabilities.mean(0)
    divergence = (images.probabilities * (images.probabilities / marginal).log()).sum(1).mean()
    assert found.inception_score == pytest.approx(math.exp(divergence), rel=0.05)
    # Without classes there is none.
    assert standard_scores(seen(100, 0.0, 2), seen(100, 0.0, 3), seed=0).inception_score is None


def test_certain_and_even_classes_have_the_largest_score() -> None:
    probabilities = torch.eye(4).double().repeat(100, 1)
    images = JudgedImages(seen(400, 0.0, 2).features, probabilities)
    found = standard_scores(images, seen(100, 0.0, 3), seed=0)
    assert found.inception_score == pytest.approx(4.0, rel=0.06)


def test_the_interval_holds_what_fresh_images_come_to() -> None:
    reference = seen(500, 0.0, 1)
    found = standard_scores(seen(500, 0.4, 0), reference, seed=0, num_bootstrap=40)
    fresh = [standard_scores(seen(500, 0.4, seed), seen(500, 0.0, 100 + seed), seed=0).fid for seed in range(40)]
    assert found.fid_error is not None
    assert 0.6 < found.fid_error / float(np.std(fresh)) < 1.6
    exact = standard_scores(seen(500, 0.4, 0), reference, seed=0)
    assert (exact.fid, exact.fid_error, exact.kid_error) == (found.fid, None, None)
    with pytest.raises(ValueError, match="one resample has no spread"):
        standard_scores(seen(500, 0.4, 0), reference, seed=0, num_bootstrap=1)


def test_the_errors_of_kid_and_is_are_those_of_fresh_images() -> None:
    found = [standard_scores(seen(400, 0.4, seed, 5), seen(400, 0.0, 100 + seed), seed=seed, num_bootstrap=20)
             for seed in range(40)]  # fmt: skip
    for figure, error in (("kid", "kid_error"), ("inception_score", "inception_score_error")):
        spread = float(np.std([getattr(one, figure) for one in found]))
        assert 0.7 < float(np.median([getattr(one, error) for one in found])) / spread < 1.4
    # Of few images there is no jackknife, without classes no score.
    few = standard_scores(seen(30, 0.4, 0), seen(50, 0.0, 1), seed=0, num_bootstrap=2)
    assert (few.kid_error, few.inception_score_error) == (None, None)
    exact = standard_scores(seen(50, 0.4, 0, 5), seen(50, 0.0, 1), seed=0)
    assert exact.inception_score is not None
    assert exact.inception_score_error is None


def test_bad_features_are_refused() -> None:
    good = seen(50, 0.0, 0)
    with pytest.raises(ValueError, match="too few for a covariance: expected 20"):
        standard_scores(seen(19, 0.0, 1), good, seed=0)
    with pytest.raises(ValueError, match="different extractors"):
        standard_scores(JudgedImages(torch.zeros(50, 3).double(), None), good, seed=0)
    broken = JudgedImages(good.features.clone(), None)
    broken.features[3, 2] = math.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        standard_scores(broken, good, seed=0)


def test_it_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        standard_scores(seen(50, 0.0, 0, 3), seen(50, 0.0, 1), seed=0)
