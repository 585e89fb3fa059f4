"""Kernel distance between two sets of features: the unbiased squared maximum mean discrepancy.

With the cubic kernel k(x, y) = (x·y / F + 1)³ and two sets of m features each,

    MMD² = Σ_{i≠j} k(xᵢ, xⱼ) / m(m−1) + Σ_{i≠j} k(yᵢ, yⱼ) / m(m−1) − 2 Σ_{ij} k(xᵢ, yⱼ) / m².

Unlike the Fréchet distance it has no bias in m, so that its floor is 0 (and an estimate may fall below 0); the mean
over random subsets is reported with the standard deviation between the subsets.

Subsets share images, so that this deviation is no error. An interval comes from the delete-a-group jackknife: both sets
are cut into G random groups, θ₍₋g₎ is the distance without group g of either set, and

    SE² = (G − 1) / G · Σ_g (θ₍₋g₎ − mean θ₍₋·₎)²,    interval = θ ± t_{G−1, .975} · SE,    G = 20.

References:
    Demystifying MMD GANs, arXiv 1801.01401.
    R. Lehtonen, E. Pahkinen, Practical Methods for Design and Analysis of Complex Surveys (the grouped jackknife).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.metrics.inputs import as_features
from vaebm.metrics.ranking import Interval

__all__ = ["KernelDistance", "kernel_distance", "kernel_interval"]

_NUM_GROUPS = 20
_AT_ONCE = 500
_FEWEST = 2 * _NUM_GROUPS
_QUANTILE = 2.093024
"""The 97.5 % quantile of Student's t with 19 degrees of freedom."""


@dataclass(frozen=True)
class KernelDistance:
    """The kernel distance of two sets and how it was estimated.

    Arguments:
        mean: Mean of MMD² over the subsets.
        std: Standard deviation of MMD² between the subsets (divisor `num_subsets`); not an error of the mean, because
            subsets share images.
        num_subsets: The number of pairs of subsets.
        subset_size: The number m of images in each subset.
    """

    mean: float
    std: float
    num_subsets: int
    subset_size: int


def kernel_distance(
    features_a: Tensor,
    features_b: Tensor,
    *,
    num_subsets: int = 50,
    subset_size: int = 1000,
    generator: torch.Generator,
) -> KernelDistance:
    """Estimates MMD² with the kernel (x·y / F + 1)³ as a mean over random subsets, each drawn without replacement.

    Arguments:
        features_a: The one set, (N, F).
        features_b: The other set, (M, F).
        num_subsets: The number of pairs of subsets.
        subset_size: The number of images in each subset, at least 2 and at most N and M.
        generator: Draws the subsets.

    Returns:
        Mean and standard deviation over the subsets.

    Raises:
        ValueError: If the sets differ in F, are smaller than a subset, or a number is out of range.

    Reference:
        Demystifying MMD GANs, arXiv 1801.01401.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> ones, zeros = torch.ones(4, 2), torch.zeros(4, 2)
        >>> distance = kernel_distance(ones, zeros, num_subsets=2, subset_size=4, generator=generator)
        >>> round(distance.mean, 9)  # 2³ + 1 - 2
        7.0
    """
    x, y = _pair(features_a, features_b)
    if num_subsets < 1 or not 2 <= subset_size <= min(len(x), len(y)):
        raise ValueError(
            f"{num_subsets} subsets of {subset_size} from {len(x)} and {len(y)} images are impossible, expected at "
            "least 1 subset of at least 2 and at most as many images as the smaller set: lower subset_size"
        )
    values = torch.stack(
        [
            _squared_discrepancy(_subset(x, subset_size, generator), _subset(y, subset_size, generator))
            for _ in range(num_subsets)
        ]
    )
    return KernelDistance(float(values.mean()), float(values.std(correction=0)), num_subsets, subset_size)


