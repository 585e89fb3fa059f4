"""Where results of a network leave its precision."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Returns values of any shape in float32, or as they are if they are float64.

    Example:
        >>> [at_least_float32(torch.zeros(1, dtype=dtype)).dtype for dtype in (torch.bfloat16, torch.float64)]
        [torch.float32, torch.float64]
    """
    return values if values.dtype == torch.float64 else values.float()
