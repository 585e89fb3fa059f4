"""A batch norm of several processes is one batch norm of the whole batch."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vaebm.nn import Recomputed, set_recomputation, shared_batches
from vaebm.nn.batch_norm import SharedBatchNorm2d


def make(seed: int) -> SharedBatchNorm2d:
    torch.manual_seed(seed)
    norm = SharedBatchNorm2d(3, eps=1e-3, momentum=0.1)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.normal_(norm.bias)
    return norm


def outcome(norm: SharedBatchNorm2d, images: Tensor) -> list[Tensor]:
    leaf = images.clone().requires_grad_()
    result = norm(leaf)
    torch.autograd.backward((result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum())
    assert leaf.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    assert norm.num_batches_tracked is not None
    state = [value.double() for value in norm.state_dict().values()]
    return [result, leaf.grad, norm.weight.grad, norm.bias.grad, *state]


def test_alone_it_is_the_one_of_torch_up_to_rounding() -> None:
    # Far from zero, where a mean of squares in float32 would lose its digits.
    images = torch.randn(4, 3, 5, 2) * 0.1 + 30
    plain, shared = make(0), make(0)
    expected = outcome(plain, images)
    with shared_batches(shared, lambda sums: sums):
        found = outcome(shared, images)
    assert shared.total is None
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_in_evaluation_mode_nothing_is_shared() -> None:
    norm, images = make(0).eval(), torch.randn(2, 3, 4, 4)
    with shared_batches(norm, lambda sums: torch.full_like(sums, torch.nan)):
        assert torch.equal(norm(images), make(0).eval()(images))


def test_a_part_without_rows_takes_the_statistics_of_the_others() -> None:
    images = torch.randn(4, 3, 5, 2)
    whole = make(0)
    whole(images)
    sums: list[Tensor] = []
    with shared_batches(other := make(0), lambda own: (sums.append(own), own)[1]):
        other(images)
    with shared_batches(empty := make(0), lambda own: own + sums[0]):
        assert empty(images[:0]).shape == (0, 3, 5, 2)
    for name, value in whole.state_dict().items():
        assert torch.allclose(empty.state_dict()[name], value, atol=1e-5), name


def test_recomputed_cells_track_each_batch_once() -> None:
    cells, images = Recomputed(make(0), make(1)), torch.randn(4, 3, 5, 2)
    kept = copy.deepcopy(cells)
    set_recomputation(cells, True)
    for part in (cells, kept):
        leaf = images.clone().requires_grad_()
        with shared_batches(part, lambda sums: sums):
            torch.autograd.backward(part(leaf).square().sum())
    for name, value in kept.state_dict().items():
        assert torch.equal(cells.state_dict()[name], value), name
