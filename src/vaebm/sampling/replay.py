r"""The replay buffer of the paper: chains restart from N(0, I) with probability 1 − p, else where an earlier one ended.

The buffer is a first-in first-out list of end points with explicit state: drawing doesn't change it, and writing
returns a new value. It keeps the first ``width`` entries of the noise: the latent part alone, as in the paper, or all
of it; what it doesn't keep is drawn afresh.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
    Implicit Generation and Modeling with Energy-Based Models (replay buffer), https://arxiv.org/abs/1903.08689
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReplayBuffer:
    """End points of earlier chains, oldest first, shape (N, width), and the largest N."""

    noise: Tensor
    capacity: int


@dataclass(frozen=True)
class StartPoints:
    """Where chains start: noise (B, D), and how many of them come out of the buffer."""

    noise: Tensor
    num_replayed: int


def empty_buffer(capacity: int, width: int) -> ReplayBuffer:
    """Returns a buffer without entries.

    Example:
        >>> buffer = write_back(empty_buffer(capacity=3, width=2), torch.ones(2, 5))
        >>> tuple(buffer.noise.shape)
        (2, 2)
    """
    return ReplayBuffer(torch.zeros(0, width), capacity)


def draw_start(
    buffer: ReplayBuffer, shape: tuple[int, int], probability: float, generator: torch.Generator
) -> StartPoints:
    """Draws start points for a batch of chains.

    Arguments:
        buffer: The buffer to draw from, without replacement.
        shape: The shape (B, D) of the noise.
        probability: The probability p that a chain goes on from the buffer.
        generator: The source of randomness.

    Returns:
        The start points; the replayed chains come first.
    """
    device = generator.device
    noise = torch.randn(shape, generator=generator, device=device)
    wanted = int((torch.rand(shape[0], generator=generator, device=device) < probability).sum())
    chosen = torch.randperm(len(buffer.noise), generator=generator, device=device)[:wanted]
    noise[: len(chosen), : buffer.noise.shape[1]] = buffer.noise[chosen.to(buffer.noise.device)].to(device, noise.dtype)
    return StartPoints(noise, len(chosen))


def write_back(buffer: ReplayBuffer, noise: Tensor) -> ReplayBuffer:
    """Appends end points (B, D) and drops the oldest beyond the capacity; returns a new buffer."""
    kept = noise.detach()[:, : buffer.noise.shape[1]].to(buffer.noise.device, buffer.noise.dtype)
    joined = torch.cat([buffer.noise, kept])
    return ReplayBuffer(joined[max(0, len(joined) - buffer.capacity) :], buffer.capacity)
