"""The replay buffer: who restarts, who goes on, and what is kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vaebm.checkpoint import RowFile
from vaebm.sampling import ReplayBuffer, draw_start, empty_buffer, write_back

Made = Callable[[int, int], ReplayBuffer]


@pytest.fixture(params=["memory", "half", "file"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    """Makes empty buffers of a capacity and a width: in memory, in half precision, in a file."""
    if request.param == "file":
        return lambda capacity, width: ReplayBuffer(RowFile(tmp_path / "rows.bin", capacity, width, torch.float16))
    dtype = torch.float32 if request.param == "memory" else torch.float16
    return lambda capacity, width: empty_buffer(capacity, width, dtype)


def marked(count: int, width: int, capacity: int | None = None, made: Made = empty_buffer) -> ReplayBuffer:
    """A buffer whose i-th entry is filled with 1000 + i, far from any fresh noise."""
    noise = (1000 + torch.arange(float(count)))[:, None].expand(count, width)
    return write_back(made(count if capacity is None else capacity, width), noise)


def test_an_empty_buffer_gives_fresh_noise() -> None:
    start = draw_start(empty_buffer(10, 3), (6, 3), 0.95, torch.Generator().manual_seed(2))
    assert start.num_replayed == 0
    assert torch.equal(start.noise, torch.randn(6, 3, generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize(("probability", "replayed"), [(0.0, 0), (1.0, 8)])
def test_never_and_always(probability: float, replayed: int, generator: torch.Generator) -> None:
    start = draw_start(marked(20, 3), (8, 3), probability, generator)
    assert start.num_replayed == replayed
    assert int((start.noise[:, 0] >= 1000).sum()) == replayed


@pytest.mark.parametrize("probability", [0.3, 0.95])
def test_share_of_restarts(probability: float, generator: torch.Generator) -> None:
    count = 20_000
    start = draw_start(marked(count, 1), (count, 1), probability, generator)
    error = math.sqrt(probability * (1 - probability) / count)
    assert abs(start.num_replayed / count - probability) < 4 * error
    assert int((start.noise[:, 0] >= 1000).sum()) == start.num_replayed


def test_entries_are_drawn_without_replacement_and_at_random() -> None:
    drawn = [
        draw_start(marked(50, 2), (40, 2), 1.0, torch.Generator().manual_seed(seed)).noise[:, 0] for seed in (0, 1)
    ]
    assert len(drawn[0].unique()) == 40
    assert drawn[0].tolist() != drawn[0].sort().values.tolist()
    assert set(drawn[0].tolist()) != set(drawn[1].tolist())


def test_a_small_buffer_is_used_up_and_the_rest_is_fresh(generator: torch.Generator) -> None:
    start = draw_start(marked(3, 2), (10, 2), 1.0, generator)
    assert start.num_replayed == 3
    assert sorted(start.noise[:3, 0].tolist()) == [1000, 1001, 1002]
    assert (start.noise[3:].abs() < 10).all()


def test_what_the_buffer_does_not_keep_is_fresh(generator: torch.Generator) -> None:
    start = draw_start(marked(4000, 2), (4000, 5), 1.0, generator)
    assert (start.noise[:, :2] >= 1000).all()
    rest = start.noise[:, 2:]
    assert float(rest.mean()) == pytest.approx(0, abs=0.04)
    assert float(rest.var()) == pytest.approx(1, abs=0.06)


def test_drawing_changes_neither_buffer_nor_its_entries(generator: torch.Generator) -> None:
    buffer = marked(5, 2)
    before = buffer.noise.clone()
    draw_start(buffer, (4, 2), 1.0, generator).noise.zero_()
    assert torch.equal(buffer.noise, before)


def test_same_seed_same_start() -> None:
    first, again, other = (
        draw_start(marked(30, 2), (20, 3), 0.5, torch.Generator().manual_seed(seed)).noise for seed in (4, 4, 5)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_oldest_go_first(made: Made) -> None:
    buffer = marked(3, 1, 4, made)
    ends = torch.tensor([[1.0], [2.0]])
    after = write_back(buffer, ends)
    assert after.noise.flatten().tolist() == [1001, 1002, 1, 2]
    assert after.capacity == 4


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_a_ring_is_a_list_that_drops_its_oldest(made: Made, batch: int) -> None:
    buffer, expected = made(5, 2), torch.zeros(0, 2)
    for start in range(0, 10 * batch, batch):
        ends = torch.arange(start, start + batch).float()[:, None].expand(batch, 2)
        buffer, expected = write_back(buffer, ends), torch.cat([expected, ends])[-5:]
        assert torch.equal(buffer.noise.float(), expected)
        ages = torch.randperm(len(expected))
        assert torch.equal(buffer.take(ages).float(), expected[ages])


def test_of_more_ends_than_places_the_last_are_kept(made: Made) -> None:
    after = write_back(marked(2, 1, made=made), torch.arange(5.0)[:, None])
    assert after.noise.flatten().tolist() == [3, 4]


def test_only_the_kept_part_is_written_and_as_a_copy(made: Made) -> None:
    ends = torch.arange(6.0).view(2, 3).requires_grad_()
    after = write_back(made(10, 2), ends)
    assert after.noise.tolist() == [[0, 1], [3, 4]]
    assert not after.noise.requires_grad
    with torch.no_grad():
        ends.zero_()
    assert after.noise.tolist() == [[0, 1], [3, 4]]


def test_a_buffer_without_places_stays_empty(made: Made) -> None:
    buffer = made(0, 2)
    for _ in range(3):
        buffer = write_back(buffer, torch.ones(4, 2))
    assert buffer.noise.shape == (0, 2)
    assert draw_start(buffer, (3, 2), 1.0, torch.Generator()).num_replayed == 0


def test_half_precision_rounds_noise_by_less_than_two_thousandths(made: Made, generator: torch.Generator) -> None:
    noise = torch.randn(100, 50, generator=generator)
    found = write_back(made(100, 50), noise)
    assert (found.noise.float() - noise).abs().max() < 2e-3
    start = draw_start(found, (100, 50), 1.0, generator)
    assert start.noise.dtype == torch.float32
    assert start.num_replayed == 100


def test_a_restored_buffer_goes_on_as_the_one_it_was_made_of(made: Made) -> None:
    buffer = marked(7, 3, 5, made)
    stored = copy.deepcopy(buffer.state_dict())
    restored = empty_buffer(5, 3, buffer.noise.dtype).load_state_dict(stored)
    ends = torch.full((3, 3), 2.0)
    for start in (draw_start(each, (4, 3), 1.0, torch.Generator().manual_seed(1)) for each in (buffer, restored)):
        assert start.num_replayed == 4
    assert torch.equal(write_back(restored, ends).noise, write_back(buffer, ends).noise)


@pytest.mark.parametrize("capacity", [3, 5, 9])
def test_a_buffer_of_another_capacity_takes_the_newest(made: Made, capacity: int) -> None:
    stored = copy.deepcopy(marked(7, 2, 5, made).state_dict())
    restored = made(capacity, 2).load_state_dict(stored)
    assert restored.noise[:, 0].tolist() == [1002, 1003, 1004, 1005, 1006][-capacity:]
    assert write_back(restored, torch.zeros(1, 2)).noise[-1].tolist() == [0, 0]


def test_end_points_of_another_width_are_refused(made: Made) -> None:
    stored = marked(3, 2, made=made).state_dict()
    with pytest.raises(ValueError, match="stored end points have 2 entries, this buffer keeps 4"):
        made(3, 4).load_state_dict(stored)


def test_checkpoints_of_before_the_ring_hold_a_tensor() -> None:
    old = torch.arange(6.0).view(3, 2)
    assert torch.equal(empty_buffer(4, 2).load_state_dict(old).noise, old)
