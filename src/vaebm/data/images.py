"""Sets of images, and the map between bytes and the range that networks work in.

At the edges (files, figures) an image is x ∈ {0, …, 255} in uint8; inside it is y ∈ [-1, 1] in float32:

    y = x / 127.5 - 1,        x = round(127.5 (clamp(y, -1, 1) + 1)).

The two are inverse to each other on all 256 levels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.data.errors import DataError

__all__ = ["ImageSet", "Skipped", "to_float", "to_uint8"]


class Skipped(NamedTuple):
    """A picture that was left out.

    Arguments:
        path: Its file, or file and row.
        reason: Why it can't be read.
    """

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in uint8 with their labels and, where they come from files, their paths.

    Arguments:
        images: uint8, (N, C, H, W).
        labels: int64, (N,), or None.
        name: What the images are, for messages and tables.
        paths: One path for each image, (N,), or None.
        skipped: What was there too and could not be read.

    Raises:
        DataError: If the parts do not fit together.

    Example:
        >>> digits = ImageSet(np.zeros((4, 1, 8, 8), dtype=np.uint8), np.arange(4), name="four black images")
        >>> len(digits), digits.shape, digits.take([3, 1]).labels
        (4, (1, 8, 8), array([3, 1]))
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    name: str
    paths: tuple[str, ...] | None = None
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            found = f"{self.images.dtype} {self.images.shape}"
            raise DataError(f"{self.name}: an ImageSet holds uint8 images (N, C, H, W), not {found}: use check_images")
        for what, part in (("labels", self.labels), ("paths", self.paths)):
            if part is not None and len(part) != len(self.images):
                raise DataError(f"{self.name}: {len(part)} {what} for {len(self.images)} images: expected one for each")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def take(self, indices: NDArray[np.int64] | list[int], name: str | None = None) -> "ImageSet":
        """Pick images, in the order asked for.

        Arguments:
            indices: Positions, (M,).
            name: A name for the new set; by default the old one.

        Returns:
            A set of M images with their labels and paths; what was skipped belongs to the whole set only.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        return ImageSet(
            images=self.images[chosen],
            labels=None if self.labels is None else self.labels[chosen],
            name=self.name if name is None else name,
            paths=None if self.paths is None else tuple(self.paths[i] for i in chosen),
        )


def to_float(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """Map bytes to the range of the networks, y = x / 127.5 - 1.

    Arguments:
        images: uint8, any shape; an array or a tensor.

    Returns:
        float32 in [-1, 1], the same shape; on the device of a tensor.

    Raises:
        DataError: If the images are not uint8.

    Example:
        >>> to_float(np.array([0, 51, 255], dtype=np.uint8))
        tensor([-1.0000, -0.6000,  1.0000])
    """
    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    if tensor.dtype != torch.uint8:
        raise DataError(f"images to convert are {tensor.dtype}: expected torch.uint8 in 0..255: use check_images first")
    return tensor.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Map networks' images to bytes, x = round(127.5 (clamp(y, -1, 1) + 1)).

    Arguments:
        images: Floating point, any shape, nominally in [-1, 1]; values outside are clamped.

    Returns:
        uint8 array of the same shape, on the CPU.

    Raises:
        DataError: If there is a NaN, which has no byte, or the images are not floating point.

    Example:
        >>> to_uint8(torch.tensor([-2.0, -0.6, 1.0]))
        array([  0,  51, 255], dtype=uint8)
    """
    if not images.is_floating_point():
        raise DataError(f"images to convert are {images.dtype}: expected floating point in [-1, 1]")
    values = images.detach().to(dtype=torch.float32, device="cpu")
    if bool(values.isnan().any()):
        raise DataError("images to convert hold NaN: expected numbers in [-1, 1]")
    levels = values.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    array: NDArray[np.uint8] = levels.numpy()
    return array
