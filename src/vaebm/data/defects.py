"""Synthetic defects: normal images with something wrong, to see which score would notice.

Scratches, holes, blur and shifts of images of any size, drawn in bytes. Each takes a severity σ from 0 to 1; with s the
shorter side of the image in pixels:

| defect | what happens | at severity σ |
|---|---|---|
| scratch | a straight line of one level, black or white, whichever differs more from what it covers | width s (0.01 + 0.06 σ), at least one pixel; length s (0.3 + 0.5 σ) |
| hole | a disc gets the image's median colour; it lies where the image differs from it | radius s (0.05 + 0.15 σ) |
| blur | a Gaussian kernel, the border repeated | standard deviation s (0.01 + 0.09 σ), at least 0.35 pixels |
| shift | the image moves in a random direction, the border repeated | by s (0.05 + 0.2 σ), rounded to pixels |

A scratch or hole crosses a part of the image that differs from the median, where there is one, so that a defect isn't
lost in an empty corner. Real defects look otherwise: what finds these need not find those. Where training images are
moved on purpose (``data.shifts``), a shift is normal.
"""  # noqa: E501  # a table can't be wrapped

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from vaebm.data.errors import DataError

__all__ = ["DEFECTS", "blurs", "defect_sets", "holes", "scratches", "shifts", "smoothed"]


def scratches(images: Tensor, generator: torch.Generator, severity: float = 0.5) -> Tensor:
    """Draw a straight scratch over each image.

    Arguments:
        images: uint8, (N, C, H, W).
        generator: Where the places and directions come from.
        severity: From 0 to 1, see the top of this module.

    Returns:
        uint8, (N, C, H, W).

    Raises:
        DataError: If the images are not uint8 (N, C, H, W), or the severity is outside 0..1.

    Example:
        >>> grey = torch.full((1, 1, 16, 16), 100, dtype=torch.uint8)
        >>> int((scratches(grey, torch.Generator().manual_seed(0)) > 150).sum()) > 3
        True
    """
    side = _check(images, severity)
    values = images.float()
    centres = _places(values, generator)
    angles = torch.rand(len(images), generator=generator, device=generator.device).to(images.device) * math.pi
    rows, columns = _offsets(images, centres)
    cosine, sine = angles.cos()[:, None, None], angles.sin()[:, None, None]
    along, across = rows * sine + columns * cosine, rows * cosine - columns * sine
    half_length, half_width = side * (0.15 + 0.25 * severity), max(0.5, side * (0.005 + 0.03 * severity))
    # The edges fade over one pixel.
    cover = (half_width + 0.5 - across.abs()).clamp(0, 1) * (half_length + 0.5 - along.abs()).clamp(0, 1)
    cover = cover[:, None]
    covered = (values * cover).sum((1, 2, 3)) / (cover.sum((1, 2, 3)) * images.shape[1]).clamp_min(1e-6)
    level = torch.where(covered < 127.5, 255.0, 0.0)[:, None, None, None]
    return _as_bytes(values + cover * (level - values))


def holes(images: Tensor, generator: torch.Generator, severity: float = 0.5) -> Tensor:
    """Cut a disc out of each image: it gets the image's median colour.

    Arguments:
        images: uint8, (N, C, H, W).
        generator: Where the places come from.
        severity: From 0 to 1, see the top of this module.

    Returns:
        uint8, (N, C, H, W); an image of one colour has no hole.

    Raises:
        DataError: If the images are not uint8 (N, C, H, W), or the severity is outside 0..1.

    Example:
        >>> line = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
        >>> line[..., 8] = 255
        >>> cut = holes(line, torch.Generator().manual_seed(0))
        >>> bool((cut <= line).all()), int((cut < line).sum()) > 2
        (True, True)
    """
    side = _check(images, severity)
    values = images.float()
    rows, columns = _offsets(images, _places(values, generator))
    radius = side * (0.05 + 0.15 * severity)
    cover = (radius + 0.5 - (rows.square() + columns.square()).sqrt()).clamp(0, 1)[:, None]
    return _as_bytes(values + cover * (_median(values) - values))


def blurs(images: Tensor, generator: torch.Generator, severity: float = 0.5) -> Tensor:
    """Blur each image with a Gaussian kernel.

    Arguments:
        images: uint8, (N, C, H, W).
        generator: Takes no part: a blur has nothing random.
        severity: From 0 to 1, see the top of this module.

    Returns:
        uint8, (N, C, H, W).

    Raises:
        DataError: If the images are not uint8 (N, C, H, W), or the severity is outside 0..1.

    Example:
        >>> flat = torch.full((1, 1, 8, 8), 7, dtype=torch.uint8)
        >>> torch.equal(blurs(flat, torch.Generator()), flat)
        True
    """
    side = _check(images, severity)
    return _as_bytes(smoothed(images.float(), max(0.35, side * (0.01 + 0.09 * severity))))


