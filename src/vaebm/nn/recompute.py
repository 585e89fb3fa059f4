"""Feature maps that are computed anew in the backward pass instead of being kept: more time, less memory.

Batch norms see each batch twice then; their running statistics take it in once.

References:
    Training Deep Nets with Sublinear Memory Cost, https://arxiv.org/abs/1604.06174
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["Recomputed", "set_recomputation"]


class Recomputed(nn.Sequential):
    """Modules one after another, of which only the input of each is kept for the backward pass, if that is asked for.

    Attributes:
        is_recomputed: Whether it is; not part of the state.

    Example:
        >>> cells = Recomputed(nn.Conv2d(1, 2, 3), nn.SiLU())
        >>> cells.is_recomputed = True
        >>> cells(torch.zeros(1, 1, 4, 4)).shape
        torch.Size([1, 2, 2, 2])
    """

    is_recomputed = False

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps a tensor through all modules."""
        is_recomputed = self.is_recomputed and torch.is_grad_enabled()
        for module in self:
            hidden = _recomputed(module, hidden) if is_recomputed else module(hidden)
        return hidden


def set_recomputation(module: nn.Module, is_recomputed: bool) -> int:
    """Says of all ``Recomputed`` parts of a module whether they are; returns how many there are."""
    parts = [part for part in module.modules() if isinstance(part, Recomputed)]
    for part in parts:
        part.is_recomputed = is_recomputed
    return len(parts)


def _recomputed(module: nn.Module, hidden: Tensor) -> Tensor:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still(module)

    found: Tensor = checkpoint(module, hidden, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return found


@contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """Keeps running statistics as they are."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    stored = [(layer.momentum, layer.num_batches_tracked) for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked = layer.num_batches_tracked.clone()
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(norms, stored, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count
