"""The detector among scikit-learn's own tools, and beside the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from short_fits import SHORT, SHORTEST, Digits, changed
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler

from vaebm.cli.main import run
from vaebm.data import Preprocessing
from vaebm.metrics import conformal_p_values
from vaebm.recipes import read_model, save
from vaebm.sklearn import VAEBMDetector


def scaled_down(images: NDArray[np.float64]) -> NDArray[np.float64]:
    return images / 16


def test_a_pipeline_of_flat_pixels(digits: Digits) -> None:
    rows, is_normal = digits.images.reshape(-1, 64), digits.labels < 5
    pipeline = make_pipeline(MinMaxScaler(clip=True), VAEBMDetector((8, 8), random_state=0, **SHORT))
    pipeline.fit(rows[is_normal][:600])
    scores = pipeline.score_samples(rows)
    assert roc_auc_score(is_normal[600:], scores[600:]) > 0.85
    np.testing.assert_array_equal(pipeline.predict(rows) == -1, pipeline.decision_function(rows) < 0)


def test_a_step_before_gives_the_same_as_the_range(digits: Digits) -> None:
    step = FunctionTransformer(scaled_down)
    piped = make_pipeline(step, VAEBMDetector(random_state=0, **SHORTEST)).fit(digits.images[:80])
    plain = VAEBMDetector(value_range=(0, 16), random_state=0, **SHORTEST).fit(digits.images[:80])
    np.testing.assert_array_equal(piped.score_samples(digits.images), plain.score_samples(digits.images))


def normal_folds(is_normal: NDArray[np.bool_], num_folds: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Folds that train on normal pictures and test on all."""
    folds = KFold(num_folds, shuffle=True, random_state=0).split(is_normal)
    return [(train[is_normal[train]], test) for train, test in folds]


def test_a_grid_search_finds_the_longer_training(digits: Digits) -> None:
    rows, is_normal = digits.images[:900].reshape(900, 64), digits.labels[:900] < 5
    pipeline = Pipeline([
        ("scale", MinMaxScaler(clip=True)),
        ("detector", VAEBMDetector((8, 8), random_state=0, num_energy_iterations=5)),
    ])  # fmt: skip
    grid = {"detector__num_vae_iterations": [5, 150], "detector__num_posterior_samples": [2]}
    search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=normal_folds(is_normal, 2), refit=False)
    search.fit(rows, np.where(is_normal, 1, -1))
    means = search.cv_results_["mean_test_score"]
    assert search.best_params_["detector__num_vae_iterations"] == 150
    assert means[1] > 0.85
    assert means[1] > means[0] + 0.05


def test_a_scorer_of_ones_own(digits: Digits) -> None:
    def mean_score(detector: VAEBMDetector, images: NDArray[np.float64], labels: object = None) -> float:
        return float(detector.score_samples(images).mean())

    detector = VAEBMDetector(value_range=(0, 16), random_state=0, **SHORTEST)
    figures = cross_val_score(detector, digits.images[:120], scoring=mean_score, cv=2)
    assert np.isfinite(figures).all()
    assert figures.shape == (2,)


def test_the_command_line_gives_the_same_p_values_and_outliers(
    levels: NDArray[np.uint8], fitted: VAEBMDetector, tmp_path: Path
) -> None:
    save(fitted.model_, tmp_path / "model", calibration=fitted.calibration(), preprocessing=Preprocessing())
    np.savez(tmp_path / "images.npz", images=levels[900:1100])
    out = tmp_path / "scores.csv"
    words = [str(tmp_path / "model"), str(tmp_path / "images.npz"), "--output", str(out)]
    assert run(["score", *words]) == 0
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_type, new = changed(fitted, value_range=None), levels[900:1100]
    scores = [float(row["outlier_score"]) for row in rows]
    # A rounding apart at most.
    np.testing.assert_allclose(scores, -by_type.score_samples(new), rtol=0, atol=1.5e-4)
    np.testing.assert_allclose([float(row["p_value"]) for row in rows], by_type.p_values(new), atol=1e-6)
    assert [row["outlier"] == "1" for row in rows] == list(by_type.predict(new) == -1)
    # At another rate, .05 for one, the outliers are others.
    assert np.count_nonzero(by_type.p_values(new) <= 0.05) < np.count_nonzero(by_type.predict(new) == -1)


@pytest.mark.parametrize("decimals", [0, 4])
@pytest.mark.parametrize("contamination", [0.05, 0.1, 0.5])
def test_the_stored_decision_is_that_of_predict(
    digits: Digits, tmp_path: Path, contamination: float, decimals: int
) -> None:
    detector = VAEBMDetector(value_range=(0, 16), contamination=contamination, random_state=0, **SHORTEST)
    detector.fit(digits.images[:160])
    # Without decimals, calibration scores have ties.
    detector.calibration_scores_ = detector.calibration_scores_.round(decimals)
    detector.offset_ = float(detector.calibration_scores_[detector._rank(160)[0] - 1])
    # Too late to move the decision, so it must not move the rate.
    detector.set_params(contamination=0.3)
    save(detector.model_, tmp_path / "model", calibration=detector.calibration())
    calibration = read_model(tmp_path / "model").calibration
    assert calibration is not None
    found = detector.score_samples(digits.images[160:])
    scores = np.r_[found, detector.calibration_scores_]
    p_values = conformal_p_values(torch.tensor(calibration["outlier_scores"]).double(), -torch.from_numpy(scores))
    is_outlier = scores < detector.offset_
    np.testing.assert_array_equal(found < detector.offset_, detector.predict(digits.images[160:]) == -1)
    np.testing.assert_array_equal(-scores >= calibration["threshold"], is_outlier)
    np.testing.assert_array_equal(p_values.numpy() <= calibration["false_positive_rate"], is_outlier)
    assert calibration["false_positive_rate"] <= contamination
    assert 0 < is_outlier.sum() < len(scores)
