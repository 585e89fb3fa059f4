import numpy as np
import pytest

from vaebm.data import ImageSet, Preprocessing, Splits, load_images, load_splits
from vaebm.data.stacking import stack_digits


@pytest.fixture(scope="module")
def stacked() -> Splits:
    return load_splits("stacked_mnist")


def test_parts_have_the_published_sizes(stacked: Splits) -> None:
    assert [len(part) for part in stacked] == [100_000, 5_000, 5_000, 10_000]
    assert {part.shape for part in stacked} == {(3, 32, 32)}
    labels = [part.labels for part in stacked]
    assert all(found is not None and found.min() >= 0 and found.max() <= 999 for found in labels)
    assert len(np.unique(stacked.test.labels)) == 1000


def test_each_channel_holds_each_digit_of_its_part_and_of_no_other(stacked: Splits) -> None:
    digits = load_splits("mnist")
    for name, copies in (("training", 2), ("selection", 1), ("calibration", 1), ("test", 1)):
        grey, colour = getattr(digits, name), getattr(stacked, name)
        expected = np.sort(np.concatenate([grey.images.sum((1, 2, 3))] * copies))
        for channel in range(3):
            found = colour.images[:, channel, 2:-2, 2:-2].sum((1, 2))
            assert np.array_equal(np.sort(found), expected), (name, channel)
    margin = stacked.test.images.copy()
    margin[:, :, 2:-2, 2:-2] = 0
    assert not margin.any()


def test_labels_are_those_of_the_channels() -> None:
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 28, 28), dtype=np.uint8)
    stacked = stack_digits(ImageSet(images, np.arange(10), "digits"), "part", 2, (0, 0))
    levels = stacked.images[:, :, 14, 14].astype(int)
    assert stacked.labels is not None
    assert np.array_equal(stacked.labels, levels @ [100, 10, 1])
    assert len({tuple(column) for column in levels.T}) == 3


def test_the_seed_of_the_split_decides() -> None:
    one, again, other = (load_splits("stacked_mnist", seed) for seed in (1, 1, 2))
    assert np.array_equal(one.test.images, again.test.images)
    assert not np.array_equal(one.test.images, other.test.images)
    assert not np.array_equal(one.selection.labels, other.selection.labels)


def test_images_to_score_are_those_of_the_test(stacked: Splits) -> None:
    found = load_images("stacked_mnist", (1, 16, 16), Preprocessing(image_size=(16, 16), channels=1))
    assert found.shape == (1, 16, 16)
    assert np.array_equal(found.labels, stacked.test.labels)