def kernel_interval(features_a: Tensor, features_b: Tensor, *, generator: torch.Generator) -> Interval:
    """Estimates MMD² with the kernel (x·y / F + 1)³ of two whole sets, with a 95 % interval by the grouped jackknife.

    Both sets count as random draws: the interval holds for new samples of the model against new real images.

    Arguments:
        features_a: The one set, (N, F), N of at least 40.
        features_b: The other set, (M, F), M of at least 40.
        generator: Draws the 20 groups of each set.

    Returns:
        The distance θ of the whole sets, and θ ± t · SE.

    Raises:
        ValueError: If the sets differ in F, or are too small for the groups.

    References:
        Demystifying MMD GANs, arXiv 1801.01401.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> interval = kernel_interval(torch.ones(40, 2), torch.zeros(40, 2), generator=generator)
        >>> round(interval.value, 9), round(interval.high - interval.low, 9)
        (7.0, 0.0)
    """
    x, y = _pair(features_a, features_b)
    if min(len(x), len(y)) < _FEWEST:
        raise ValueError(f"{len(x)} and {len(y)} images are too few for an interval, expected at least {_FEWEST}")
    rows, columns = _groups(len(x), generator), _groups(len(y), generator)
    own, other, between = (
        _block_sums(x, x, rows, rows),
        _block_sums(y, y, columns, columns),
        _block_sums(x, y, rows, columns),
    )
    # The first row keeps everything, each of the others leaves one group out.
    kept = torch.cat([torch.ones(1, _NUM_GROUPS), 1 - torch.eye(_NUM_GROUPS)]).to(x)
    own_counts, other_counts = (kept @ groups.bincount(minlength=_NUM_GROUPS).to(x) for groups in (rows, columns))

    def within(sums: Tensor, selves: Tensor, counts: Tensor) -> Tensor:
        return (((kept @ sums) * kept).sum(1) - kept @ selves) / (counts * (counts - 1))

    across = ((kept @ between) * kept).sum(1) / (own_counts * other_counts)
    values = within(own, _selves(x, rows), own_counts) + within(other, _selves(y, columns), other_counts) - 2 * across
    whole, left = values[0], values[1:]
    error = ((_NUM_GROUPS - 1) / _NUM_GROUPS * (left - left.mean()).square().sum()).sqrt()
    margin = _QUANTILE * float(error)
    return Interval(float(whole), float(whole) - margin, float(whole) + margin)


def _groups(size: int, generator: torch.Generator) -> Tensor:
    """Returns the random group of each row."""
    order = torch.randperm(size, generator=generator, device=generator.device).cpu()
    return order % _NUM_GROUPS


def _block_sums(x: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Returns the sum of the kernel between each group of x and each group of y, (G, G)."""
    by_group = torch.nn.functional.one_hot(columns, _NUM_GROUPS).to(y)
    sums = torch.zeros(_NUM_GROUPS, _NUM_GROUPS, dtype=x.dtype, device=x.device)
    # A part at a time: all of a large set's products with another would fill the memory.
    for part, groups in zip(torch.split(x, _AT_ONCE), torch.split(rows, _AT_ONCE), strict=True):
        sums.index_add_(0, groups.to(x.device), (part @ y.T).pow_(3) @ by_group)
    return sums


def _selves(x: Tensor, groups: Tensor) -> Tensor:
    """Returns the sum of k(xᵢ, xᵢ) in each group, (G,)."""
    return torch.zeros(_NUM_GROUPS, dtype=x.dtype).index_add(0, groups, x.square().sum(1).pow(3))


def _pair(features_a: Tensor, features_b: Tensor) -> tuple[Tensor, Tensor]:
    x = _with_offset(as_features(features_a, "features_a"))
    y = _with_offset(as_features(features_b, "features_b"))
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"the sets have {x.shape[1] - 1} and {y.shape[1] - 1} features, expected the same number")
    return x, y


def _with_offset(features: Tensor) -> Tensor:
    """Appends a one to each scaled row, so that a plain product of two rows is x·y / F + 1."""
    scaled = features / features.shape[1] ** 0.5
    return torch.cat([scaled, scaled.new_ones(len(scaled), 1)], dim=1)


def _subset(rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
    indices = torch.randperm(len(rows), generator=generator, device=generator.device)[:size]
    return rows[indices.to(rows.device)]


def _squared_discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """Returns the unbiased MMD² of two sets of m rows that carry their offset."""
    m = len(x)
    within = sum(_sum_of_cubes(z @ z.T) - z.square().sum(dim=1).pow(3).sum() for z in (x, y))
    return within / (m * (m - 1)) - 2 * _sum_of_cubes(x @ y.T) / m**2


def _sum_of_cubes(products: Tensor) -> Tensor:
    flat = products.reshape(-1)
    return torch.dot(flat.square(), flat)
