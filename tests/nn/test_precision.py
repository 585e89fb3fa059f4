from __future__ import annotations

import pytest
import torch

from vaebm.nn import at_least_float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_becomes_float32_without_loss(dtype: torch.dtype) -> None:
    values = torch.linspace(-3, 3, 7).to(dtype)
    result = at_least_float32(values)
    assert result.dtype == torch.float32
    assert torch.equal(result.to(dtype), values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_stays_the_same_tensor(dtype: torch.dtype) -> None:
    values = torch.ones(2, dtype=dtype)
    assert at_least_float32(values) is values
