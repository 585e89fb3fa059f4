"""The scikit-learn face: a VAEBM as an outlier detector of pictures; imported on demand."""

from vaebm.sklearn.detector import VAEBMDetector

__all__ = ["VAEBMDetector"]
