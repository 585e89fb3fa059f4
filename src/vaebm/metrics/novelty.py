"""How far features lie from those of normal images: two scores that need no training, higher = outlier.

Of reference features r₁ … rₙ, and the feature q of an image:

* the nearest neighbours: |q − r₍ₖ₎|, the distance to the k-th nearest reference feature;
* the Mahalanobis distance: √((q − m)ᵀ S⁻¹ (q − m)), with m their mean and S their covariance, shrunk.

The covariance C of n features of dimension F is singular where n ≤ F. It is shrunk towards a multiple of the identity,

    S = (1 − λ) C + λ μ I,    μ = tr(C) / F,    λ = min(b², d²) / d²,
    d² = |C − μ I|²,    b² = (1/n²) Σᵢ |(rᵢ − m)(rᵢ − m)ᵀ − C|²,

with squared Frobenius norms: the λ for which S comes nearest to the true covariance, estimated from the features.

References:
    Deep Nearest Neighbor Anomaly Detection, arXiv 2002.10445.
    Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly Detection, arXiv 2005.14140.
    A well-conditioned estimator for large-dimensional covariance matrices (Ledoit, Wolf),
    https://doi.org/10.1016/S0047-259X(03)00096-4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.metrics.inputs import as_features

__all__ = ["Gaussian", "fit_gaussian", "mahalanobis_distances", "neighbour_distances"]

_CHUNK = 500


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian fitted to features.

    Arguments:
        mean: m, (F,), float64.
        factor: The lower triangular L with L Lᵀ = S, (F, F), float64.
        shrinkage: λ, from 0 to 1.
    """

    mean: Tensor
    factor: Tensor
    shrinkage: float


def neighbour_distances(reference: Tensor, queries: Tensor, num_neighbours: int = 5) -> Tensor:
    """Computes the Euclidean distance of each query to its k-th nearest reference feature.

    Arguments:
        reference: Features of normal images, (n, F).
        queries: Features of images to judge, (N, F); none of them may be in the reference, or its distance to itself
            counts.
        num_neighbours: k, at most n.

    Returns:
        The distances, (N,), float64.

    Raises:
        ValueError: If the sets differ in F, there are fewer than k reference features, or k is below 1.

    References:
        Deep Nearest Neighbor Anomaly Detection, arXiv 2002.10445.

    Example:
        >>> neighbour_distances(torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[0.5], [9.0]]), num_neighbours=2)
        tensor([0.5000, 8.0000], dtype=torch.float64)
    """
    if num_neighbours < 1:
        raise ValueError(f"num_neighbours is {num_neighbours}, expected at least 1")
    known = as_features(reference, "reference", minimum=num_neighbours)
    asked = as_features(queries, "queries", minimum=1)
    _check_width(known.shape[1], asked)
    parts = [
        # Differences, not squares taken apart: what is as good as equal must come out as 0.
        torch.cdist(chunk, known, compute_mode="donot_use_mm_for_euclid_dist").kthvalue(num_neighbours, dim=1).values
        for chunk in torch.split(asked, _CHUNK)
    ]
    return torch.cat(parts)


def fit_gaussian(features: Tensor) -> Gaussian:
    """Fits a Gaussian to features, with the covariance shrunk as Ledoit and Wolf do.

    Arguments:
        features: Features of normal images, (n, F).

    Returns:
        Mean, factor of the covariance, and how much it was shrunk.

    Raises:
        ValueError: If there are fewer than two features, or all are the same.

    References:
        A well-conditioned estimator for large-dimensional covariance matrices,
        https://doi.org/10.1016/S0047-259X(03)00096-4.

    Example:
        >>> spread = fit_gaussian(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        >>> spread.mean, spread.shrinkage
        (tensor([0., 0.], dtype=torch.float64), 1.0)
    """
    matrix = as_features(features, "features")
    count, width = matrix.shape
    mean = matrix.mean(0)
    centred = matrix - mean
    covariance = centred.T @ centred / count
    level = covariance.trace() / width
    if not float(level) > 0:
        raise ValueError("features are all the same: expected features that vary, a Gaussian needs a width")
    apart = covariance.square().sum() - width * level.square()
    # Σ |rrᵀ − C|² = Σ |r|⁴ − n |C|²
    scatter = (centred.square().sum(1).square().sum() / count - covariance.square().sum()) / count
    shrinkage = float((torch.minimum(scatter, apart) / apart).clamp(0, 1)) if float(apart) > 0 else 1.0
    shrunk = (1 - shrinkage) * covariance
    # A floor: with a λ of next to nothing, features without any variance would have none here.
    shrunk.diagonal().add_(max(shrinkage, 1e-9) * level)
    return Gaussian(mean, torch.linalg.cholesky(shrunk), shrinkage)


def mahalanobis_distances(gaussian: Gaussian, queries: Tensor) -> Tensor:
    """Computes the Mahalanobis distance √((q − m)ᵀ S⁻¹ (q − m)) of each query.

    Arguments:
        gaussian: What ``fit_gaussian`` returned.
        queries: Features of images to judge, (N, F).

    Returns:
        The distances, (N,), float64.

    Raises:
        ValueError: If the queries have another F.

    References:
        Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly Detection, arXiv 2005.14140.

    Example:
        >>> spread = fit_gaussian(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        >>> mahalanobis_distances(spread, torch.tensor([[0.0, 0.0], [3.0, 4.0]])).round(decimals=4)
        tensor([0.0000, 7.0711], dtype=torch.float64)
    """
    asked = as_features(queries, "queries", minimum=1)
    _check_width(len(gaussian.mean), asked)
    white = torch.linalg.solve_triangular(gaussian.factor, (asked - gaussian.mean).T, upper=False)
    distances: Tensor = white.square().sum(0).sqrt()
    return distances


def _check_width(width: int, queries: Tensor) -> None:
    if queries.shape[1] != width:
        raise ValueError(f"the sets have {width} and {queries.shape[1]} features, expected the same number")
