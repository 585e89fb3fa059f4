from __future__ import annotations

import pytest
import torch

from vaebm.models import Classifier


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 17)])
def test_logits_are_the_head_of_the_features(residual: bool, shape: tuple[int, ...]) -> None:
    classifier = Classifier(shape, 10, widths=(4, 6), residual=residual, num_features=7).eval()
    images = torch.rand(3, *shape) * 2 - 1
    features = classifier.features(images)
    assert features.shape == (3, classifier.num_features)
    assert classifier.num_features == 7
    last = classifier.head[-1]
    assert torch.allclose(classifier(images), features @ last.weight.T + last.bias, atol=1e-6)


def test_as_a_judge_it_sees_each_image_alone() -> None:
    classifier = Classifier((1, 8, 8), 10, widths=(4, 6), num_features=7).double().eval()
    images = torch.rand(5, 1, 8, 8, dtype=torch.float64) * 2 - 1
    alone = torch.cat([classifier.features(image[None]) for image in images])
    assert torch.allclose(classifier.features(images), alone, rtol=1e-12, atol=1e-14)
