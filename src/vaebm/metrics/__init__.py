"""Arithmetic on arrays: distances between sets of features, shares of classes, rankings of scores, p-values.

Every function takes tensors and returns floats or frozen dataclasses of floats; all sums are float64, and all
randomness comes from the `generator` argument. Nothing here knows of images, networks or files.
"""

from vaebm.metrics.calibration import conformal_p_values, false_positive_rates, threshold
from vaebm.metrics.frechet import FeatureStatistics, feature_statistics, frechet_distance
from vaebm.metrics.kernel_inception import KernelDistance, kernel_distance, kernel_interval
from vaebm.metrics.modes import ModeCoverage, class_shares, mode_coverage, total_variation, uniform_kl
from vaebm.metrics.novelty import Gaussian, fit_gaussian, mahalanobis_distances, neighbour_distances
from vaebm.metrics.prdc import Prdc, prdc
from vaebm.metrics.ranking import Interval, Ranking, rank_outliers

__all__ = [
    "FeatureStatistics",
    "Gaussian",
    "Interval",
    "KernelDistance",
    "ModeCoverage",
    "Prdc",
    "Ranking",
    "class_shares",
    "conformal_p_values",
    "false_positive_rates",
    "feature_statistics",
    "fit_gaussian",
    "frechet_distance",
    "kernel_distance",
    "kernel_interval",
    "mahalanobis_distances",
    "mode_coverage",
    "neighbour_distances",
    "prdc",
    "rank_outliers",
    "threshold",
    "total_variation",
    "uniform_kl",
]
