"""Exponential moving average of a network's tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_average(average: dict[str, Tensor], network: nn.Module, decay: float) -> dict[str, Tensor]:
    """Returns decay·average + (1 − decay)·weights for every parameter of a network, and a copy of its buffers.

    Buffers are estimates that belong together, such as the unit vectors of spectral normalisation, and no weights.

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
    current, parameters = network.state_dict(), {name for name, _ in network.named_parameters()}
    return {
        name: torch.lerp(current[name], value, decay) if name in parameters else current[name].clone()
        for name, value in average.items()
    }
