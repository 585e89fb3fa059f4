"""Sets of outliers: images that are not from the data.

All are floating point in [-1, 1], (N, C, H, W).

Reference: Hendrycks, Gimpel: A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks
(arXiv:1610.02136), which sets images against Gaussian and uniform noise.
"""

import torch
from torch import Tensor

from vaebm.data.errors import DataError
from vaebm.data.images import to_float

__all__ = [
    "OUTLIER_SETS",
    "averaged_pairs",
    "flat_colours",
    "gaussian_noise",
    "grey_levels",
    "outlier_sets",
    "uniform_noise",
]


def gaussian_noise(
    num_images: int, shape: tuple[int, int, int], generator: torch.Generator, scale: float = 0.5
) -> Tensor:
    """Draw images of Gaussian noise, x = clamp(scale · ξ, -1, 1) with ξ ~ N(0, 1) for each value.

    Arguments:
        num_images: How many.
        shape: (C, H, W).
        generator: Where they come from; the images are on its device.
        scale: Standard deviation before clamping.

    Returns:
        float32 in [-1, 1], (N, C, H, W).

    Example:
        >>> gaussian_noise(2, (1, 8, 8), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 1, 8, 8])
    """
    noise = torch.randn((num_images, *shape), generator=generator, device=generator.device)
    return noise.mul_(scale).clamp_(-1, 1)


def uniform_noise(num_images: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw images of uniform noise, x ~ U(-1, 1) for each value.

    Arguments:
        num_images: How many.
        shape: (C, H, W).
        generator: Where they come from; the images are on its device.

    Returns:
        float32 in [-1, 1], (N, C, H, W).

    Example:
        >>> bool(uniform_noise(2, (1, 8, 8), torch.Generator().manual_seed(0)).abs().max() <= 1)
        True
    """
    noise = torch.rand((num_images, *shape), generator=generator, device=generator.device)
    return noise.mul_(2).sub_(1)


def grey_levels(num_images: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw constant images, each of one grey level u ~ U(-1, 1), the same in all channels.

    Arguments:
        num_images: How many.
        shape: (C, H, W).
        generator: Where they come from; the images are on its device.

    Returns:
        float32 in [-1, 1], (N, C, H, W).

    Example:
        >>> grey_levels(5, (3, 8, 8), torch.Generator().manual_seed(0)).flatten(1).std(dim=1)
        tensor([0., 0., 0., 0., 0.])
    """
    return uniform_noise(num_images, (1, 1, 1), generator).expand(-1, *shape).contiguous()


def flat_colours(num_images: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw constant images, each of one colour whose channels are u ~ U(-1, 1).

    Arguments:
        num_images: How many.
        shape: (C, H, W).
        generator: Where they come from; the images are on its device.

    Returns:
        float32 in [-1, 1], (N, C, H, W).

    Example:
        >>> image = flat_colours(1, (3, 8, 8), torch.Generator().manual_seed(0))[0]
        >>> image.flatten(1).std(dim=1), image[:, 0, 0].unique().numel()
        (tensor([0., 0., 0.]), 3)
    """
    channels, height, width = shape
    return uniform_noise(num_images, (channels, 1, 1), generator).expand(-1, -1, height, width).contiguous()


def averaged_pairs(images: Tensor, generator: torch.Generator) -> Tensor:
    """Average each image with another one, ½ (x_i + x_j) with j ≠ i.

    The partners form one random cycle through all images, so that none is its own partner and each has its share in
    two averages.

    Arguments:
        images: uint8 or floating point in [-1, 1], (N, C, H, W), N of at least 2.
        generator: Where the pairs come from.

    Returns:
        float32 in [-1, 1], (N, C, H, W), the i-th with a share of the i-th image.

    Raises:
        DataError: If there are fewer than two images.

    Example:
        >>> averaged_pairs(torch.tensor([-1.0, 0.0]).reshape(2, 1, 1, 1), torch.Generator().manual_seed(0)).flatten()
        tensor([-0.5000, -0.5000])
    """
    if len(images) < 2:
        raise DataError(f"{len(images)} images to be averaged in pairs: expected at least 2")
    values = to_float(images) if images.dtype == torch.uint8 else images.to(torch.float32)
    order = torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)
    partners = torch.empty_like(order)
    partners[order] = order.roll(-1)
    return (values + values[partners]) / 2


OUTLIER_SETS = ("gaussian noise", "uniform noise", "grey levels", "averaged pairs", "flat colours")


def outlier_sets(images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Make every set of outliers of this page, as many of each as there are images.

    Arguments:
        images: The images that they are compared with, uint8 or floating point in [-1, 1], (N, C, H, W).
        generator: Where they come from.

    Returns:
        Name of the set -> float32 in [-1, 1], (N, C, H, W). One image alone makes no pairs; they are left out. Flat
        colours are there for images of several channels.

    Example:
        >>> list(outlier_sets(torch.zeros(4, 1, 8, 8), torch.Generator().manual_seed(0)))
        ['gaussian noise', 'uniform noise', 'grey levels', 'averaged pairs']
    """
    num_images, channels, height, width = images.shape
    shape = (channels, height, width)
    sets = {
        "gaussian noise": gaussian_noise(num_images, shape, generator),
        "uniform noise": uniform_noise(num_images, shape, generator),
        "grey levels": grey_levels(num_images, shape, generator),
    }
    if num_images > 1:
        sets["averaged pairs"] = averaged_pairs(images, generator)
    if channels > 1:
        sets["flat colours"] = flat_colours(num_images, shape, generator)
    return sets
