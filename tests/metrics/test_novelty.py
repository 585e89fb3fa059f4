"""Neighbours and Mahalanobis distances against scikit-learn, on features of real images."""

from __future__ import annotations

import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from vaebm.data import load_splits, to_float
from vaebm.metrics import fit_gaussian, mahalanobis_distances, neighbour_distances


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return to_float(load_splits("digits").training.images[:300]).flatten(1).double()


@pytest.mark.parametrize("count", [40, 250])
def test_shrinkage_and_distances_are_those_of_scikit_learn(pixels: Tensor, count: int) -> None:
    # 40 images of 64 pixels, some of them always black: without shrinkage there is no inverse.
    reference, queries = pixels[:count], pixels[250:]
    theirs = LedoitWolf().fit(reference.numpy())
    ours = fit_gaussian(reference)
    assert ours.shrinkage == pytest.approx(theirs.shrinkage_, rel=1e-9)
    covariance = torch.from_numpy(theirs.covariance_)
    assert torch.allclose(ours.factor @ ours.factor.T, covariance, rtol=1e-9, atol=1e-12)
    squares = torch.from_numpy(theirs.mahalanobis(queries.numpy()))
    assert torch.allclose(mahalanobis_distances(ours, queries).square(), squares, rtol=1e-6)


@pytest.mark.parametrize("num_neighbours", [1, 5])
def test_neighbours_are_those_of_scikit_learn(pixels: Tensor, num_neighbours: int) -> None:
    reference, queries = pixels[:200], pixels[200:]
    theirs = NearestNeighbors(n_neighbors=num_neighbours).fit(reference.numpy()).kneighbors(queries.numpy())[0][:, -1]
    ours = neighbour_distances(reference, queries, num_neighbours)
    assert torch.allclose(ours, torch.from_numpy(theirs), rtol=1e-9)


def test_what_is_in_the_reference_has_no_distance(pixels: Tensor) -> None:
    assert neighbour_distances(pixels + 1e6, pixels[:3] + 1e6, 1).tolist() == [0.0, 0.0, 0.0]


def test_distances_do_not_depend_on_company(pixels: Tensor) -> None:
    gaussian, order = fit_gaussian(pixels[:200]), torch.randperm(100)
    for score in (
        lambda queries: mahalanobis_distances(gaussian, queries),
        lambda queries: neighbour_distances(pixels[:200], queries),
    ):
        whole = score(pixels[200:])
        assert torch.allclose(score(pixels[200:][order]), whole[order], rtol=1e-10)
        assert torch.allclose(score(pixels[200:201]), whole[:1], rtol=1e-10)


def test_a_known_gaussian_gives_distances_of_its_dimension() -> None:
    generator = torch.Generator().manual_seed(0)
    widths = torch.linspace(0.5, 2, 8, dtype=torch.float64)
    sample = torch.randn(20_000, 8, generator=generator, dtype=torch.float64) * widths + 5
    gaussian = fit_gaussian(sample[:10_000])
    # E of a squared distance is F; 10,000 of them scatter by √(2F/10,000) = .04.
    assert float(mahalanobis_distances(gaussian, sample[10_000:]).square().mean()) == pytest.approx(8, abs=0.25)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: neighbour_distances(torch.zeros(3, 2), torch.zeros(1, 3)), "shape|features"),
        (lambda: neighbour_distances(torch.zeros(5, 2), torch.zeros(1, 3)), "2 and 3 features"),
        (lambda: neighbour_distances(torch.zeros(5, 2), torch.zeros(1, 2), 0), "at least 1"),
        (lambda: fit_gaussian(torch.ones(5, 2)), "all the same"),
        (lambda: mahalanobis_distances(fit_gaussian(torch.eye(3)), torch.zeros(1, 2)), "3 and 2 features"),
    ],
)
def test_what_can_not_be_judged_is_refused(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
