from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from vaebm.data import to_float
from vaebm.distributed import Engine, make_engine


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """All 8×8 digits in a fixed random order, in [−1, 1]."""
    images = to_float(np.round(load_digits().images * 255 / 16).astype(np.uint8)[:, None])
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]


@pytest.fixture(scope="session")
def engine() -> Engine:
    return make_engine("fp32", "cpu")


@pytest.fixture
def through_a_file() -> Any:
    """Stores and reads a state as a checkpoint does: nothing but tensors and plain values."""

    def carry(state: dict[str, Any]) -> dict[str, Any]:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    return carry
