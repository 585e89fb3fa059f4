"""Densities of the plane, and heat over images, as coloured maps."""

from __future__ import annotations

import numpy as np

from vaebm.plots.arrays import FloatArray, UInt8Array


def heat_map(density: FloatArray, highest: float, size: int = 400) -> UInt8Array:
    """Draws a density, brighter where it is higher, on a square-root scale so that faint bridges between modes show.

    Arguments:
        density: Values on a square grid, (n, n), the first axis from left to right, the second from bottom to top.
        highest: The value that gets the brightest colour; the same for maps that are compared.
        size: The least number of pixels along each side; cells become squares of whole pixels.

    Returns:
        uint8 (m, m, 3).

    Raises:
        ValueError: If the grid isn't square, or the highest value not positive.

    Example:
        >>> heat_map(np.eye(4), 1.0, size=8).shape
        (8, 8, 3)
    """
    if density.ndim != 2 or density.shape[0] != density.shape[1] or not highest > 0:
        raise ValueError(f"a density of shape {density.shape} and highest value {highest}: expected (n, n) and above 0")
    shown = np.sqrt(np.clip(density.T[::-1] / highest, 0, 1))
    scale = max(1, -(-size // len(shown)))
    return _magma(shown).repeat(scale, 0).repeat(scale, 1)


def heat_picture(heat: FloatArray, highest: float) -> UInt8Array:
    """Colours the heat of an image, pixel by pixel; brighter is more.

    Arguments:
        heat: The heat, not negative, (H, W).
        highest: The heat that gets the brightest colour.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: If there are other than two axes, or the highest heat isn't positive.

    Example:
        >>> heat_picture(np.eye(4), 1.0).shape
        (4, 4, 3)
    """
    if heat.ndim != 2 or not highest > 0:
        raise ValueError(f"heat of shape {heat.shape} and highest value {highest}: expected (H, W) and above 0")
    return _magma(np.clip(heat / highest, 0, 1))


def _magma(shares: FloatArray) -> UInt8Array:
    """Returns the colours of shares from 0 to 1, uint8 (..., 3)."""
    from matplotlib import colormaps  # half a second that a command without pictures needn't wait

    colours: UInt8Array = colormaps["magma"](shares, bytes=True)[..., :3]
    return colours
