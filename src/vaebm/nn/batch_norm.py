"""Batch norms whose batch may lie in several processes.

Each process takes mean and variance of its own part; their sums over the processes give those of the whole batch. Back
go the sums of the gradient and of its product with the normalised values.

References:
    Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift,
    https://arxiv.org/abs/1502.03167
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SharedBatchNorm2d", "shared_batches"]


class SharedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that, if told how, normalises by the batch of all processes; also on CPUs, which torch's doesn't.

    Attributes:
        total: Adds up a tensor over all processes. None: the whole batch is here.
        weight_of_loss: How the loss of this process weighs beside those of the others: its number of rows.

    Example:
        >>> norm, images = SharedBatchNorm2d(2), torch.randn(4, 2, 3, 3)
        >>> norm.total = lambda tensor: tensor
        >>> torch.allclose(norm(images), nn.BatchNorm2d(2)(images), atol=1e-5)
        True
    """

    total: Callable[[Tensor], Tensor] | None = None
    weight_of_loss: float = 1.0

    def forward(self, input: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape; B may be 0 here if it isn't in all processes."""
        if self.total is None or not self.training:
            return super().forward(input)
        found: tuple[Tensor, Tensor, Tensor] = _SharedNorm.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, self.eps, self.total, self.weight_of_loss
        )
        normalized, mean, unbiased = found
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)
        self.num_batches_tracked.add_(1)
        return normalized


class _SharedNorm(torch.autograd.Function):
    """Normalised values, mean and unbiased variance of the whole batch; only the first has a gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        total: Callable[[Tensor], Tensor],
        rows: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        count = values.shape[0] * values.shape[2] * values.shape[3]
        mean, variance = torch.zeros_like(weight).double(), torch.zeros_like(weight).double()
        if count:
            # The norm of this part alone, for its statistics: many times faster than torch.var_mean on maps that lie
            # channels last.
            _, own_mean, inverse = torch.native_batch_norm(values, None, None, None, None, True, 0.0, eps)
            mean, variance = own_mean.double(), inverse.double() ** -2 - eps
        # Sums of processes may cancel, so they are taken in float64.
        sums = torch.cat([count * mean, count * (variance + mean.square()), mean.new_tensor([count])])
        whole = total(sums)
        size = whole[-1]
        mean, square = (whole[:-1] / size).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        mean, unbiased = mean.to(weight.dtype), (variance * size / (size - 1)).to(weight.dtype)
        variance = variance.to(weight.dtype)
        ctx.save_for_backward(values, weight, mean, variance)
        ctx.eps, ctx.total, ctx.rows, ctx.size = eps, total, rows, float(size)
        ctx.mark_non_differentiable(mean, unbiased)
        # torch's own doesn't take an empty batch.
        if not count:
            return values.clone(), mean, unbiased
        normalized = torch.batch_norm(values, weight, bias, mean, variance, False, 0.0, eps, False)
        return normalized, mean, unbiased

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        values, weight, mean, variance = ctx.saved_tensors
        gradient, scale = gradients[0], (variance + ctx.eps).rsqrt()
        direct, by_weight, by_bias = gradient, torch.zeros_like(weight), torch.zeros_like(weight)
        if values.numel():
            direct, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, values, weight, mean, variance, mean, scale, False, ctx.eps, [True, True, True]
            )
        # The loss of a process is a mean over its rows, so that those of others weigh by their rows over its own.
        rows = ctx.rows
        sums = torch.cat([by_bias.double(), by_weight.double()])
        whole = ctx.total(sums * rows if rows else torch.zeros_like(sums)) / (rows or 1.0)
        by_mean, by_spread = (whole / ctx.size).to(weight.dtype).chunk(2)
        slope = weight * scale
        factor = (-slope * by_spread * scale)[:, None, None]
        shift = (-slope * by_mean + slope * by_spread * scale * mean)[:, None, None]
        direct = torch.addcmul(direct, values, factor.to(values.dtype)).add_(shift.to(direct.dtype))
        return direct, by_weight, by_bias, None, None, None


@contextmanager
def shared_batches(
    module: nn.Module, total: Callable[[Tensor], Tensor] | None, weight_of_loss: float = 1.0
) -> Iterator[None]:
    """Has the batch norms of a module normalise by the batch of all processes.

    Arguments:
        module: The module.
        total: Adds up a tensor over all processes. None: nothing changes.
        weight_of_loss: The number of rows behind this process's loss.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, SharedBatchNorm2d)]
    for norm in norms:
        norm.total, norm.weight_of_loss = total, weight_of_loss
    try:
        yield
    finally:
        for norm in norms:
            norm.total, norm.weight_of_loss = None, 1.0
