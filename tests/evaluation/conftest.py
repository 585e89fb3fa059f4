from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from vaebm.data import to_float
from vaebm.evaluation import Judge


class TinyClassifier(nn.Module):
    num_features = 32

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, self.num_features), nn.SiLU())
        self.head = nn.Linear(self.num_features, 10)

    def features(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.body(images)
        return hidden


@dataclass(frozen=True, eq=False)
class Digits:
    training: Tensor
    test: Tensor
    training_labels: Tensor
    test_labels: Tensor


@pytest.fixture(scope="session")
def digits() -> Digits:
    data = load_digits()
    images = to_float(np.round(data.images * 255 / 16).astype(np.uint8)[:, None])
    labels = torch.as_tensor(data.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    training, test = order[:1200], order[1200:]
    return Digits(images[training], images[test], labels[training], labels[test])


@pytest.fixture(scope="session")
def judge(digits: Digits) -> Judge:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = TinyClassifier()
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)
    for _ in range(150):
        logits = classifier.head(classifier.features(digits.training))
        loss = nn.functional.cross_entropy(logits, digits.training_labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Judge("tiny", "ab" * 32, classifier.eval())
