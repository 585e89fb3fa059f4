r"""The replay buffer of the paper: chains restart from N(0, I) with probability 1 − p, else where an earlier one ended.

The buffer is a first-in first-out list of end points. It keeps the first ``width`` entries of the noise: the latent
part alone, as in the paper, or all of it; what it doesn't keep is drawn afresh. Its rows are a ring: a batch is written
in place, at a cost that doesn't depend on how many there are. Drawing doesn't change it; writing returns the next
value, and the one before is used up.

Rows are float32 or float16, which rounds entries below 8 by less than 0.002: a Langevin step adds √η. They lie in
memory, or wherever a caller's ``Rows`` keep them.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
    Implicit Generation and Modeling with Energy-Based Models (replay buffer), https://arxiv.org/abs/1903.08689
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

CHUNK = 256
FreshNoise = Callable[[tuple[int, int], torch.Generator], Tensor]


class Rows(Protocol):
    """Rows of one width, read and written by their places."""

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and their width."""
        ...

    def read(self, places: Tensor) -> Tensor:
        """Returns copies of the rows (n, width) at places (n,)."""
        ...

    def write(self, places: Tensor, rows: Tensor) -> None:
        """Puts rows (n, width) to places (n,)."""
        ...

    def first(self, count: int) -> Tensor:
        """Returns the first rows (count, width), not copied: they change with the next writing."""
        ...


class MemoryRows:
    """Rows in a tensor.

    Arguments:
        rows: The tensor (N, width), on the CPU; changed in place.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and their width."""
        return self.rows.shape[0], self.rows.shape[1]

    def read(self, places: Tensor) -> Tensor:
        """Returns copies of the rows (n, width) at places (n,)."""
        return self.rows[places]

    def write(self, places: Tensor, rows: Tensor) -> None:
        """Puts rows (n, width) to places (n,)."""
        self.rows[places] = rows.to(self.rows.dtype)

    def first(self, count: int) -> Tensor:
        """Returns the first rows (count, width), not copied: they change with the next writing."""
        return self.rows[:count]


@dataclass(frozen=True)
class ReplayBuffer:
    """End points of earlier chains in a ring.

    Arguments:
        rows: Where they lie; as many as the buffer holds at most.
        count: How many there are.
        next_place: Where the next one goes; the oldest of a full ring is there.
    """

    rows: Rows
    count: int = 0
    next_place: int = 0

    @property
    def capacity(self) -> int:
        """The largest number of end points."""
        return self.rows.shape[0]

    @property
    def width(self) -> int:
        """How many entries of the noise are kept."""
        return self.rows.shape[1]

    @property
    def noise(self) -> Tensor:
        """A copy of all end points (N, width), the oldest first."""
        return self.rows.read(self._places(torch.arange(self.count)))

    def take(self, ages: Tensor) -> Tensor:
        """Returns copies of end points (n, width) by their age order (n,): 0 is the oldest."""
        return self.rows.read(self._places(ages))

    def _places(self, ages: Tensor) -> Tensor:
        return (ages + self.next_place - self.count) % max(1, self.capacity)

    def state_dict(self) -> dict[str, Any]:
        """Returns the end points as they lie in the ring, not copied, and the place of the next one."""
        return {"rows": self.rows.first(self.count), "next_place": self.next_place}

    def load_state_dict(self, state: Mapping[str, Any] | Tensor) -> ReplayBuffer:
        """Returns the buffer with what ``state_dict`` returned, or, from older checkpoints, a tensor, oldest first.

        Of a buffer of another capacity, the newest end points are taken.

        Raises:
            ValueError: If the end points have another width.
        """
        stored: Mapping[str, Any] = {"rows": state, "next_place": 0} if isinstance(state, Tensor) else state
        rows, next_place = stored["rows"], int(stored["next_place"])
        if rows.shape[1] != self.width:
            raise ValueError(f"stored end points have {rows.shape[1]} entries, this buffer keeps {self.width}")
        kept = min(len(rows), self.capacity)
        # The oldest row lies where the next one goes.
        newest_last = (torch.arange(len(rows)) + next_place) % max(1, len(rows))
        restored = replace(self, count=0, next_place=0)
        for places in torch.split(newest_last[len(rows) - kept :], CHUNK):
            restored = write_back(restored, rows[places])
        return restored


@dataclass(frozen=True)
class StartPoints:
    """Where chains start: noise (B, D), and how many of them come out of the buffer."""

    noise: Tensor
    num_replayed: int


def empty_buffer(capacity: int, width: int, dtype: torch.dtype = torch.float32) -> ReplayBuffer:
    """Returns a buffer without entries, in memory.

    Arguments:
        capacity: The largest number of end points.
        width: How many entries of the noise are kept.
        dtype: Their type.

    Example:
        >>> buffer = write_back(empty_buffer(capacity=3, width=2), torch.ones(2, 5))
        >>> tuple(buffer.noise.shape)
        (2, 2)
    """
    return ReplayBuffer(MemoryRows(torch.zeros(capacity, width, dtype=dtype)))


def standard_normal(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draws noise (B, D) ~ N(0, I) on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def draw_start(
    buffer: ReplayBuffer,
    shape: tuple[int, int],
    probability: float,
    generator: torch.Generator,
    fresh: FreshNoise = standard_normal,
) -> StartPoints:
    """Draws start points for a batch of chains.

    Arguments:
        buffer: The buffer to draw from, without replacement.
        shape: The shape (B, D) of the noise.
        probability: The probability p that a chain goes on from the buffer.
        generator: The source of randomness.
        fresh: Draws where the other chains start, (B, D), by default from N(0, I).

    Returns:
        The start points; the replayed chains come first.
    """
    device = generator.device
    noise = fresh(shape, generator)
    wanted = int((torch.rand(shape[0], generator=generator, device=device) < probability).sum())
    chosen = torch.randperm(buffer.count, generator=generator, device=device)[:wanted]
    noise[: len(chosen), : buffer.width] = buffer.take(chosen.cpu()).to(device, noise.dtype)
    return StartPoints(noise, len(chosen))


def write_back(buffer: ReplayBuffer, noise: Tensor) -> ReplayBuffer:
    """Writes end points (B, D) over the oldest; returns the next value of the buffer, which shares its rows."""
    kept = noise.detach()[len(noise) - min(len(noise), buffer.capacity) :, : buffer.width].cpu()
    if not len(kept):
        return buffer
    places = (buffer.next_place + torch.arange(len(kept))) % buffer.capacity
    buffer.rows.write(places, kept)
    following = (buffer.next_place + len(kept)) % buffer.capacity
    return replace(buffer, count=min(buffer.count + len(kept), buffer.capacity), next_place=following)
