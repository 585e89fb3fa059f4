"""A sampling chain at work: the images beside the energy that drives them.

A chain starts at an image of the VAE and follows Langevin dynamics on its noise; the energy E of its image falls until
it scatters around the level of real images. One frame shows the images of all chains at one step, and the energies of
all chains up to that step.
"""

from typing import Any

import numpy as np

from vaebm.plots.arrays import FloatArray, IntArray, UInt8Array
from vaebm.plots.grids import check_pictures, image_grid

_DOTS_PER_INCH = 100
_SMALLEST_HEIGHT = 260
_CURVE_WIDTH = 360
_LINE, _FAINT, _INK = "#0b7a75", "#9fc9c6", "#2b2b2b"


def _grid_scale(images: UInt8Array, columns: int) -> int:
    rows: int = -(-images.shape[1] // columns)
    return max(1, _SMALLEST_HEIGHT // (rows * (int(images.shape[3]) + 2)))


def _canvas(width: int, height: int) -> Any:
    """Return an empty canvas; matplotlib's canvases carry no types."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    return FigureCanvasAgg(Figure(figsize=(width / _DOTS_PER_INCH, height / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH))


class _EnergyPanel:
    """The energy curve, drawn once; each step only adds what is new."""

    def __init__(self, energies: FloatArray, steps: IntArray, height: int) -> None:
        self.steps, self.mean = steps, energies.mean(axis=1)
        self.canvas = _canvas(_CURVE_WIDTH, height)
        self.figure = self.canvas.figure
        self.axes = self.figure.add_axes((0.17, 0.17, 0.79, 0.70))
        self.axes.plot(steps, energies, color=_FAINT, linewidth=0.6, alpha=0.6)
        self.axes.set_xlabel("step", fontsize=9, color=_INK)
        self.axes.tick_params(labelsize=8, colors=_INK)
        self.axes.spines[["top", "right"]].set_visible(False)
        self.axes.margins(x=0.02)
        (self.line,) = self.axes.plot([], [], color=_LINE, linewidth=2, animated=True)
        (self.dot,) = self.axes.plot([], [], "o", color=_LINE, markersize=6, animated=True)
        self.title = self.figure.text(0.17, 0.92, "", fontsize=10, color=_INK, animated=True)
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(self.figure.bbox)

    def at(self, index: int) -> UInt8Array:
        """Return the panel at one step, uint8 (height, width, 3)."""
        self.canvas.restore_region(self.background)
        self.line.set_data(self.steps[: index + 1], self.mean[: index + 1])
        self.dot.set_data([self.steps[index]], [self.mean[index]])
        self.title.set_text(f"step {int(self.steps[index])}    mean energy {self.mean[index]:.2f}")
        for artist in (self.line, self.dot):
            self.axes.draw_artist(artist)
        self.figure.draw_artist(self.title)
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()


def chain_frames(images: UInt8Array, energies: FloatArray, steps: IntArray) -> list[UInt8Array]:
    """Draw one frame for each recorded step: the grid of chains, and their energies so far.

    Arguments:
        images: uint8 (T, N, C, H, W), the image of each of N chains at T recorded steps.
        energies: (T, N), the energy of each of these images.
        steps: (T,), the number of steps made when each was recorded.

    Returns:
        T pictures, uint8 (height, width, 3), ready for `gif_bytes`. Where an energy is not finite the curve has a gap.

    Raises:
        ValueError: if the shapes do not belong together.

    Example:
        >>> frames = chain_frames(np.zeros((2, 4, 1, 8, 8), np.uint8), np.zeros((2, 4)), np.arange(2))
        >>> len(frames), frames[0].dtype
        (2, dtype('uint8'))
    """
    check_pictures(images, "images", rank=5)
    if energies.shape != images.shape[:2] or steps.shape != images.shape[:1]:
        raise ValueError(
            f"energies must be {images.shape[:2]} and steps {images.shape[:1]} as the images say, "
            f"got {energies.shape} and {steps.shape}"
        )
    columns = int(np.ceil(np.sqrt(images.shape[1])))
    scale = _grid_scale(images, columns)
    grids = [image_grid(batch, columns, scale=scale) for batch in images]
    height = max(grids[0].shape[0], _SMALLEST_HEIGHT)
    panel = _EnergyPanel(energies, steps, height)
    frames = []
    for index, grid in enumerate(grids):
        frame = np.full((height, grid.shape[1] + _CURVE_WIDTH, 3), 255, np.uint8)
        top = (height - grid.shape[0]) // 2
        frame[top : top + grid.shape[0], : grid.shape[1]] = grid
        frame[:, grid.shape[1] :] = panel.at(index)
        frames.append(frame)
    return frames
