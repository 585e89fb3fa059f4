"""Batch norms whose batch may lie in several processes.

References:
    Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift,
    https://arxiv.org/abs/1502.03167
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vaebm.nn.precision import at_least_float32

__all__ = ["SharedBatchNorm2d", "shared_batches"]


class SharedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that, if told how, normalises by the batch of all processes; also on CPUs, which torch's doesn't.

    Attributes:
        total: Adds up a tensor over all processes, with a gradient. None: the whole batch is here.

    Example:
        >>> norm, images = SharedBatchNorm2d(2), torch.randn(4, 2, 3, 3)
        >>> norm.total = lambda tensor: tensor
        >>> torch.allclose(norm(images), nn.BatchNorm2d(2)(images), atol=1e-5)
        True
    """

    total: Callable[[Tensor], Tensor] | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape; B may be 0 here if it isn't in all processes."""
        if self.total is None or not self.training:
            return super().forward(hidden)
        values = at_least_float32(hidden)
        count = values.shape[0] * values.shape[2] * values.shape[3]
        own_mean = values.sum((0, 2, 3)) / max(count, 1)
        squares = (values - own_mean[:, None, None]).square().sum((0, 2, 3))
        # Sums of processes may cancel, so they are taken in float64.
        own = own_mean.double()
        sums = torch.cat([count * own, squares.double() + count * own.square(), own.new_tensor([count])])
        totals = self.total(sums)
        size = totals[-1].detach()
        mean, square = (totals[:-1] / size).chunk(2)
        variance = square - mean.square()
        self._track(mean.detach(), variance.detach() * size / (size - 1))
        slope = self.weight * (variance + self.eps).rsqrt().to(values.dtype)
        moved = (values - mean.to(values.dtype)[:, None, None]) * slope[:, None, None] + self.bias[:, None, None]
        return moved.to(hidden.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked.add_(1)


@contextmanager
def shared_batches(module: nn.Module, total: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    """Has the batch norms of a module normalise by the batch of all processes.

    Arguments:
        module: The module.
        total: Adds up a tensor over all processes, with a gradient. None: nothing changes.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, SharedBatchNorm2d)]
    for norm in norms:
        norm.total = total
    try:
        yield
    finally:
        for norm in norms:
            norm.total = None
