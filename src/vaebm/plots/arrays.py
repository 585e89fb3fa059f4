"""The types of arrays that plots and reports take."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
