from io import BytesIO
from itertools import islice

import pytest
import torch
from torch import Tensor

from vaebm.data import Batches, DataError, to_float, to_uint8


def numbered(size: int) -> Tensor:
    return torch.arange(size, dtype=torch.uint8).reshape(size, 1, 1, 1)


def make(size: int, batch_size: int, seed: int = 0) -> Batches:
    return Batches(numbered(size), batch_size, torch.Generator().manual_seed(seed))


def numbers(batches: Batches, num_batches: int) -> list[int]:
    drawn = torch.cat([batch.flatten() for batch in islice(batches, num_batches)])
    return drawn.add(1).mul(127.5).round().long().tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 4, 12, 20, 36])
def test_every_image_comes_once_a_pass_and_batches_are_of_one_size(batch_size: int) -> None:
    batches = make(12, batch_size)
    assert next(batches).shape == (batch_size, 1, 1, 1)
    drawn = numbers(make(12, batch_size), 36 // batch_size + 1)
    passes = [drawn[start : start + 12] for start in (0, 12, 24)]
    assert [sorted(part) for part in passes] == [list(range(12))] * 3
    assert passes[0] != passes[1] != list(range(12))


def test_the_order_is_the_generators() -> None:
    assert numbers(make(20, 5), 8) == numbers(make(20, 5), 8)
    assert numbers(make(20, 5), 8) != numbers(make(20, 5, seed=1), 8)


def test_batches_are_float32_in_the_range_of_networks() -> None:
    from_bytes, from_floats = make(9, 4), make(9, 4)
    from_floats.images = to_float(numbered(9)).double()
    one, other = next(from_bytes), next(from_floats)
    assert one.dtype == other.dtype == torch.float32
    assert torch.equal(one, other)


@pytest.mark.parametrize("num_before", [0, 1, 3, 7])
def test_a_stored_state_goes_on_exactly_where_it_stopped(num_before: int) -> None:
    batches = make(10, 4)
    list(islice(batches, num_before))
    file = BytesIO()
    torch.save(batches.state_dict(), file)
    expected = numbers(batches, 12)
    file.seek(0)
    resumed = make(10, 4, seed=99)
    numbers(resumed, 2)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert numbers(resumed, 12) == expected


def test_a_stored_state_does_not_change_with_later_batches() -> None:
    batches = make(10, 4)
    next(batches)
    state = batches.state_dict()
    order = state["permutation"].clone()
    numbers(batches, 5)
    assert torch.equal(state["permutation"], order)
    assert state["position"] == 4


def test_states_that_do_not_fit_are_refused() -> None:
    batches = make(10, 4)
    next(batches)
    state = batches.state_dict()
    with pytest.raises(DataError, match="is of 10 images, the data have 11"):
        make(11, 4).load_state_dict(state)
    for damage in ({"position": 11}, {"position": -1}, {"permutation": torch.zeros(10, dtype=torch.int64)}):
        with pytest.raises(DataError, match="is damaged"):
            make(10, 4).load_state_dict({**state, **damage})


def test_no_images_and_no_batch_are_refused() -> None:
    with pytest.raises(DataError, match="N of at least 1"):
        make(0, 4)
    with pytest.raises(DataError, match=r"\(3, 1\): expected \(N, C, H, W\)"):
        Batches(torch.zeros(3, 1), 2, torch.Generator())
    with pytest.raises(DataError, match="batch size is 0"):
        make(3, 0)


def test_half_of_the_images_are_mirrored_where_that_is_asked_for() -> None:
    image = torch.arange(12, dtype=torch.uint8).reshape(1, 1, 3, 4)
    batches = Batches(image, 400, torch.Generator().manual_seed(0), flips=True)
    batch = next(batches)
    plain, mirrored = to_float(image), to_float(image.flip(3))
    is_mirrored = (batch == mirrored).flatten(1).all(1)
    assert bool(((batch == plain).flatten(1).all(1) | is_mirrored).all())
    # 200 are expected; outside 160 … 240 less than once in ten thousand times.
    assert 160 < int(is_mirrored.sum()) < 240


def test_images_are_moved_by_every_number_of_pixels_and_their_border_is_repeated() -> None:
    image = torch.arange(20, dtype=torch.uint8).reshape(1, 1, 4, 5)
    batch = next(Batches(image, 500, torch.Generator().manual_seed(1), shifts=2))
    seen = {tuple(entry.flatten().tolist()) for entry in to_uint8(batch)}
    expected = set()
    for down in range(-2, 3):
        for right in range(-2, 3):
            rows = [min(max(row - down, 0), 3) for row in range(4)]
            columns = [min(max(column - right, 0), 4) for column in range(5)]
            expected.add(tuple(image[0, 0][rows][:, columns].flatten().tolist()))
    assert seen == expected


def test_the_images_are_untouched_by_augmentation_and_batches_go_on_from_their_state() -> None:
    images = torch.arange(60, dtype=torch.uint8).reshape(5, 1, 3, 4)
    kept = images.clone()
    first = Batches(images, 4, torch.Generator().manual_seed(2), flips=True, shifts=1)
    next(first)
    state = first.state_dict()
    second = Batches(images, 4, torch.Generator(), flips=True, shifts=1)
    second.load_state_dict(state)
    assert torch.equal(next(first), next(second))
    assert torch.equal(images, kept)


def test_shifts_below_zero_are_refused() -> None:
    with pytest.raises(DataError, match="shifts are -1 pixels: expected 0 or more"):
        Batches(torch.zeros(1, 1, 8, 8), 1, torch.Generator(), shifts=-1)
