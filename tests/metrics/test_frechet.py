import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from vaebm.metrics import FeatureStatistics, feature_statistics, frechet_distance


class PixelFeatures(nn.Module):
    """Turns uint8 images into features: fixed random projections of the pixels."""

    num_features = 12
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        weight = torch.randn(3 * 4 * 4, self.num_features, generator=generator, dtype=torch.float64)
        self.register_buffer("weight", weight / 100)

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(images.double().flatten(1) @ self.weight)


def random_covariance(size: int, generator: torch.Generator) -> Tensor:
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T / size


def uint8_images(num: int, low: int, high: int, generator: torch.Generator) -> Tensor:
    return torch.randint(low, high, (num, 3, 4, 4), generator=generator, dtype=torch.uint8)


def test_statistics_equal_numpy_definition() -> None:
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    statistics = feature_statistics(features)
    assert statistics.num_images == 50
    assert statistics.covariance.dtype == torch.float64
    torch.testing.assert_close(statistics.mean, features.double().mean(0))
    torch.testing.assert_close(statistics.covariance, torch.cov(features.double().T))


def test_diagonal_gaussians_have_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(1)
    mean_a, mean_b, std_a, std_b = torch.rand(4, 9, generator=generator, dtype=torch.float64)
    a = FeatureStatistics(mean_a, torch.diag(std_a**2), 100)
    b = FeatureStatistics(mean_b, torch.diag(std_b**2), 100)
    expected = (mean_a - mean_b).square().sum() + (std_a - std_b).square().sum()
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-12)


def test_rotation_leaves_the_distance_alone() -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = random_covariance(7, generator), random_covariance(7, generator)
    shift = torch.randn(7, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(7, 7, generator=generator, dtype=torch.float64)).Q
    zero = torch.zeros(7, dtype=torch.float64)
    plain = frechet_distance(FeatureStatistics(zero, a, 9), FeatureStatistics(shift, b, 9))
    turned = frechet_distance(
        FeatureStatistics(zero, rotation @ a @ rotation.T, 9),
        FeatureStatistics(rotation @ shift, rotation @ b @ rotation.T, 9),
    )
    assert turned == pytest.approx(plain, rel=1e-12)


def test_parity_with_scipy_sqrtm() -> None:
    generator = torch.Generator().manual_seed(4)
    a, b = random_covariance(32, generator), random_covariance(32, generator)
    shift = torch.randn(32, generator=generator, dtype=torch.float64)
    zero = torch.zeros(32, dtype=torch.float64)
    ours = frechet_distance(FeatureStatistics(zero, a, 99), FeatureStatistics(shift, b, 99))
    root = sqrtm((a @ b).numpy()).real
    expected = float(shift.square().sum() + a.trace() + b.trace()) - 2 * root.trace()
    assert ours == pytest.approx(expected, rel=1e-8)


def test_parity_with_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    generator = torch.Generator().manual_seed(5)
    real, fake = uint8_images(200, 0, 256, generator), uint8_images(150, 40, 200, generator)
    extractor = PixelFeatures()
    metric = FrechetInceptionDistance(feature=extractor).set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    ours = frechet_distance(feature_statistics(extractor(real)), feature_statistics(extractor(fake)))
    assert ours == pytest.approx(float(metric.compute()), rel=1e-6)
    assert ours > 0.05


def test_equal_statistics_have_distance_zero_even_without_full_rank() -> None:
    features = torch.randn(20, 64, generator=torch.Generator().manual_seed(6)) * 10
    statistics = feature_statistics(features)
    assert frechet_distance(statistics, statistics) < 1e-9 * float(statistics.covariance.trace())


def test_rank_deficient_covariances_keep_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(7)
    basis = torch.linalg.qr(torch.randn(40, 3, generator=generator, dtype=torch.float64)).Q
    variance_a = torch.tensor([4.0, 9.0, 0.0], dtype=torch.float64)
    variance_b = torch.tensor([1.0, 0.0, 25.0], dtype=torch.float64)
    zero = torch.zeros(40, dtype=torch.float64)
    a = FeatureStatistics(zero, basis * variance_a @ basis.T, 5)
    b = FeatureStatistics(zero, basis * variance_b @ basis.T, 5)
    assert frechet_distance(a, b) == pytest.approx(1 + 9 + 25, rel=1e-12)


@pytest.mark.parametrize("num_images", [12, 40, 41])
def test_few_images_have_the_distance_of_their_covariances(num_images: int) -> None:
    generator = torch.Generator().manual_seed(9)
    few = feature_statistics(torch.randn(num_images, 40, generator=generator))
    many = feature_statistics(1 + 2 * torch.randn(90, 40, generator=generator))
    bare = [FeatureStatistics(found.mean, found.covariance, found.num_images) for found in (few, many)]
    assert frechet_distance(few, many) == pytest.approx(frechet_distance(*bare), rel=1e-10)


def test_constant_features_leave_only_the_shift() -> None:
    ones, threes = feature_statistics(torch.ones(5, 4)), feature_statistics(torch.full((5, 4), 3.0))
    assert frechet_distance(ones, threes) == pytest.approx(16.0)


def test_distance_is_symmetric() -> None:
    generator = torch.Generator().manual_seed(8)
    a = feature_statistics(torch.randn(30, 10, generator=generator))
    b = feature_statistics(2 * torch.randn(6, 10, generator=generator))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


@pytest.mark.parametrize(
    "features", [torch.zeros(4), torch.zeros(1, 3), torch.zeros(4, 0), torch.full((4, 2), float("nan"))]
)
def test_bad_features_are_refused(features: Tensor) -> None:
    with pytest.raises(ValueError, match="features"):
        feature_statistics(features)


def test_different_feature_numbers_are_refused() -> None:
    a, b = feature_statistics(torch.randn(5, 3)), feature_statistics(torch.randn(5, 4))
    with pytest.raises(ValueError, match="3 and 4 features"):
        frechet_distance(a, b)
