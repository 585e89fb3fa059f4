import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from vaebm.metrics import Prdc, prdc
from vaebm.metrics.prdc import _CHUNK


def written_out(reference: Tensor, samples: Tensor, k: int) -> Prdc:
    """The definition, with scikit-learn's neighbours and the whole distance matrix."""
    real, fake = reference.double().numpy(), samples.double().numpy()
    radii = [NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0][:, -1] for x in (real, fake)]
    distances = cdist(real, fake)
    in_real_ball, in_fake_ball = distances < radii[0][:, None], distances < radii[1][None, :]
    return Prdc(
        precision=float(in_real_ball.any(0).mean()),
        recall=float(in_fake_ball.any(1).mean()),
        density=float(in_real_ball.sum() / (k * len(fake))),
        coverage=float(in_real_ball.any(1).mean()),
        num_neighbours=k,
    )


def normal(num: int, size: int, seed: int, scale: float = 1.0) -> Tensor:
    return torch.randn(num, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


@pytest.mark.parametrize("num_neighbours", [1, 5])
def test_parity_with_written_out_definition_across_chunks(num_neighbours: int) -> None:
    reference, samples = normal(_CHUNK + 101, 6, 0), normal(_CHUNK + 7, 6, 1, scale=0.8) + 0.3
    result = prdc(reference, samples, num_neighbours)
    assert result == written_out(reference, samples, num_neighbours)
    assert 0.3 < result.coverage < 1


def test_parity_on_digits() -> None:
    pixels = torch.as_tensor(load_digits().data)
    noisy = pixels[900:] + normal(897, 64, 2, scale=2.0)
    assert prdc(pixels[:900], noisy) == written_out(pixels[:900], noisy, 5)


def test_identical_sets_have_density_one() -> None:
    features = normal(700, 5, 3)
    assert prdc(features, features) == Prdc(1.0, 1.0, 1.0, 1.0, 5)


def test_large_offset_of_the_features_changes_nothing() -> None:
    reference, samples = normal(300, 4, 4), normal(200, 4, 5)
    assert prdc(reference + 1e7, samples + 1e7) == prdc(reference, samples)


def test_far_sets_score_zero() -> None:
    assert prdc(normal(50, 3, 6), normal(60, 3, 7) + 100) == Prdc(0.0, 0.0, 0.0, 0.0, 5)


def test_lost_mode_shows_in_recall_and_coverage_not_in_precision() -> None:
    left, right = normal(200, 3, 8), normal(200, 3, 9) + 50
    result = prdc(torch.cat([left, right]), normal(200, 3, 10))
    assert result.precision > 0.9
    assert result.density > 0.8
    assert result.recall <= 0.5
    assert result.coverage <= 0.5


def test_one_far_reference_lifts_precision_but_hardly_density() -> None:
    reference = torch.cat([normal(300, 2, 11, scale=0.1), torch.full((1, 2), 10.0).double()])
    result = prdc(reference, normal(300, 2, 12) + 4)
    assert result.precision > 0.95
    assert result.density < 0.25


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="num_neighbours is 0"):
        prdc(normal(9, 2, 0), normal(9, 2, 1), 0)
    with pytest.raises(ValueError, match="samples has shape \\(5, 2\\)"):
        prdc(normal(9, 2, 0), normal(5, 2, 1), 5)
    with pytest.raises(ValueError, match="2 and 3 features"):
        prdc(normal(9, 2, 0), normal(9, 3, 1))
    with pytest.raises(ValueError, match="reference holds NaN"):
        prdc(torch.as_tensor(np.full((9, 2), np.nan)), normal(9, 2, 1))
