"""Fréchet distance between the Gaussians fitted to two sets of features.

For the Gaussians N(m, A) and N(n, B) the squared 2-Wasserstein (Fréchet) distance is

    d² = |m − n|² + tr A + tr B − 2 tr (A^½ B A^½)^½.

With factors A = L Lᵀ and B = M Mᵀ the last trace is the nuclear norm of Mᵀ L, because (A^½ B A^½)^½ and Mᵀ L have the
same singular values. Of fewer images than features the centred features are such a factor. Other factors come from the
symmetric eigen-decomposition and drop the null space, so that a rank-deficient covariance (a dead feature) needs no
offset on the diagonal, and no square root is taken of round-off.

The figure depends on the number of images: it is biased upwards by a term of order 1/N. Compare only figures of equal
N, and beside the floor that N real images reach.

Reference:
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, arXiv 1706.08500.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vaebm.metrics.inputs import as_features

__all__ = ["FeatureStatistics", "feature_statistics", "frechet_distance"]


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """The Gaussian fitted to a set of features.

    Arguments:
        mean: Mean of the features, (F,), float64.
        covariance: Covariance of the features with divisor N − 1, (F, F), float64.
        num_images: The number N of images behind the two.
        centred: The features without their mean over √(N − 1), (N, F), float64, if they are fewer than features.
    """

    mean: Tensor
    covariance: Tensor
    num_images: int
    centred: Tensor | None = None

    @cached_property
    def factor(self) -> Tensor:
        """L (F, R) with L Lᵀ = covariance; R is N or the numerical rank."""
        return _factor(self.covariance) if self.centred is None else self.centred.T


def feature_statistics(features: Tensor) -> FeatureStatistics:
    """Fits a Gaussian: m = Σᵢ fᵢ / N and A = Σᵢ (fᵢ − m)(fᵢ − m)ᵀ / (N − 1), in float64.

    Arguments:
        features: One row per image, (N, F), N at least 2.

    Returns:
        Mean, covariance and N.

    Raises:
        ValueError: If the features are not a finite (N, F) matrix with N at least 2.

    Example:
        >>> feature_statistics(torch.tensor([[0.0], [2.0]])).covariance
        tensor([[2.]], dtype=torch.float64)
    """
    matrix = as_features(features, "features")
    mean = matrix.mean(dim=0)
    num_images, num_features = matrix.shape
    centred = (matrix - mean) / (num_images - 1) ** 0.5
    few = centred if num_images < num_features else None
    return FeatureStatistics(mean, centred.T @ centred, num_images, few)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Computes the squared Fréchet distance d² = |m − n|² + tr A + tr B − 2 tr (A^½ B A^½)^½.

    It is the square that is known as "Fréchet distance" or FID in this field, and that is reported.

    Arguments:
        a: Statistics of the one set, F features.
        b: Statistics of the other set, F features.

    Returns:
        The distance, never negative.

    Raises:
        ValueError: If the two have different numbers of features.

    Reference:
        The Fréchet distance between multivariate normal distributions, D. Dowson and B. Landau, J. Multivariate
        Analysis 12, 1982.

    Example:
        >>> wide = FeatureStatistics(torch.zeros(1).double(), torch.full((1, 1), 9.0).double(), 10)
        >>> narrow = FeatureStatistics(torch.ones(1).double(), torch.full((1, 1), 4.0).double(), 10)
        >>> frechet_distance(wide, narrow)  # (0 - 1)² + (3 - 2)²
        2.0
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"the statistics have {len(a.mean)} and {len(b.mean)} features, expected the same number: "
            "take both from the same feature network"
        )
    shift = (a.mean - b.mean).square().sum()
    overlap = torch.linalg.svdvals(b.factor.T @ a.factor).sum()
    distance = shift + a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return max(0.0, float(distance))


def _factor(covariance: Tensor) -> Tensor:
    """Returns L (F, R) with L Lᵀ = covariance, where R is the numerical rank."""
    eigenvalues, eigenvectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    tolerance = eigenvalues[-1].clamp_min(0.0) * len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps
    kept = eigenvalues > tolerance
    factor: Tensor = eigenvectors[:, kept] * eigenvalues[kept].sqrt()
    return factor
