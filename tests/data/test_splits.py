from itertools import chain

import numpy as np
import pytest

from vaebm.data import DataError, ImageSet, Splits, make_splits


def numbered(size: int, name: str = "numbered", edge: int = 2) -> ImageSet:
    return ImageSet(np.zeros((size, 1, edge, edge), dtype=np.uint8), np.arange(size), name)


def indices(splits: Splits) -> list[list[int]]:
    return [[] if part.labels is None else part.labels.tolist() for part in splits]


def test_parts_are_disjoint_and_cover_the_pool() -> None:
    parts = indices(make_splits(numbered(100), None, num_selection=20, num_calibration=15, num_test=10))
    assert [len(part) for part in parts] == [55, 20, 15, 10]
    assert sorted(chain(*parts)) == list(range(100))
    assert list(chain(*parts)) != list(range(100))


def test_a_test_set_of_its_own_is_left_as_it_is() -> None:
    test = numbered(7, "test")
    splits = make_splits(numbered(30), test, num_selection=4, num_calibration=5)
    assert splits.test is test
    assert sorted(chain(*indices(splits)[:3])) == list(range(30))


def test_the_order_depends_on_the_seed_and_on_nothing_else() -> None:
    def draw(seed: int) -> list[list[int]]:
        return indices(make_splits(numbered(50), None, 5, 5, 5, seed=seed))

    first = draw(0)
    np.random.default_rng(1).random(3)
    assert draw(0) == first
    assert draw(1) != first


def test_the_order_is_the_one_that_stored_models_were_trained_with() -> None:
    splits = make_splits(numbered(60_000), numbered(1), num_selection=5_000, num_calibration=5_000)
    assert indices(splits)[1][:6] == [27338, 35309, 59837, 21564, 54227, 7226]
    assert indices(splits)[2][:6] == [40168, 28420, 57443, 15339, 1745, 53268]


def test_every_image_lands_in_every_part_equally_often() -> None:
    counts = np.zeros(10)
    for seed in range(2_000):
        counts[indices(make_splits(numbered(10), None, 2, 1, 1, seed=seed))[1]] += 1
    # Binomial(2000, 1/5): mean 400, standard deviation 17.9.
    assert np.abs(counts - 400).max() < 5 * 17.9


def test_names_tell_the_part() -> None:
    splits = make_splits(numbered(10, "toy"), None, 1, 1, 1)
    assert [part.name for part in splits] == ["toy training", "toy selection", "toy calibration", "toy test"]


@pytest.mark.parametrize(
    ("counts", "message"),
    [((5, 5, 0), "0 test"), ((5, 4, 1), "0 training"), ((0, 4, 1), "0 selection"), ((9, 9, 9), "-17 training")],
)
def test_an_empty_part_is_refused(counts: tuple[int, int, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_splits(numbered(10), None, *counts)


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(DataError, match="has a test set, and 3 test images were asked"):
        make_splits(numbered(10), numbered(2), 1, 1, 3)
    with pytest.raises(DataError, match=r"test images are \(1, 3, 3\), the others \(1, 2, 2\)"):
        make_splits(numbered(10), numbered(2, edge=3), 1, 1)
    with pytest.raises(DataError, match="seed of a split is -1"):
        make_splits(numbered(10), numbered(2), 1, 1, seed=-1)
