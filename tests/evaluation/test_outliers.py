import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from vaebm.data import grey_levels, uniform_noise
from vaebm.evaluation import Judge, measure_outliers, rank_scores, score_images


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def simple_scores(images: Tensor) -> dict[str, Tensor]:
    """Two scores without a model: mean brightness, and roughness between neighbours in a row."""
    return {
        "brightness": images.mean((1, 2, 3)),
        "roughness": images.diff(dim=3).abs().mean((1, 2, 3)),
    }


def test_each_score_is_ranked_on_each_set(digits: SimpleNamespace) -> None:
    sets = {"noise": uniform_noise(300, (1, 8, 8), seeded(1)), "grey": grey_levels(200, (1, 8, 8), seeded(2))}
    rows = measure_outliers(simple_scores, digits.test, sets, generator=seeded(3), batch_size=128)
    assert [(row.outliers, row.score) for row in rows] == [
        ("noise", "brightness"),
        ("noise", "roughness"),
        ("grey", "brightness"),
        ("grey", "roughness"),
    ]
    assert {row.seed for row in rows} == {3}
    assert [row.ranking.num_outlier for row in rows] == [300, 300, 200, 200]
    assert {row.ranking.num_normal for row in rows} == {len(digits.test)}
    by_name = {(row.outliers, row.score): row.ranking for row in rows}
    assert by_name["noise", "roughness"].auroc.low > 0.6
    assert by_name["grey", "roughness"].auroc.value == 0
    assert by_name["grey", "roughness"].fpr95.value == 1
    for ranking in by_name.values():
        assert ranking.auroc.low <= ranking.auroc.value <= ranking.auroc.high


def test_confidence_of_a_judge_finds_noise(judge: Judge, digits: SimpleNamespace) -> None:
    def doubt(images: Tensor) -> dict[str, Tensor]:
        logits = judge.classifier.head(judge.classifier.features(images))  # type: ignore[attr-defined]
        return {"doubt_score": 1 - logits.softmax(1).amax(1)}

    noise = 0.3 * torch.randn(300, 1, 8, 8, generator=seeded(4))
    (row,) = measure_outliers(doubt, digits.test, {"noise": noise}, generator=seeded())
    assert row.ranking.auroc.low > 0.7


def test_outliers_pass_through_bytes_as_well() -> None:
    seen: list[Tensor] = []

    def record(images: Tensor) -> dict[str, Tensor]:
        seen.append(images)
        return {"mean": images.mean((1, 2, 3))}

    noise = 5 * torch.randn(9, 1, 4, 4, generator=seeded())
    measure_outliers(record, torch.zeros(5, 1, 4, 4), {"noise": noise}, generator=seeded())
    levels = (torch.cat(seen) + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert float(levels.min()) == 0
    assert float(levels.max()) == 255


def test_scores_in_batches_equal_scores_at_once(digits: SimpleNamespace) -> None:
    whole, parts = (score_images(simple_scores, digits.test, batch_size=size) for size in (10_000, 100))
    assert whole.keys() == parts.keys()
    for name, values in whole.items():
        assert values.dtype == torch.float64
        torch.testing.assert_close(parts[name], values)


def test_stored_scores_give_the_same_rows(digits: SimpleNamespace) -> None:
    noise = uniform_noise(100, (1, 8, 8), seeded(1))
    measured = measure_outliers(simple_scores, digits.test, {"noise": noise}, generator=seeded())
    normal, outlier = score_images(simple_scores, digits.test), score_images(simple_scores, noise)
    assert rank_scores(normal, {"noise": outlier}, generator=seeded()) == measured


def test_row_survives_json(digits: SimpleNamespace) -> None:
    rows = measure_outliers(simple_scores, digits.test, {"copies": digits.test}, generator=seeded(), num_bootstrap=5)
    stored = json.loads(json.dumps([asdict(row) for row in rows], allow_nan=False))
    assert stored[0]["outliers"] == "copies"
    assert stored[0]["ranking"]["auroc"]["value"] == 0.5


def test_misfits_are_refused_by_name() -> None:
    normal = torch.zeros(5, 1, 4, 4)
    with pytest.raises(ValueError, match="outliers colour"):
        measure_outliers(simple_scores, normal, {"colour": torch.zeros(5, 3, 4, 4)}, generator=seeded())
    with pytest.raises(ValueError, match="score pixels has shape"):
        score_images(lambda images: {"pixels": images.flatten(1)}, normal)
    with pytest.raises(ValueError, match="expected \\['energy'\\]"):
        rank_scores({"energy": torch.zeros(2)}, {"noise": {"elbo": torch.zeros(2)}}, generator=seeded())
    with pytest.raises(ValueError, match="as before"):
        score_images(lambda images: {str(len(images)): images.mean((1, 2, 3))}, normal, batch_size=3)
    with pytest.raises(ValueError, match="NaN"):
        rank_scores({"e": torch.zeros(2)}, {"noise": {"e": torch.full((2,), float("nan"))}}, generator=seeded())
    with pytest.raises(ValueError, match="N at least 1"):
        score_images(simple_scores, normal[:0])
