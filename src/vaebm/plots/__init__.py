"""Arrays in, figures out: grids and films of images, chains at work, curves and bars.

Nothing here touches the disk, and nothing here knows a model.
"""

from vaebm.plots.axes import Kind, Tone
from vaebm.plots.chains import chain_frames
from vaebm.plots.curves import Axis, Bar, Reference, Series, cursor_shifts, line_chart, ranking_bars, share_bars
from vaebm.plots.grids import gif_bytes, image_grid, png_bytes
from vaebm.plots.heatmaps import heat_map, heat_picture

__all__ = [
    "Axis",
    "Bar",
    "Kind",
    "Reference",
    "Series",
    "Tone",
    "chain_frames",
    "cursor_shifts",
    "gif_bytes",
    "heat_map",
    "heat_picture",
    "image_grid",
    "line_chart",
    "png_bytes",
    "ranking_bars",
    "share_bars",
]
