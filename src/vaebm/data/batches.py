"""Endless shuffled batches whose state can be stored.

The images are gone through in a random order, again and again, each time in a new one. A batch may hold the end of one
pass and the beginning of the next, so that batches are of one size and every image is seen equally often.

Where it is asked for, each image of a batch is mirrored left to right half of the time, and moved by up to so many
pixels in each direction, its border repeated.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vaebm.data.errors import DataError
from vaebm.data.images import to_float

__all__ = ["Batches"]


class Batches:
    """An endless iterator of shuffled batches.

    Arguments:
        images: uint8 in 0..255 or floating point in [-1, 1], (N, C, H, W); kept as it is, on its device.
        batch_size: How many images B are in a batch; may be larger than N.
        generator: Where the order comes from. Its state is stored with the batches', so give it to nothing else.
        flips: Whether images are mirrored left to right, half of the time.
        shifts: The number of pixels by which images are moved at most, up or down and left or right.

    Raises:
        DataError: If there are no images, the batch size is below 1 or shifts are below 0.

    Example:
        >>> images = torch.linspace(-1, 1, 3).reshape(3, 1, 1, 1)
        >>> batches = Batches(images, batch_size=3, generator=torch.Generator().manual_seed(0))
        >>> next(batches).flatten().sort().values
        tensor([-1.,  0.,  1.])
    """

    def __init__(
        self, images: Tensor, batch_size: int, generator: torch.Generator, flips: bool = False, shifts: int = 0
    ) -> None:
        if images.ndim != 4 or len(images) == 0:
            raise DataError(f"images for batches are {tuple(images.shape)}: expected (N, C, H, W) with N of at least 1")
        if batch_size < 1:
            raise DataError(f"the batch size is {batch_size}: expected at least 1")
        if shifts < 0:
            raise DataError(f"shifts are {shifts} pixels: expected 0 or more")
        self.flips, self.shifts = flips, shifts
        self.images = images
        self.batch_size = batch_size
        self.generator = generator
        self._permutation = torch.empty(0, dtype=torch.int64)
        self._position = 0

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Tensor:
        """The next batch, float32 in [-1, 1], (B, C, H, W)."""
        batch = self._augmented(self.images[self._next_indices().to(self.images.device)])
        return to_float(batch) if batch.dtype == torch.uint8 else batch.to(torch.float32)

    def state_dict(self) -> dict[str, Any]:
        """What the coming batches depend on, besides the images.

        Returns:
            `permutation` (N,) of the current pass, or (0,) before the first; `position` in it; `generator`, its state.
        """
        return {
            "permutation": self._permutation.clone(),
            "position": self._position,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another run stopped.

        Arguments:
            state: What `state_dict` gave, for as many images.

        Raises:
            DataError: If it belongs to another number of images, or is damaged.
        """
        permutation = state["permutation"].to(dtype=torch.int64, device="cpu")
        if len(permutation) not in (0, len(self.images)):
            raise DataError(
                f"the stored order is of {len(permutation)} images, the data have {len(self.images)}: "
                "resume with the data set that the run began with"
            )
        position = int(state["position"])
        if not 0 <= position <= len(permutation) or not permutation.sort().values.equal(torch.arange(len(permutation))):
            raise DataError("the stored order of the images is damaged: resume from another checkpoint, or start anew")
        self._permutation = permutation.clone()
        self._position = position
        self.generator.set_state(state["generator"].cpu())

    def _augmented(self, batch: Tensor) -> Tensor:
        size, device = len(batch), self.generator.device
        if self.flips:
            is_mirrored = torch.rand(size, generator=self.generator, device=device) < 0.5
            batch = torch.where(is_mirrored.to(batch.device)[:, None, None, None], batch.flip(3), batch)
        if self.shifts:
            reach = 2 * self.shifts + 1
            moves = torch.randint(reach, (2, size), generator=self.generator, device=device).to(batch.device)
            batch = _moved(batch, moves, self.shifts)
        return batch

    def _next_indices(self) -> Tensor:
        parts: list[Tensor] = []
        missing = self.batch_size
        while missing:
            if self._position == len(self._permutation):
                size, device = len(self.images), self.generator.device
                self._permutation = torch.randperm(size, generator=self.generator, device=device).cpu()
                self._position = 0
            part = self._permutation[self._position : self._position + missing]
            self._position += len(part)
            missing -= len(part)
            parts.append(part)
        return torch.cat(parts)


def _moved(batch: Tensor, moves: Tensor, largest: int) -> Tensor:
    """Moves each image (B, C, H, W) by its two numbers of pixels less ``largest``, down and to the right."""
    height, width = batch.shape[2:]
    # The border is repeated in floats, which hold all bytes.
    padded = functional.pad(batch.float(), (largest,) * 4, mode="replicate").to(batch.dtype)
    rows = torch.arange(height, device=batch.device) + (2 * largest - moves[0])[:, None]
    columns = torch.arange(width, device=batch.device) + (2 * largest - moves[1])[:, None]
    images = torch.arange(len(batch), device=batch.device)
    return padded[images[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
