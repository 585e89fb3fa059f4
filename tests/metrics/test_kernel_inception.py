import pytest
import torch
from torch import Tensor, nn

from vaebm.metrics import kernel_distance


class MeanFeatures(nn.Module):
    num_features = 8

    def forward(self, images: Tensor) -> Tensor:
        return images.double().reshape(len(images), self.num_features, -1).mean(-1) / 64


def features(num: int, shift: float, seed: int) -> Tensor:
    return torch.randn(num, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_parity_with_torchmetrics_on_whole_sets() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    generator = seeded(1)
    real = torch.randint(0, 256, (60, 3, 4, 4), generator=generator, dtype=torch.uint8)
    fake = torch.randint(30, 256, (60, 3, 4, 4), generator=generator, dtype=torch.uint8)
    extractor = MeanFeatures()
    metric = KernelInceptionDistance(feature=extractor, subsets=2, subset_size=60)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    expected, _ = metric.compute()
    ours = kernel_distance(extractor(real), extractor(fake), num_subsets=2, subset_size=60, generator=seeded())
    assert ours.mean == pytest.approx(float(expected), rel=1e-5)
    assert ours.std == pytest.approx(0.0, abs=1e-12)
    assert ours.mean > 0.1


def test_whole_sets_equal_the_written_out_sum() -> None:
    x, y = features(7, 0.0, 1), features(7, 0.5, 2)

    def kernel(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 8 + 1) ** 3)

    within = sum(kernel(z[i], z[j]) for z in (x, y) for i in range(7) for j in range(7) if i != j) / 42
    across = sum(kernel(a, b) for a in x for b in y) / 49
    ours = kernel_distance(x, y, num_subsets=1, subset_size=7, generator=seeded())
    assert ours.mean == pytest.approx(within - 2 * across, rel=1e-10)
    assert (ours.num_subsets, ours.subset_size) == (1, 7)


def test_equal_distributions_average_to_zero() -> None:
    values = [
        kernel_distance(
            features(100, 0.0, 2 * i), features(100, 0.0, 2 * i + 1), subset_size=50, generator=seeded(i)
        ).mean
        for i in range(40)
    ]
    mean = sum(values) / 40
    error = torch.tensor(values).std().item() / 40**0.5
    assert abs(mean) < 4 * error
    assert min(values) < 0 < max(values)


def test_distance_grows_with_the_shift_between_the_sets() -> None:
    reference = features(300, 0.0, 1)
    near, far = (
        kernel_distance(reference, features(300, shift, 2), subset_size=100, generator=seeded()).mean
        for shift in (0.3, 0.9)
    )
    assert 0.01 < near < far / 3


def test_same_seed_gives_the_same_subsets() -> None:
    x, y = features(80, 0.0, 1), features(90, 0.4, 2)
    first, second, other = (
        kernel_distance(x, y, num_subsets=4, subset_size=20, generator=seeded(seed)) for seed in (5, 5, 6)
    )
    assert first == second
    assert first.mean != other.mean
    assert first.std > 0


def test_spread_has_the_number_of_subsets_as_divisor() -> None:
    x, y = features(80, 0.0, 1), features(90, 0.4, 2)
    one, two = (kernel_distance(x, y, num_subsets=n, subset_size=20, generator=seeded()) for n in (1, 2))
    second = 2 * two.mean - one.mean
    assert two.std == pytest.approx(abs(one.mean - second) / 2)


@pytest.mark.parametrize(("num_subsets", "subset_size"), [(0, 10), (3, 1), (3, 31)])
def test_impossible_subsets_are_refused(num_subsets: int, subset_size: int) -> None:
    x, y = features(40, 0.0, 1), features(30, 0.0, 2)
    with pytest.raises(ValueError, match="lower subset_size"):
        kernel_distance(x, y, num_subsets=num_subsets, subset_size=subset_size, generator=seeded())


def test_different_feature_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="8 and 5 features"):
        kernel_distance(features(9, 0.0, 1), features(9, 0.0, 1)[:, :5], subset_size=3, generator=seeded())
