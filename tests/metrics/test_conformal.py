import math

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from vaebm.metrics import conformal_p_values, false_positive_rates
from vaebm.metrics.calibration import threshold


def normal(num: int, seed: int) -> Tensor:
    return torch.randn(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_p_values_equal_the_definition_with_ties() -> None:
    calibration, scores = (normal(40, 0) * 2).round(), (normal(30, 1) * 2).round()
    expected = [(1 + int((calibration >= score).sum())) / 41 for score in scores]
    assert conformal_p_values(calibration, scores).tolist() == pytest.approx(expected, rel=1e-15)


def test_p_values_of_exchangeable_images_are_uniform() -> None:
    p_values = conformal_p_values(normal(4999, 2), normal(2000, 3))
    assert kstest(p_values.numpy(), "uniform").pvalue > 0.01
    rates = false_positive_rates(p_values)
    assert list(rates) == [0.01, 0.05, 0.1]
    for level, rate in rates.items():
        assert rate == pytest.approx(level, abs=0.015)


def test_promise_holds_on_average_over_small_calibration_sets() -> None:
    rates = [
        false_positive_rates(conformal_p_values(normal(19, 2 * i), normal(50, 2 * i + 1)), [0.05])[0.05]
        for i in range(400)
    ]
    assert sum(rates) / 400 == pytest.approx(0.05, abs=0.01)


def test_extreme_scores_reach_the_bounds() -> None:
    p_values = conformal_p_values(normal(99, 4), torch.tensor([math.inf, -math.inf]))
    assert p_values.tolist() == [0.01, 1.0]
    assert false_positive_rates(p_values, [0.01, 0.5, 1.0]) == {0.01: 0.5, 0.5: 0.5, 1.0: 1.0}


def test_higher_score_never_has_a_higher_p_value() -> None:
    scores = normal(200, 5).sort().values
    assert bool((conformal_p_values(normal(100, 6), scores).diff() <= 0).all())


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="calibration_scores"):
        conformal_p_values(torch.zeros(0), torch.zeros(1))
    with pytest.raises(ValueError, match="scores holds NaN"):
        conformal_p_values(torch.zeros(1), torch.tensor([math.nan]))
    with pytest.raises(ValueError, match="p_values"):
        false_positive_rates(torch.tensor([1.5]))
    with pytest.raises(ValueError, match="level 5"):
        false_positive_rates(torch.tensor([0.5]), [5])


def neighbours(scores: list[float]) -> Tensor:
    """Each score, the float64 below it and the one above it, and both ends of the line."""
    close = [value for score in scores for value in (math.nextafter(score, -math.inf), score)]
    above = [math.nextafter(score, math.inf) for score in scores]
    return torch.tensor([*close, *above, -math.inf, math.inf, 0.0, -0.0], dtype=torch.float64)


@pytest.mark.parametrize("num", range(1, 41))
def test_threshold_decides_as_p_values_do_at_every_rate_and_tie(num: int) -> None:
    calibration = (normal(num, num) * 2).round() - 900.1234
    queries = neighbours(calibration.tolist())
    p_values = conformal_p_values(calibration, queries)
    rates = {k / (num + 1) for k in range(1, num + 2)} | {k / 100 for k in range(1, 101)}
    for exact in sorted(rates):
        for rate in (math.nextafter(exact, 0), exact, math.nextafter(exact, 1)):
            if rate < float(torch.tensor(1.0, dtype=torch.float64) / (num + 1)):
                with pytest.raises(ValueError, match="smallest p-value"):
                    threshold(calibration, rate)
                continue
            assert torch.equal(queries >= threshold(calibration, rate), p_values <= rate), rate


def test_threshold_at_extreme_calibration_scores() -> None:
    largest = torch.finfo(torch.float64).max
    for calibration in ([-math.inf, -1.0, 0.0], [largest, -largest, largest], [0.0, -0.0, 5e-324], [-5e-324, 1.0, 2.0]):
        scores = torch.tensor(calibration, dtype=torch.float64)
        queries = neighbours(calibration)
        for rate in (0.25, 0.5, 0.75, 1.0):
            flagged = conformal_p_values(scores, queries) <= rate
            assert torch.equal(queries >= threshold(scores, rate), flagged), (calibration, rate)
    with pytest.raises(ValueError, match=r"\+inf"):
        threshold(torch.tensor([0.0, math.inf]), 0.5)
    with pytest.raises(ValueError, match="calibration_scores"):
        threshold(torch.zeros(0), 0.5)
