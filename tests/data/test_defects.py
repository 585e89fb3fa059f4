"""Defects on real digits and on patterns whose defect is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vaebm.data import DEFECTS, DataError, blurs, defect_sets, holes, load_images, scratches, shifts


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.from_numpy(load_images("mnist").images[:60])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (5, 3, 31, 40), (2, 3, 128, 64), (1, 1, 9, 128)])
@pytest.mark.parametrize("severity", [0.0, 0.5, 1.0])
def test_any_size_comes_back_in_bytes(shape: tuple[int, ...], severity: float) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    before = images.clone()
    for name, spoilt in defect_sets(images, seeded(), severity).items():
        assert (spoilt.shape, spoilt.dtype) == (images.shape, torch.uint8), name
        assert bool((spoilt != images).flatten(1).any(1).all()), name
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", DEFECTS)
def test_every_digit_is_spoilt_the_same_way_again(digits: Tensor, name: str) -> None:
    spoilt = DEFECTS[name](digits, seeded(), 0.5)
    assert torch.equal(spoilt, DEFECTS[name](digits, seeded(), 0.5))
    assert bool((spoilt != digits).flatten(1).any(1).all())


@pytest.mark.parametrize("name", DEFECTS)
def test_more_severe_is_further_off(digits: Tensor, name: str) -> None:
    def distance(severity: float) -> float:
        return float((DEFECTS[name](digits, seeded(), severity).float() - digits.float()).square().mean())

    assert 0 < distance(0.1) < distance(0.5) < distance(1.0)


def test_a_scratch_is_a_line_and_leaves_the_rest(digits: Tensor) -> None:
    changed = (scratches(digits, seeded(), 0.5) != digits)[:, 0]
    for mask in changed:
        places = mask.nonzero().double()
        spread = torch.linalg.svdvals(places - places.mean(0)) / len(places) ** 0.5
        # A line of 15 × 1 pixels, and less of it where it crosses what has its level already.
        assert spread[1] < 1.2
    assert float(changed.double().mean()) < 0.06


def test_a_hole_takes_ink_away_and_never_adds_any(digits: Tensor) -> None:
    cut = holes(digits, seeded(), 0.5)
    assert bool((cut <= digits).all())
    lost = 1 - cut.double().sum((1, 2, 3)) / digits.double().sum((1, 2, 3))
    assert float(lost.min()) > 0.03
    assert float(lost.max()) < 0.7


def test_a_blur_is_scipys(digits: Tensor) -> None:
    from scipy.ndimage import gaussian_filter

    width = 28 * (0.01 + 0.09 * 0.5)
    expected = gaussian_filter(digits.numpy().astype(np.float64), (0, 0, width, width), mode="nearest", truncate=5)
    assert np.abs(blurs(digits, seeded(), 0.5).numpy() - expected).max() < 1.5


def test_a_shift_moves_all_pixels_alike() -> None:
    images = torch.zeros(200, 3, 20, 20, dtype=torch.uint8)
    images[:, :, 10, 10] = torch.tensor([10, 20, 30], dtype=torch.uint8)
    moved = shifts(images, seeded(), 0.5)
    places = (moved[:, 0] == 10).nonzero()
    assert len(places) == 200
    distances = (places[:, 1:] - 10).double().norm(dim=1)
    # 20 (.05 + .1) = 3 pixels, each coordinate rounded.
    assert bool(((distances - 3).abs() <= 0.75).all())
    assert len({tuple(place) for place in places[:, 1:].tolist()}) > 8
    assert torch.equal(moved.sum((2, 3)), images.sum((2, 3)))


def test_one_colour_has_no_hole() -> None:
    grey = torch.full((2, 1, 8, 8), 9, dtype=torch.uint8)
    assert torch.equal(holes(grey, seeded()), grey)


def test_what_can_not_be_spoilt_is_refused(digits: Tensor) -> None:
    for make in DEFECTS.values():
        with pytest.raises(DataError, match="expected uint8"):
            make(digits.float(), seeded(), 0.5)
        with pytest.raises(DataError, match="from 0 to 1"):
            make(digits, seeded(), 1.5)
