"""Settings that fit in seconds, and the digits that are fitted to."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebm.sklearn import VAEBMDetector

SHORT: dict[str, Any] = {"num_vae_iterations": 150, "num_energy_iterations": 5, "num_posterior_samples": 3}
SHORTEST: dict[str, Any] = {"num_vae_iterations": 3, "num_energy_iterations": 2, "num_posterior_samples": 2}


@dataclass(frozen=True)
class Digits:
    """Grey levels 0 … 16, float64 (N, 8, 8), in a random order, and which digit each is, (N,)."""

    images: NDArray[np.float64]
    labels: NDArray[np.int64]


def changed(detector: VAEBMDetector, **parameters: Any) -> VAEBMDetector:
    """A fitted copy with other parameters, made by pickling."""
    copied: VAEBMDetector = pickle.loads(pickle.dumps(detector))
    return copied.set_params(**parameters)  # type: ignore[no-any-return]
