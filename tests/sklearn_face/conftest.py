"""scikit-learn's 8×8 digits, and a detector fitted to half of them in about two seconds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from short_fits import SHORT, Digits
from sklearn.datasets import load_digits

from vaebm.sklearn import VAEBMDetector


@pytest.fixture(scope="session")
def digits() -> Digits:
    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.images))
    return Digits(bunch.images[order], bunch.target[order])


@pytest.fixture(scope="session")
def fitted(digits: Digits) -> VAEBMDetector:
    """Fitted to the first 900 digits."""
    return VAEBMDetector(value_range=(0, 16), random_state=0, **SHORT).fit(digits.images[:900])


@pytest.fixture
def levels(digits: Digits) -> NDArray[np.uint8]:
    """The digits as bytes."""
    return np.rint(digits.images * (255 / 16)).astype(np.uint8)
