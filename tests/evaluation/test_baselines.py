"""Baselines on real digits: what they notice, and that an image's score is its own."""

from __future__ import annotations

import pytest
import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor

from vaebm.data import blurs, load_splits, scratches, to_float
from vaebm.evaluation import baseline_scores, fit_baselines, png_bits
from vaebm.metrics import rank_outliers
from vaebm.recipes import load_extractor, load_judges


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.from_numpy(load_splits("digits").training.images[:400])


def test_each_notices_noise(digits: Tensor) -> None:
    judge = load_judges((1, 8, 8))[0]
    baselines = fit_baselines(digits[:300], judge)
    normal = baseline_scores(baselines, digits[300:])
    noise = torch.randint(256, (100, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    odd = baseline_scores(baselines, noise)
    assert list(normal) == [
        "complexity", "pixel statistics", "kNN, pixels", "kNN, features", "Mahalanobis, features",
    ]  # fmt: skip
    for name, values in odd.items():
        ranking = rank_outliers(normal[name], values, num_bootstrap=1, generator=torch.Generator().manual_seed(0))
        assert ranking.auroc.value > 0.9, name


def test_scores_do_not_depend_on_company(digits: Tensor) -> None:
    baselines, order = fit_baselines(digits[:200], load_judges((1, 8, 8))[0]), torch.randperm(100)
    whole = baseline_scores(baselines, digits[300:])
    mixed = baseline_scores(baselines, digits[300:][order])
    alone = baseline_scores(baselines, digits[300:301])
    for name, values in whole.items():
        assert torch.allclose(mixed[name], values[order], rtol=1e-4), name
        assert torch.allclose(alone[name], values[:1], rtol=1e-4), name


def test_without_an_extractor_three_are_left(digits: Tensor) -> None:
    baselines = fit_baselines(digits[:3], None)
    assert list(baseline_scores(baselines, digits[:5])) == ["complexity", "pixel statistics", "kNN, pixels"]
    # Fewer images than neighbours: the furthest of them.
    furthest = torch.cdist(to_float(digits[9:10]).flatten(1), to_float(digits[:3]).flatten(1)).max()
    assert float(baseline_scores(baselines, digits[9:10])["kNN, pixels"]) == pytest.approx(float(furthest), rel=1e-6)


def test_complexity_counts_both_ways() -> None:
    images = torch.from_numpy(load_splits("mnist").training.images[:300])
    generator = torch.Generator().manual_seed(0)
    baselines = fit_baselines(images[:200], None)
    bits = png_bits(images[200:])
    assert float(bits.mean()) < float(png_bits(scratches(images[200:], generator, 1.0)).mean())
    # A blur of digits makes greys of black and white, which cost more.
    for spoilt in (scratches(images[200:], generator, 1.0), blurs(images[200:], generator, 0.5), images[200:] * 0):
        score = baseline_scores(baselines, spoilt)["complexity"]
        assert float(score.mean()) > float(baseline_scores(baselines, images[200:])["complexity"].mean())


def test_pixel_statistics_are_those_of_a_shrunk_gaussian() -> None:
    images = torch.from_numpy(load_splits("stacked_mnist").training.images[:200])
    flat = to_float(images).double().flatten(2)
    moments = torch.cat([flat.mean(2), flat.std(2)], 1).numpy()
    known = LedoitWolf().fit(moments[:150])
    expected = known.mahalanobis(moments[150:]) ** 0.5
    scores = baseline_scores(fit_baselines(images[:150], None), images[150:])["pixel statistics"]
    assert scores.numpy() == pytest.approx(expected, rel=1e-6)
    # Pictures of the same pixels in other places have the same statistics, which tell nothing.
    moved = torch.stack([images[0].roll(shift, 2) for shift in range(4)])
    assert "pixel statistics" not in baseline_scores(fit_baselines(moved, None), images[:2])


def test_the_extractor_takes_any_picture() -> None:
    images = torch.randint(256, (6, 3, 12, 20), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    scores = baseline_scores(fit_baselines(images[:4], load_extractor()), images[4:])
    assert all(bool(torch.isfinite(values).all()) and len(values) == 2 for values in scores.values())


def test_one_image_is_too_few(digits: Tensor) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        fit_baselines(digits[:1], None)


def test_grey_pictures_have_no_smaller_files_for_their_form() -> None:
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(256, (4, 1, 32, 32), generator=generator, dtype=torch.uint8).expand(-1, 3, -1, -1).contiguous()
    tinted = grey.clone()
    tinted[:, 0, 0, 0] ^= 1
    # One bit of one pixel makes them coloured, and next to nothing of their size.
    assert (png_bits(grey) / png_bits(tinted)).tolist() == pytest.approx([1] * 4, abs=0.01)
