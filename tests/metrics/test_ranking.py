import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from vaebm.metrics import Interval, Ranking, rank_outliers
from vaebm.metrics.ranking import _resample


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(num: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(num, generator=seeded(seed), dtype=torch.float64) + shift


def sklearn_figures(normal_scores: Tensor, outlier_scores: Tensor) -> tuple[float, float, float]:
    scores = torch.cat([normal_scores, outlier_scores]).numpy()
    labels = np.repeat([0, 1], [len(normal_scores), len(outlier_scores)])
    false_rates, true_rates, _ = roc_curve(labels, scores, drop_intermediate=False)
    fpr95 = false_rates[np.argmax(true_rates >= 0.95)]
    return roc_auc_score(labels, scores), average_precision_score(labels, scores), float(fpr95)


def values(ranking: Ranking) -> tuple[float, float, float]:
    return ranking.auroc.value, ranking.aupr.value, ranking.fpr95.value


@pytest.mark.parametrize(("num_normal", "num_outlier", "shift"), [(500, 300, 1.0), (40, 20, 0.0), (7, 100, -2.0)])
def test_parity_with_sklearn(num_normal: int, num_outlier: int, shift: float) -> None:
    a, b = normal(num_normal, 1), normal(num_outlier, 2, shift)
    assert values(rank_outliers(a, b, generator=seeded())) == pytest.approx(sklearn_figures(a, b), rel=1e-12)


def test_parity_with_sklearn_under_ties() -> None:
    a, b = (normal(300, 3) * 2).round(), (normal(200, 4, 0.5) * 2).round()
    assert values(rank_outliers(a, b, generator=seeded())) == pytest.approx(sklearn_figures(a, b), rel=1e-12)


def test_every_resample_agrees_with_sklearn() -> None:
    a, b = normal(60, 5).round(decimals=1), normal(50, 6, 1.0).round(decimals=1)
    generator = seeded(9)
    resamples = [sklearn_figures(_resample(a, generator), _resample(b, generator)) for _ in range(30)]
    low, high = np.quantile(resamples, [0.025, 0.975], axis=0)
    ranking = rank_outliers(a, b, num_bootstrap=30, generator=seeded(9))
    intervals = (ranking.auroc, ranking.aupr, ranking.fpr95)
    assert [interval.low for interval in intervals] == pytest.approx(low.tolist(), rel=1e-12)
    assert [interval.high for interval in intervals] == pytest.approx(high.tolist(), rel=1e-12)


def test_interval_width_follows_the_theory_of_the_area() -> None:
    a, b = normal(400, 7), normal(300, 8, 1.0)
    ranking = rank_outliers(a, b, num_bootstrap=500, generator=seeded())
    wins = (b[:, None] > a).double()
    variance = wins.mean(1).var() / len(b) + wins.mean(0).var() / len(a)
    width = ranking.auroc.high - ranking.auroc.low
    assert width == pytest.approx(2 * 1.96 * math.sqrt(float(variance)), rel=0.2)
    assert ranking.auroc.low < ranking.auroc.value < ranking.auroc.high
    expected = 0.5 * (1 + math.erf(0.5))
    assert ranking.auroc.low < expected < ranking.auroc.high


def test_perfect_separation_is_perfect_in_every_figure() -> None:
    ranking = rank_outliers(torch.arange(10.0), torch.arange(10.0, 15.0), num_bootstrap=20, generator=seeded())
    assert ranking == Ranking(Interval(1, 1, 1), Interval(1, 1, 1), Interval(0, 0, 0), 10, 5, 20)


def test_reversed_separation_flags_every_normal_image() -> None:
    ranking = rank_outliers(torch.ones(10), torch.zeros(5), num_bootstrap=20, generator=seeded())
    assert ranking.auroc.value == 0
    assert ranking.fpr95.value == 1


def test_constant_score_is_chance() -> None:
    ranking = rank_outliers(torch.zeros(30), torch.zeros(10), num_bootstrap=5, generator=seeded())
    assert values(ranking) == (0.5, 0.25, 1.0)


def test_fpr95_takes_outliers_as_positive() -> None:
    outliers = torch.arange(100.0)
    normals = torch.tensor([-1.0, 4.5, 5.5, 200.0])
    ranking = rank_outliers(normals, outliers, num_bootstrap=1, generator=seeded())
    assert ranking.fpr95.value == 0.5


def test_infinite_scores_keep_their_rank() -> None:
    infinite = torch.tensor([0.0, 1.0, math.inf]), torch.tensor([0.5, math.inf])
    large = torch.tensor([0.0, 1.0, 9.0]), torch.tensor([0.5, 9.0])
    assert rank_outliers(*infinite, generator=seeded()) == rank_outliers(*large, generator=seeded())


def test_same_seed_gives_the_same_interval() -> None:
    a, b = normal(50, 1), normal(50, 2, 1.0)
    first, second, other = (rank_outliers(a, b, generator=seeded(seed)) for seed in (3, 3, 4))
    assert first == second
    assert first.auroc.low != other.auroc.low
    assert first.auroc.value == other.auroc.value


@pytest.mark.parametrize("bad", [torch.tensor([0.0, math.nan]), torch.zeros(0), torch.zeros(2, 1)])
def test_bad_scores_are_refused_by_name(bad: Tensor) -> None:
    with pytest.raises(ValueError, match="outlier_scores"):
        rank_outliers(torch.zeros(3), bad, generator=seeded())
    with pytest.raises(ValueError, match="normal_scores"):
        rank_outliers(bad, torch.zeros(3), generator=seeded())


def test_no_resample_is_refused() -> None:
    with pytest.raises(ValueError, match="num_bootstrap is 0"):
        rank_outliers(torch.zeros(3), torch.ones(3), num_bootstrap=0, generator=seeded())
