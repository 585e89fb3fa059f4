"""Comparisons of scores whose AUROC is known."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from vaebm.evaluation import Comparison, compare_scores


def drawn(shift: float, count: int, seed: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)) + shift


def compare(normal: dict[str, Tensor], spoilt: dict[str, dict[str, Tensor]]) -> Comparison:
    return compare_scores(normal, spoilt, generator=torch.Generator().manual_seed(0))


def test_areas_are_those_of_scikit_learn() -> None:
    normal = {"a": drawn(0, 60, 1), "b": drawn(0, 60, 2).round()}
    spoilt = {
        kind: {"a": drawn(1, 60, seed), "b": drawn(0.5, 60, seed + 1).round()} for seed, kind in ((3, "x"), (5, "y"))
    }
    found = compare(normal, spoilt)
    for score, of_normal in normal.items():
        areas = []
        for kind in spoilt:
            labels = [0] * 60 + [1] * 60
            areas.append(roc_auc_score(labels, torch.cat([of_normal, spoilt[kind][score]]).numpy()))
            interval = found.auroc[score][kind]
            assert interval.value == pytest.approx(areas[-1], abs=1e-12)
            assert interval.low < interval.value < interval.high
        assert found.auroc[score]["mean"].value == pytest.approx(sum(areas) / 2)


def test_a_clear_winner_is_trusted_and_a_draw_is_not() -> None:
    normal, kind = {"a": drawn(0, 200, 1), "b": drawn(0, 200, 2)}, {"a": drawn(3, 200, 3), "b": drawn(1, 200, 4)}
    clear = compare(normal, {"x": kind})
    assert (clear.best, clear.runner_up, clear.confidence) == ("a", "b", 1.0)
    draw = compare(normal, {"x": {"a": drawn(1, 200, 3), "b": drawn(1, 200, 4)}})
    assert 0.5 <= draw.confidence < 0.97


def test_two_that_find_everything_are_as_good() -> None:
    perfect = {"a": torch.zeros(20), "b": torch.zeros(20)}
    found = compare(perfect, {"x": {"a": torch.ones(20), "b": torch.ones(20)}})
    assert (found.best, found.auroc["b"]["mean"].value, found.confidence) == ("a", 1.0, 0.5)


def test_the_interval_covers_the_truth() -> None:
    # P(N(1, 1) > N(0, 1)) = Φ(1/√2) = .7602
    covered = 0
    for seed in range(40):
        found = compare({"a": drawn(0, 100, 2 * seed)}, {"x": {"a": drawn(1, 100, 2 * seed + 1)}})
        interval = found.auroc["a"]["x"]
        covered += interval.low <= 0.7602 <= interval.high
    assert covered >= 33


def test_a_spoilt_copy_is_drawn_with_its_image() -> None:
    # Half of the images are far off anyway, spoilt or not: drawn apart, the area would scatter more.
    base = torch.cat([torch.zeros(50), torch.full((50,), 10.0)])
    found = compare({"a": base}, {"x": {"a": base + 1}})
    interval = found.auroc["a"]["x"]
    assert interval.value == 0.75
    # Paired, it's 1 − p(1 − p) of the drawn share p, never above 3/4 + 1/4.
    assert interval.low >= 0.75 - 1e-9


def test_other_scores_or_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        compare({"a": torch.zeros(3)}, {"x": {"b": torch.zeros(3)}})
    with pytest.raises(ValueError, match="3 of each"):
        compare({"a": torch.zeros(3)}, {"x": {"a": torch.zeros(4)}})
    with pytest.raises(ValueError, match="at least one"):
        compare({}, {})
