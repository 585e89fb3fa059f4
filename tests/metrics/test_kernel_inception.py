import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from vaebm.metrics import kernel_distance, kernel_interval


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


def test_the_interval_is_around_the_distance_of_the_whole_sets() -> None:
    x, y = features(60, 0.0, 1), features(60, 0.3, 2)
    whole = kernel_distance(x, y, num_subsets=1, subset_size=60, generator=seeded())
    interval = kernel_interval(x, y, generator=seeded())
    assert interval.value == pytest.approx(whole.mean, rel=1e-10)
    assert (interval.low + interval.high) / 2 == pytest.approx(interval.value)
    assert interval.low < interval.value


def test_large_sets_are_multiplied_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(60, 0.0, 1), features(50, 0.3, 2)
    whole = kernel_interval(x, y, generator=seeded())
    monkeypatch.setattr("vaebm.metrics.kernel_inception._AT_ONCE", 7)
    parts = kernel_interval(x, y, generator=seeded())
    assert (parts.value, parts.low, parts.high) == pytest.approx((whole.value, whole.low, whole.high), rel=1e-9)


def test_intervals_hold_the_true_distance_as_often_as_they_say() -> None:
    """Of normals around 0 and around d, E[k] is a polynomial in d, known in closed form."""
    shift, size = 0.5, 8
    # With s = x·y / F: E[(s + 1)³] = 1 + 3 E[s] + 3 E[s²] + E[s³] of independent draws.
    draws = [features(20_000, value, seed) for seed, value in ((101, 0.0), (102, 0.0), (103, shift), (104, shift))]

    def mean_kernel(a: Tensor, b: Tensor) -> float:
        return float(((a * b).sum(1) / size + 1).pow(3).mean())

    norm = size * shift**2
    within_zero = 1 + 3 / size
    first = norm / size
    second = (size + 2 * norm + norm**2) / size**2
    third = (norm**3 + 3 * norm * size + 6 * norm**2 + 6 * norm) / size**3
    within_shifted = 1 + 3 * first + 3 * second + third
    across = 1 + 3 * (size + norm) / size**2
    assert within_zero == pytest.approx(mean_kernel(draws[0], draws[1]), abs=0.02)
    assert across == pytest.approx(mean_kernel(draws[0], draws[3]), abs=0.03)
    assert within_shifted == pytest.approx(mean_kernel(draws[2], draws[3]), abs=0.08)
    truth = within_zero + within_shifted - 2 * across
    hits = 0
    for trial in range(200):
        interval = kernel_interval(
            features(80, 0.0, 1000 + trial), features(80, shift, 5000 + trial), generator=seeded()
        )
        hits += interval.low <= truth <= interval.high
    # 190 are expected; outside 178 … 199 once in a thousand times.
    assert 178 <= hits <= 199


def test_the_quantile_is_students() -> None:
    from vaebm.metrics.kernel_inception import _NUM_GROUPS, _QUANTILE

    assert pytest.approx(stats.t.ppf(0.975, _NUM_GROUPS - 1), abs=1e-6) == _QUANTILE


def test_too_few_images_for_an_interval() -> None:
    with pytest.raises(ValueError, match="too few for an interval, expected at least 40"):
        kernel_interval(features(39, 0.0, 1), features(60, 0.0, 2), generator=seeded())
