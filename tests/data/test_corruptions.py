import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vaebm.data import (
    OUTLIER_SETS,
    DataError,
    averaged_pairs,
    gaussian_noise,
    grey_levels,
    outlier_sets,
    to_float,
    uniform_noise,
)

SHAPE = (3, 8, 8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_set_keeps_to_the_range_and_to_its_generator() -> None:
    images = uniform_noise(50, SHAPE, seeded(7))
    sets, again, others = (outlier_sets(images, seeded(seed)) for seed in (0, 0, 1))
    for name, drawn in sets.items():
        assert drawn.shape == images.shape, name
        assert drawn.dtype == torch.float32, name
        assert drawn.is_contiguous(), name
        assert drawn.abs().max() <= 1, name
        assert torch.equal(drawn, again[name]), name
        assert not torch.equal(drawn, others[name]), name


def test_gaussian_noise_is_clamped_at_two_deviations() -> None:
    noise = gaussian_noise(500, SHAPE, seeded()).double()
    share = math.erfc(2 / math.sqrt(2))
    assert (noise.abs() == 1).double().mean() == pytest.approx(share, abs=5 * math.sqrt(share / noise.numel()))
    assert noise.median() == pytest.approx(0, abs=0.01)
    assert noise.quantile(0.8413) == pytest.approx(0.5, abs=0.01)
    assert gaussian_noise(500, SHAPE, seeded(), scale=0.1).std() == pytest.approx(0.1, abs=0.002)


def test_uniform_noise_has_the_moments_of_a_uniform() -> None:
    noise = uniform_noise(500, SHAPE, seeded()).double()
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.var() == pytest.approx(1 / 3, abs=0.01)


def test_grey_levels_are_constant_and_cover_the_range() -> None:
    images = grey_levels(2_000, SHAPE, seeded())
    levels = images[:, 0, 0, 0]
    assert torch.equal(images, levels[:, None, None, None].expand_as(images))
    # The largest gap of 2000 uniform levels is about 2 ln(2000) / 2000.
    assert levels.sort().values.diff().max() < 0.03
    assert levels.var() == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_names_of_sets_are_told(channels: int) -> None:
    made = list(outlier_sets(torch.zeros(4, channels, 8, 8), seeded()))
    assert made == list(OUTLIER_SETS if channels > 1 else OUTLIER_SETS[:-1])


def partners(averages: Tensor) -> list[int]:
    """The other image in each average of one-hot images."""
    shares = averages.flatten(1)
    assert torch.equal(shares.diagonal(), torch.full((len(shares),), 0.5))
    return (shares - torch.eye(len(shares)) / 2).argmax(dim=1).tolist()


@pytest.mark.parametrize("num_images", [2, 3, 17])
def test_pairs_form_one_cycle_through_all_images(num_images: int) -> None:
    images = torch.eye(num_images).reshape(num_images, 1, 1, num_images)
    averages = averaged_pairs(images, seeded())
    torch.testing.assert_close(averages.sum(dim=3).flatten(), torch.ones(num_images))
    partner_of = partners(averages)
    visited, at = [], 0
    for _ in range(num_images):
        visited.append(at)
        at = partner_of[at]
    assert at == 0
    assert sorted(visited) == list(range(num_images))


def test_bytes_and_floats_give_the_same_averages() -> None:
    levels = torch.from_numpy(np.arange(40, dtype=np.uint8).reshape(10, 1, 2, 2))
    assert torch.equal(averaged_pairs(levels, seeded()), averaged_pairs(to_float(levels), seeded()))


def test_one_image_has_no_partner() -> None:
    with pytest.raises(DataError, match="expected at least 2"):
        averaged_pairs(torch.zeros(1, 1, 2, 2), seeded())