def smoothed(images: Tensor, width: float) -> Tensor:
    """Convolves each channel with a Gaussian, the border repeated.

    Arguments:
        images: Floating point, (N, C, H, W).
        width: The standard deviation in pixels, above 0; the kernel reaches three of them.

    Returns:
        (N, C, H, W).

    Example:
        >>> smoothed(torch.ones(1, 1, 5, 5), 2.0).round(decimals=4).unique()
        tensor([1.])
    """
    reach = max(1, math.ceil(3 * width))
    places = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = (-0.5 * (places / width).square()).exp()
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
    padded = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    down = functional.conv2d(padded, kernel[..., None], groups=images.shape[1])
    return functional.conv2d(down, kernel[:, :, None], groups=images.shape[1])


def shifts(images: Tensor, generator: torch.Generator, severity: float = 0.5) -> Tensor:
    """Move each image in a random direction; the border is repeated.

    Arguments:
        images: uint8, (N, C, H, W).
        generator: Where the directions come from.
        severity: From 0 to 1, see the top of this module.

    Returns:
        uint8, (N, C, H, W).

    Raises:
        DataError: If the images are not uint8 (N, C, H, W), or the severity is outside 0..1.

    Example:
        >>> dot = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
        >>> dot[..., 4, 4] = 255
        >>> moved = shifts(dot, torch.Generator().manual_seed(0))
        >>> int(moved[..., 4, 4]), int((moved == 255).sum())
        (0, 1)
    """
    side = _check(images, severity)
    height, width = images.shape[2:]
    angles = torch.rand(len(images), generator=generator, device=generator.device).to(images.device) * 2 * math.pi
    distance = max(1.0, side * (0.05 + 0.2 * severity))
    down, right = (distance * angles.sin()).round().long(), (distance * angles.cos()).round().long()
    rows = (torch.arange(height, device=images.device) - down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) - right[:, None]).clamp(0, width - 1)
    every = torch.arange(len(images), device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[every, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()


DEFECTS: dict[str, Callable[[Tensor, torch.Generator, float], Tensor]] = {
    "scratch": scratches,
    "hole": holes,
    "blur": blurs,
    "shift": shifts,
}


def defect_sets(images: Tensor, generator: torch.Generator, severity: float = 0.5) -> dict[str, Tensor]:
    """Make every defect of this page, one of each for every image.

    Arguments:
        images: uint8, (N, C, H, W).
        generator: Where they come from.
        severity: From 0 to 1, see the top of this module.

    Returns:
        Name of the defect -> uint8, (N, C, H, W), the i-th made of the i-th image.

    Raises:
        DataError: If the images are not uint8 (N, C, H, W), or the severity is outside 0..1.

    Example:
        >>> list(defect_sets(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.Generator().manual_seed(0)))
        ['scratch', 'hole', 'blur', 'shift']
    """
    return {name: make(images, generator, severity) for name, make in DEFECTS.items()}


def _check(images: Tensor, severity: float) -> int:
    """Returns the shorter side of the images, in pixels."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise DataError(f"images to be spoilt are {images.dtype} {tuple(images.shape)}: expected uint8 (N, C, H, W)")
    if not 0 <= severity <= 1:
        raise DataError(f"severity {severity}: expected a number from 0 to 1")
    return min(images.shape[2:])


def _median(values: Tensor) -> Tensor:
    return values.flatten(2).median(2).values[:, :, None, None]


def _places(values: Tensor, generator: torch.Generator) -> Tensor:
    """Draws a pixel of each image, (N, 2), with a probability in proportion to its distance from the median colour."""
    weights = (values - _median(values)).abs().sum(1).flatten(1) + 1e-3
    # The largest of exponential clocks: one draw for each row, and no limit to the number of pixels.
    clocks = torch.rand(weights.shape, generator=generator, device=generator.device).to(values.device).clamp_min(1e-12)
    chosen = (clocks.log() / weights).argmax(1)
    return torch.stack([chosen // values.shape[3], chosen % values.shape[3]], 1)


def _offsets(images: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Returns how far each pixel lies below and to the right of the image's centre of the defect, each (N, H, W)."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device)[None, :, None] - centres[:, 0, None, None]
    columns = torch.arange(width, device=images.device)[None, None, :] - centres[:, 1, None, None]
    shape = (len(images), height, width)
    return rows.expand(shape).float(), columns.expand(shape).float()


def _as_bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
