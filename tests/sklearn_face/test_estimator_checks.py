"""scikit-learn's own checks of estimators, on the detector and on one that paints any table as pictures.

The checks feed tables of a few columns, which are no pictures. On the detector itself, those that fit end with its one
line about it. To see what they are after all the same, a second class paints a row of numbers as an 8×8 picture, and
changes nothing else. Whatever isn't listed here must pass, and whatever is listed must fail as it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from short_fits import SHORTEST
from sklearn.utils.estimator_checks import estimator_checks_generator

from vaebm.sklearn import VAEBMDetector

TABLES = (
    # Skipped unless SCIPY_ARRAY_API=1 is set before scipy is imported.
    "check_array_api_input",
    "check_classifier_data_not_an_array",
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_predict1d",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_outliers_fit_predict",
    "check_outliers_train",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
)
ON_ITSELF = dict.fromkeys(TABLES, r"X has \d+ feature\(s\): expected 64|raised DataError unexpectedly")
ON_PAINTED = dict.fromkeys(
    ("check_outliers_fit_predict", "check_outliers_train"),
    "The number of predicted outliers is not equal to the expected number of outliers",
)


class PaintedDetector(VAEBMDetector):
    """Takes any table: the k numbers of a row fill an 8×8 picture, again and again."""

    def _levels(self, values: NDArray[Any], *, is_fit: bool) -> NDArray[np.uint8]:
        if is_fit:
            self.image_shape_ = (1, 8, 8)
        rows = np.rint(127.5 * (1 + np.tanh(values.astype(np.float64) / 5))).astype(np.uint8)
        return np.stack([np.resize(row, (1, 8, 8)) for row in rows])


def name_of(check: partial[None]) -> str:
    return str(check.func.__name__)


def words_of(check: partial[None]) -> str:
    return "-".join([name_of(check), *(f"{name}={value}" for name, value in check.keywords.items())])


def checks_of(estimator: VAEBMDetector) -> list[partial[None]]:
    return [check for _, check in estimator_checks_generator(estimator)]


SHARES = {"contamination": 0.25, "calibration_share": 0.3}
ITSELF = VAEBMDetector((8, 8), value_range=(-200, 200), **SHARES, **SHORTEST)
PAINTED = PaintedDetector(value_range=(-200, 200), **SHARES, **SHORTEST)


def hold(estimator: VAEBMDetector, check: Callable[[Any], None], expected: str | None) -> None:
    if expected is None:
        check(estimator)
        return
    # An unexpected error doesn't match; a skipped check stays skipped.
    with pytest.raises((AssertionError, ValueError), match=expected):
        check(estimator)


@pytest.mark.parametrize("check", checks_of(ITSELF), ids=words_of)
def test_checks_on_the_detector(check: partial[None]) -> None:
    hold(ITSELF, check, ON_ITSELF.get(name_of(check)))


@pytest.mark.parametrize("check", checks_of(PAINTED), ids=words_of)
def test_checks_on_painted_tables(check: partial[None]) -> None:
    hold(PAINTED, check, ON_PAINTED.get(name_of(check)))


def test_the_lists_hold_nothing_else() -> None:
    names = {name_of(check) for check in checks_of(ITSELF)}
    assert set(ON_ITSELF) <= names
    assert set(ON_PAINTED) <= names


def test_the_documents_list_what_does_not_pass() -> None:
    text = (Path(__file__).parents[2] / "docs" / "sklearn.md").read_text(encoding="utf-8")
    section = text.split("## scikit-learn's checks", 1)[1].split("\n## ", 1)[0]
    itself, painted = section.split("All others pass", 1)
    assert set(re.findall(r"`(check_\w+)`", itself)) == set(ON_ITSELF)
    assert set(re.findall(r"`(check_outliers_\w+)`", painted)) == set(ON_PAINTED)
