"""Exponential moving average of a network's tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_average(average: dict[str, Tensor], network: nn.Module, decay: float) -> dict[str, Tensor]:
    """Returns decay·average + (1 − decay)·weights for every floating-point entry of the network's state.

    Arguments:
        average: The average so far, by the names of ``network.state_dict()``.
        network: The network.
        decay: The weight of the past, in [0, 1).

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> average = update_average({"weight": torch.zeros(1, 1)}, layer, decay=0.0)
        >>> torch.equal(average["weight"], layer.weight)
        True
    """
    current = network.state_dict()
    return {
        name: torch.lerp(current[name], value, decay) if value.is_floating_point() else current[name].clone()
        for name, value in average.items()
    }
