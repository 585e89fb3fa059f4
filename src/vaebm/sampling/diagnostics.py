r"""Have the chains forgotten where they started, and how many independent draws are they worth?

For M chains of N draws of a scalar, each split in two halves: W the mean variance within, B/N the variance between
their means, V = (N − 1)/N · W + B/N.

* split-R̂ = √(V/W): near 1 if the halves agree; 1.01 is the usual limit.
* Bulk ESS = M N / τ of the rank-normalised draws, τ = −1 + 2 Σ over Geyer's initial monotone sequence of the
  autocorrelations 1 − (W − mean autocovariance)/V.

They see what the scalar sees, and only the modes that some chain has visited: local chains that all miss the same mass
pass. On scalars of a VAEBM: the energy, and |noise|²/D.

References:
    Rank-normalization, folding, and localization: An improved R̂ for assessing convergence of MCMC (Vehtari, Gelman,
    Simpson, Carpenter, Bürkner), https://arxiv.org/abs/1903.08008
    Practical Markov Chain Monte Carlo (Geyer), https://doi.org/10.1214/ss/1177011137
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FEWEST_DRAWS = 4


def split_rhat(values: Tensor) -> float:
    """Returns split-R̂ of a scalar.

    Arguments:
        values: Draws, shape (chains, draws), at least four draws a chain.

    Returns:
        R̂; 1 if all draws are equal.

    Raises:
        ValueError: If the shape is another, draws are too few, or a value is not finite.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> split_rhat(torch.randn(4, 500, generator=generator)) < 1.01
        True
        >>> split_rhat(torch.randn(4, 500, generator=generator) + torch.arange(4)[:, None]) > 1.5
        True
    """
    halves = _halves(values)
    within, total = _variances(halves)
    return float((total / within).sqrt()) if within > 0 else 1.0 if total == 0 else float("inf")


def bulk_ess(values: Tensor) -> float:
    """Returns the bulk effective sample size of a scalar: that of its rank-normalised split chains.

    Arguments:
        values: Draws, shape (chains, draws), at least four draws a chain.

    Returns:
        How many independent draws the chains are worth, at most M N log₁₀(M N).

    Raises:
        ValueError: If the shape is another, draws are too few, or a value is not finite.

    Example:
        >>> values = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
        >>> 1500 < bulk_ess(values) < 2500
        True
    """
    return _ess(_rank_normalized(_halves(values)))


def autocorrelation(values: Tensor, max_lag: int) -> Tensor:
    """Returns the autocorrelation of a scalar, pooled over chains: the mean autocovariance over the mean variance.

    Arguments:
        values: Draws, shape (chains, draws).
        max_lag: The largest lag, below the number of draws.

    Returns:
        Autocorrelations at lags 0 … max_lag, shape (max_lag + 1,), float64; each chain around its own mean.

    Raises:
        ValueError: If the shape is another, draws are too few, or a value is not finite.
    """
    checked = _checked(values)
    if not 0 <= max_lag < checked.shape[1]:
        raise ValueError(f"max_lag is {max_lag}: expected a number from 0 to {checked.shape[1] - 1}")
    covariance = _autocovariance(checked).mean(0)
    return (covariance / covariance[0].clamp(min=torch.finfo(torch.float64).tiny))[: max_lag + 1]


def effective_sample_size(log_weights: Tensor) -> float:
    """Returns (Σ w)² / Σ w², the number of equally weighted draws that importance weights (N,) are worth.

    Example:
        >>> round(effective_sample_size(torch.zeros(5)), 6)
        5.0
    """
    values = log_weights.double()
    return float((2 * torch.logsumexp(values, 0) - torch.logsumexp(2 * values, 0)).exp())


def _checked(values: Tensor) -> Tensor:
    if values.ndim != 2 or len(values) < 1 or values.shape[1] < _FEWEST_DRAWS:
        shape = tuple(values.shape)
        raise ValueError(f"draws of shape {shape}: expected (chains, draws) with at least {_FEWEST_DRAWS} draws")
    if not torch.isfinite(values).all():
        raise ValueError("some draws are not finite: expected numbers")
    return values.detach().double().cpu()


def _halves(values: Tensor) -> Tensor:
    checked = _checked(values)
    half = checked.shape[1] // 2
    return torch.cat([checked[:, :half], checked[:, -half:]])


def _variances(chains: Tensor) -> tuple[Tensor, Tensor]:
    """Returns W and V."""
    count = chains.shape[1]
    within = chains.var(1).mean()
    between = chains.mean(1).var() if len(chains) > 1 else within.new_zeros(())
    return within, (count - 1) / count * within + between


def _rank_normalized(chains: Tensor) -> Tensor:
    flat = chains.flatten()
    inverse, counts = torch.unique(flat, return_inverse=True, return_counts=True)[1:]
    ranks: Tensor = (counts.cumsum(0) - (counts - 1) / 2)[inverse]
    quantiles = (ranks.double() - 0.375) / (len(flat) + 0.25)
    scores: Tensor = torch.special.ndtri(quantiles)
    return scores.view(chains.shape)


def _autocovariance(chains: Tensor) -> Tensor:
    """Returns autocovariances (M, N), divided by N, by the fast Fourier transform."""
    count = chains.shape[1]
    centred = chains - chains.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, 2 * count)
    full: Tensor = torch.fft.irfft(spectrum.abs().square(), 2 * count)
    return full[:, :count] / count


def _ess(chains: Tensor) -> float:
    num_chains, count = chains.shape
    within, total = _variances(chains)
    if total == 0:
        return float(num_chains * count)
    rho = 1 - (within - _autocovariance(chains).mean(0)) / total
    rho[0] = 1.0
    shortest = 1 / math.log10(num_chains * count)
    return num_chains * count / max(_integrated_time(rho), shortest)


def _integrated_time(rho: Tensor) -> float:
    """Returns τ: twice the sums of neighbouring pairs as long as they are positive, held monotone, minus 1."""
    num_pairs = (len(rho) - 1) // 2
    pairs = rho[: 2 * num_pairs].view(-1, 2).sum(1)
    negative = (pairs < 0).nonzero()
    end = int(negative[0]) if len(negative) else num_pairs - 1
    monotone = pairs[:end].cummin(0).values
    return float(-1 + 2 * monotone.sum() + rho[2 * end].clamp(min=0))
