"""Maps of densities: the right way up, on one scale."""

from __future__ import annotations

import numpy as np
import pytest

from vaebm.plots import heat_map


def test_the_first_axis_goes_right_and_the_second_up() -> None:
    density = np.zeros((4, 4))
    density[3, 0] = 1.0
    picture = heat_map(density, 1.0, size=8).astype(int).sum(2)
    assert picture.shape == (8, 8)
    assert picture.argmax() in (8 * row + column for row in (6, 7) for column in (6, 7))


def test_one_scale_for_several_maps() -> None:
    low, high = heat_map(np.full((2, 2), 0.25), 1.0, 2), heat_map(np.full((2, 2), 1.0), 1.0, 2)
    assert np.array_equal(low, heat_map(np.full((2, 2), 0.5), 2.0, 2))
    assert low.sum() < high.sum()
    assert np.array_equal(high, heat_map(np.full((2, 2), 9.0), 1.0, 2))


def test_bad_maps() -> None:
    with pytest.raises(ValueError, match="expected"):
        heat_map(np.zeros((2, 3)), 1.0)
    with pytest.raises(ValueError, match="expected"):
        heat_map(np.zeros((2, 2)), 0.0)
