import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from vaebm.metrics import class_shares, mode_coverage, total_variation, uniform_kl


def test_shares_count_every_class_and_sum_to_one() -> None:
    shares = class_shares(torch.tensor([3, 0, 3, 1, 3]), 5)
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.2, 0.0, 0.6, 0.0], dtype=torch.float64))
    assert float(shares.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [([0.5, 0.5], [0.5, 0.5], 0.0), ([1.0, 0.0], [0.0, 1.0], 1.0), ([0.2, 0.3, 0.5], [0.4, 0.4, 0.2], 0.3)],
)
def test_total_variation_has_its_closed_form_and_is_symmetric(p: list[float], q: list[float], expected: float) -> None:
    a, b = torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)
    assert total_variation(a, b) == pytest.approx(expected)
    assert total_variation(b, a) == pytest.approx(expected)


def test_total_variation_lies_between_its_jensen_shannon_bounds() -> None:
    p, q = torch.rand(2, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = p / p.sum(), q / q.sum()
    divergence = jensenshannon(p.numpy(), q.numpy(), base=2) ** 2
    variation = total_variation(p, q)
    assert variation**2 / 2 <= divergence <= variation


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0.0]), torch.zeros(0).long(), torch.zeros(2, 2).long()],
)
def test_bad_labels_are_refused(labels: Tensor) -> None:
    with pytest.raises(ValueError, match="expected"):
        class_shares(labels, 3)


def test_different_numbers_of_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        total_variation(torch.zeros(2), torch.zeros(3))


def test_coverage_counts_modes_and_compares_with_equal_shares() -> None:
    found = mode_coverage(torch.tensor([0, 0, 1, 3]), 4)
    shares = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    assert found.num_modes == 3
    assert found.kl == pytest.approx(float((shares * (4 * shares).log()).sum()))
    assert mode_coverage(torch.arange(10), 10)[:2] == (10, 0.0)
    assert mode_coverage(torch.zeros(5).long(), 10).kl == pytest.approx(math.log(10))


def test_equally_probable_classes_have_a_divergence_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    found = [mode_coverage(torch.randint(0, 100, (5000,), generator=generator), 100).kl for _ in range(20)]
    assert sum(found) / 20 == pytest.approx(uniform_kl(5000, 100), rel=0.1)


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_the_standard_error_is_the_deviation_of_many_draws(spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    shares = (spread * torch.randn(100, generator=generator)).softmax(0)
    found = [mode_coverage(torch.multinomial(shares, 3000, True, generator=generator), 100) for _ in range(300)]
    deviation = float(torch.tensor([one.kl for one in found]).std())
    assert deviation == pytest.approx(float(torch.tensor([one.kl_error for one in found]).mean()), rel=0.15)
