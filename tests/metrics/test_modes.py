import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from vaebm.metrics import class_shares, total_variation


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
