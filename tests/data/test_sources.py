import hashlib
import re
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import vaebm.data
from vaebm.data import DATA_SETS, DataError, Splits, load_images, load_splits

MNIST = Path(vaebm.data.__file__).parent / "bundled" / "mnist"


@pytest.fixture(scope="module")
def mnist() -> Splits:
    return load_splits("mnist")


def test_bundled_files_are_the_ones_that_are_credited() -> None:
    credits = dict(re.findall(r"`(\S+\.gz)` \| `([0-9a-f]{64})`", (MNIST / "CREDITS.md").read_text()))
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in MNIST.glob("*.gz")}
    assert len(files) == 4
    assert files == credits


def test_mnist_is_mnist(mnist: Splits) -> None:
    assert [len(part) for part in mnist] == [50_000, 5_000, 5_000, 10_000]
    assert {part.shape for part in mnist} == {(1, 28, 28)}
    assert mnist.test.labels is not None
    assert np.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pool = np.concatenate([part.images for part in mnist[:3]])
    assert pool.mean() == pytest.approx(33.318, abs=1e-3)
    labels = np.concatenate([part.labels for part in mnist[:3] if part.labels is not None])
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_mnist_splits_are_the_ones_that_stored_models_were_trained_with(mnist: Splits) -> None:
    digests = [hashlib.sha256(part.images.tobytes()).hexdigest()[:12] for part in mnist]
    assert digests == ["5bf1b3a4aa93", "a7a264b50b19", "171b92791f6e", "6d87418db22c"]


def test_mnist_labels_belong_to_their_images(mnist: Splits) -> None:
    training, test = mnist.training, mnist.test
    assert training.labels is not None
    assert test.labels is not None
    means = np.stack([training.images[training.labels == digit].mean(axis=0).ravel() for digit in range(10)])
    distances = ((test.images.reshape(len(test), 1, -1)[:1000] - means) ** 2).sum(axis=2)
    # The nearest class mean is right on about 82 % of the test set.
    assert (distances.argmin(axis=1) == test.labels[:1000]).mean() > 0.7


def test_digits_are_scikit_learns() -> None:
    splits = load_splits("digits")
    assert [len(part) for part in splits] == [1_097, 200, 200, 300]
    levels = np.concatenate([part.images for part in splits])[:, 0]
    assert (levels.min(), levels.max()) == (0, 255)
    original = load_digits().images
    restored = np.rint(levels / (255 / 16))
    assert sorted(map(tuple, restored.reshape(-1, 64))) == sorted(map(tuple, original.reshape(-1, 64)))
    labels = np.concatenate([part.labels for part in splits if part.labels is not None])
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(load_digits().target))
    assert min(np.bincount(splits.selection.labels)) > 5  # type: ignore[arg-type]


def test_digits_that_lie_elsewhere_are_asked_of_scikit_learn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read = load_splits("digits")
    elsewhere = ModuleSpec("sklearn", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("vaebm.data.sources.find_spec", lambda name: elsewhere)
    for part, other in zip(read, load_splits("digits"), strict=True):
        np.testing.assert_array_equal(part.images, other.images)
        np.testing.assert_array_equal(part.labels, other.labels)  # type: ignore[arg-type]


def test_another_seed_is_another_split_of_the_same_images() -> None:
    first, other = load_splits("digits"), load_splits("digits", seed=1)
    assert not np.array_equal(first.test.images, other.test.images)
    assert sum(int(part.images.sum()) for part in first) == sum(int(part.images.sum()) for part in other)


def test_a_name_to_score_is_its_test_split() -> None:
    np.testing.assert_array_equal(load_images("digits").images, load_splits("digits").test.images)


def test_the_expected_shape_is_checked() -> None:
    assert load_images("digits", expected_shape=(1, 8, 8)).shape == (1, 8, 8)
    with pytest.raises(DataError, match="digits: images are 1x8x8, expected 1x28x28"):
        load_images("digits", expected_shape=(1, 28, 28))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mnsit", "unknown data set 'mnsit'.*did you mean 'mnist'"),
        ("MNIST", "did you mean 'mnist'"),
        ("digit", "did you mean 'digits'"),
        ("zebra", r"unknown data set 'zebra': expected mnist, stacked_mnist, digits or the path of a file or folder$"),
        ("", "unknown data set ''"),
        ("images.npz", "images.npz: there is no such file or folder"),
        ("no/such/folder", "no/such/folder: there is no such file or folder"),
        ("~nobody-of-this-name/x", "there is no such file or folder"),
        ("x" * 5_000, "unknown data set"),
    ],
)
def test_sources_that_are_not_there(source: str, message: str) -> None:
    for load in (load_splits, load_images):
        with pytest.raises(DataError, match=message) as caught:
            load(source)
        assert "\n" not in str(caught.value)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "images.csv"
    path.write_text("0,0,0\n")
    with pytest.raises(DataError, match=r"images\.csv: is of no known kind: expected npz, npy, idx"):
        load_images(str(path))


def test_a_folder_named_like_a_data_set_needs_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    np.save(tmp_path / "digits" / "x.npy", np.zeros(3))
    assert "digits" in DATA_SETS
    assert len(load_splits("digits").test) == 300
    with pytest.raises(DataError, match="holds 1 files and no image among them"):
        load_splits("./digits")
