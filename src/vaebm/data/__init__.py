"""Images: where they come from, what they must be, how they are split and dealt out.

Inside, images are float32 (N, C, H, W) in [-1, 1]; at the edges they are uint8. Whatever is wrong with a source is a
`DataError` of one line.
"""

from vaebm.data.advice import advised_options, advised_range, resizing, warnings_of
from vaebm.data.batches import Batches
from vaebm.data.checks import check_images, check_labels
from vaebm.data.corruptions import (
    OUTLIER_SETS,
    averaged_pairs,
    flat_colours,
    gaussian_noise,
    grey_levels,
    outlier_sets,
    uniform_noise,
)
from vaebm.data.defects import DEFECTS, blurs, defect_sets, holes, scratches, shifts, smoothed
from vaebm.data.errors import DataError
from vaebm.data.idx import read_idx
from vaebm.data.images import ImageSet, Skipped, to_float, to_uint8
from vaebm.data.inspection import Inspection, inspect_source
from vaebm.data.preprocessing import Preprocessing
from vaebm.data.sources import DATA_SETS, load_images, load_splits
from vaebm.data.splits import Splits, evenly_spaced, make_splits
from vaebm.data.toy import PLANAR_DENSITIES, PlanarDensity, planar_density

__all__ = [
    "DATA_SETS",
    "DEFECTS",
    "OUTLIER_SETS",
    "PLANAR_DENSITIES",
    "Batches",
    "DataError",
    "ImageSet",
    "Inspection",
    "PlanarDensity",
    "Preprocessing",
    "Skipped",
    "Splits",
    "advised_options",
    "advised_range",
    "averaged_pairs",
    "blurs",
    "check_images",
    "check_labels",
    "defect_sets",
    "evenly_spaced",
    "flat_colours",
    "gaussian_noise",
    "grey_levels",
    "holes",
    "inspect_source",
    "load_images",
    "load_splits",
    "make_splits",
    "outlier_sets",
    "planar_density",
    "read_idx",
    "resizing",
    "scratches",
    "shifts",
    "smoothed",
    "to_float",
    "to_uint8",
    "uniform_noise",
    "warnings_of",
]
