from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from vaebm.data import to_float, to_uint8
from vaebm.evaluation import Judge, JudgeError, extract
from vaebm.evaluation.extractor import EfficientNetFeatures
from vaebm.models.classifier import Classifier


class Pixels(nn.Module):
    num_features = 16

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def images(num: int = 7) -> Tensor:
    return torch.rand(num, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_judge_knows_its_digits(judge: Judge, digits: SimpleNamespace) -> None:
    judged = extract(judge, digits.test)
    assert judged.probabilities is not None
    assert judged.features.shape == (len(judged), 32)
    assert judged.features.dtype == judged.probabilities.dtype == torch.float64
    torch.testing.assert_close(judged.probabilities.sum(1), torch.ones(len(judged), dtype=torch.float64))
    accuracy = (judged.probabilities.argmax(1) == digits.test_labels).double().mean()
    assert accuracy > 0.9


def test_every_image_passes_through_bytes() -> None:
    judge = Judge("pixels", "", Pixels().eval())
    exact = to_float(to_uint8(images()))
    off_range = torch.where(exact > 0.5, exact.new_tensor(9.0), exact)
    torch.testing.assert_close(extract(judge, images()).features, exact.double().flatten(1), rtol=0, atol=0)
    torch.testing.assert_close(extract(judge, exact + 1e-3).features, exact.double().flatten(1), rtol=0, atol=0)
    assert float(extract(judge, off_range).features.max()) == 1.0


def test_batches_change_nothing(judge: Judge, digits: SimpleNamespace) -> None:
    whole, parts = extract(judge, digits.test), extract(judge, digits.test, batch_size=64)
    torch.testing.assert_close(parts.features, whole.features, rtol=1e-5, atol=1e-6)
    assert len(parts) == len(digits.test)


def test_take_keeps_the_first_rows(judge: Judge, digits: SimpleNamespace) -> None:
    judged = extract(judge, digits.test[:20])
    first = judged.take(5)
    assert len(first) == 5
    assert judged.probabilities is not None
    assert first.probabilities is not None
    torch.testing.assert_close(first.features, judged.features[:5])
    torch.testing.assert_close(first.probabilities, judged.probabilities[:5])


def test_bundled_kind_of_classifier_is_a_judge_with_classes() -> None:
    classifier = Classifier((1, 8, 8), num_classes=10, widths=(8,), num_features=16).eval()
    batch = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    judged = extract(Judge("random", "", classifier), batch)
    with torch.no_grad():
        logits = classifier(to_float(to_uint8(batch)))
    torch.testing.assert_close(judged.probabilities, logits.double().softmax(1))


def test_judge_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="training mode"):
        extract(Judge("pixels", "", Pixels().train()), images())


def test_bad_images_and_features_are_refused() -> None:
    judge = Judge("pixels", "", Pixels().eval())
    with pytest.raises(ValueError, match="NaN"):
        extract(judge, torch.full((2, 1, 4, 4), float("nan")))
    with pytest.raises(ValueError, match="N at least 1"):
        extract(judge, images(0))
    with pytest.raises(ValueError, match=r"\(2, 25\), expected \(2, 16\)"):
        extract(judge, torch.zeros(2, 1, 5, 5))


def test_features_that_are_not_finite_are_refused() -> None:
    classifier = Classifier((1, 8, 8), num_classes=10, widths=(8,), num_features=16).eval()
    with torch.no_grad():
        next(classifier.parameters()).fill_(torch.nan)
    with pytest.raises(JudgeError, match="judge broken: its features of 3 of 3 images are NaN or infinite"):
        extract(Judge("broken", "", classifier), torch.zeros(3, 1, 8, 8))


def test_extractors_of_pictures_say_which_channels_they_take() -> None:
    extractor = EfficientNetFeatures(nn.Identity())
    judge = Judge("lite", "", extractor.eval())
    with pytest.raises(ValueError, match="judge lite takes images of 1 or 3 channels, found 2"):
        extract(judge, torch.zeros(4, 2, 8, 8))
