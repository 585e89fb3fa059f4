import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vaebm.checkpoint import model_folders
from vaebm.data import load_splits, to_float
from vaebm.evaluation import extract
from vaebm.models import Classifier, StackedClassifier
from vaebm.recipes import load_judges, load_stacked_judges


def test_they_see_three_digits_at_once() -> None:
    test = load_splits("stacked_mnist").test.take(list(range(500)))
    judges = load_stacked_judges((3, 32, 32))
    assert [judge.name for judge in judges] == ["stacked_digits_plain", "stacked_digits_residual"]
    assert [judge.sha256 for judge in judges] == [judge.sha256 for judge in load_judges((1, 28, 28))]
    for judge in judges:
        probabilities = extract(judge, to_float(test.images)).probabilities
        assert probabilities is not None
        assert np.mean(probabilities.argmax(1).numpy() == test.labels) > 0.97


def test_a_stacked_classifier_is_its_classifier_on_each_channel() -> None:
    torch.manual_seed(0)
    grey = Classifier((1, 12, 12), num_classes=3, widths=(4,), num_features=5).eval()
    stacked = StackedClassifier(grey, num_channels=2).eval()
    images = torch.randn(4, 2, 16, 16)
    middles = images[:, :, 2:14, 2:14]
    features = stacked.features(images)
    assert torch.allclose(features, torch.cat([grey.features(middles[:, [c]]) for c in (0, 1)], 1), atol=1e-6)
    logits = [grey(middles[:, [c]]).log_softmax(1) for c in (0, 1)]
    expected = torch.stack([logits[0][:, a] + logits[1][:, b] for a in range(3) for b in range(3)], 1)
    assert torch.allclose(stacked.head(features), expected, atol=1e-5)


def test_they_are_made_of_any_classifiers_of_digits(tmp_path: Path) -> None:
    shutil.copytree(next(path for path in model_folders() if path.name == "digits_plain"), tmp_path / "mine")
    shutil.copytree(next(path for path in model_folders() if path.name == "digits8_plain"), tmp_path / "smaller")
    (judge,) = load_stacked_judges((3, 32, 32), tmp_path)
    assert judge.name == "stacked_mine"
    assert isinstance(judge.classifier, StackedClassifier)


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 64, 64), (1, 32, 32)])
def test_digits_of_another_size_have_no_judge(shape: tuple[int, int, int]) -> None:
    assert not load_stacked_judges(shape)


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 3, 16, 16)])
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    stacked = StackedClassifier(Classifier((1, 28, 28), num_classes=10, widths=(4,), num_features=5))
    with pytest.raises(ValueError, match="3 channels of 28x28 pixels or more"):
        stacked.features(torch.zeros(shape))
