"""Precision, recall, density and coverage of samples with respect to a reference set, by nearest neighbours.

Each reference feature rᵢ has an open ball whose radius ρᵢ is the distance to its k-th nearest other reference feature;
each of the M samples sⱼ has a ball of radius σⱼ among the samples, likewise.

    precision = share of samples in at least one reference ball
    recall    = share of reference features in at least one sample ball
    density   = Σ_{ij} 1[|rᵢ − sⱼ| < ρᵢ] / (k M)
    coverage  = share of reference balls that hold at least one sample

Precision and density say how plausible samples are, recall and coverage how much of the reference they reach. One
outlier with a huge ball can lift precision and recall; density and coverage resist it. All four depend on both set
sizes.

References:
    Improved Precision and Recall Metric for Assessing Generative Models, arXiv 1904.06991.
    Reliable Fidelity and Diversity Metrics for Generative Models, arXiv 2002.09797.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.metrics.inputs import as_features

__all__ = ["Prdc", "prdc"]

_CHUNK = 500

# The k-th neighbour lies on the border of its ball; without this margin round-off would decide whether it is inside.
_OPEN = 1.0 - 1e-9


@dataclass(frozen=True)
class Prdc:
    """Precision, recall, density and coverage; density may exceed 1.

    Arguments:
        precision: Share of samples in at least one reference ball.
        recall: Share of reference features in at least one sample ball.
        density: Mean number of reference balls that hold a sample, divided by `num_neighbours`.
        coverage: Share of reference balls that hold at least one sample.
        num_neighbours: The k that sets the radii.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    num_neighbours: int


def prdc(reference: Tensor, samples: Tensor, num_neighbours: int = 5) -> Prdc:
    """Computes precision, recall, density and coverage of samples, in chunks of rows of the distance matrix.

    Arguments:
        reference: Features of real images, (N, F).
        samples: Features of samples, (M, F).
        num_neighbours: k, the neighbour whose distance is the radius; below N and M.

    Returns:
        The four figures and k.

    Raises:
        ValueError: If the sets differ in F, hold no more than k images, or k is below 1.

    References:
        Improved Precision and Recall Metric for Assessing Generative Models, arXiv 1904.06991.
        Reliable Fidelity and Diversity Metrics for Generative Models, arXiv 2002.09797.

    Example:
        >>> reference = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
        >>> samples = torch.tensor([[0.4], [0.6], [30.0]])
        >>> result = prdc(reference, samples, num_neighbours=1)
        >>> round(result.precision, 2), result.recall, round(result.density, 2), result.coverage
        (0.67, 0.75, 1.33, 0.5)
    """
    if num_neighbours < 1:
        raise ValueError(f"num_neighbours is {num_neighbours}, expected at least 1")
    real = as_features(reference, "reference", minimum=num_neighbours + 1)
    fake = as_features(samples, "samples", minimum=num_neighbours + 1)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"the sets have {real.shape[1]} and {fake.shape[1]} features, expected the same number")
    centre = real.mean(dim=0)
    real, fake = real - centre, fake - centre
    real_radii = _squared_radii(real, num_neighbours) * _OPEN
    fake_radii = _squared_radii(fake, num_neighbours) * _OPEN
    held = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    reached = covered = 0
    for start, squares in _squared_distances(real, fake):
        in_real_ball = squares < real_radii[start : start + len(squares), None]
        held += in_real_ball.sum(dim=0)
        covered += int(in_real_ball.any(dim=1).sum())
        reached += int((squares < fake_radii).any(dim=1).sum())
    return Prdc(
        precision=float((held > 0).double().mean()),
        recall=reached / len(real),
        density=float(held.sum()) / (num_neighbours * len(fake)),
        coverage=covered / len(real),
        num_neighbours=num_neighbours,
    )


def _squared_radii(features: Tensor, num_neighbours: int) -> Tensor:
    """Returns the squared distance of each row to its k-th nearest other row, (N,)."""
    radii = []
    for start, squares in _squared_distances(features, features):
        squares.diagonal(start).fill_(torch.inf)
        radii.append(squares.topk(num_neighbours, dim=1, largest=False, sorted=False).values.amax(dim=1))
    return torch.cat(radii)


def _squared_distances(rows: Tensor, columns: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yields the first row's index and |xᵢ − yⱼ|² for a chunk of rows, (at most _CHUNK, M)."""
    column_norms = columns.square().sum(dim=1)
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        squares = torch.addmm(column_norms, chunk, columns.T, alpha=-2.0)
        yield start, squares.add_(chunk.square().sum(dim=1, keepdim=True)).clamp_min_(0.0)
