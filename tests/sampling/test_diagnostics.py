"""Split-R̂ and bulk ESS against arviz-stats, and on chains whose autocorrelation is known."""

from __future__ import annotations

import pytest
import torch
from arviz_stats.base import array_stats
from torch import Tensor

from vaebm.sampling import autocorrelation, bulk_ess, effective_sample_size, split_rhat

DOUBLE = torch.float64


def autoregressive(slope: float, shape: tuple[int, int], seed: int = 0) -> Tensor:
    """x_t = slope · x_{t−1} + ξ_t, stationary: autocorrelation slope^lag, ESS share (1 − slope) / (1 + slope)."""
    fresh = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    values = fresh.clone()
    values[:, 0] /= (1 - slope**2) ** 0.5
    for index in range(1, shape[1]):
        values[:, index] += slope * values[:, index - 1]
    return values


CASES = {
    "independent": autoregressive(0.0, (4, 400)),
    "slow": autoregressive(0.95, (4, 400)),
    "alternating": autoregressive(-0.4, (4, 400)),
    "short, odd": autoregressive(0.5, (3, 51)),
    "one chain": autoregressive(0.5, (1, 200)),
    "ties": autoregressive(0.5, (4, 100)).round(),
    "apart": autoregressive(0.5, (4, 100)) + torch.arange(4.0)[:, None],
    "heavy tails": autoregressive(0.3, (4, 200)).pow(5),
}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_parity_with_arviz(values: Tensor) -> None:
    array = values.numpy()
    ess = float(array_stats.ess(array, chain_axis=0, draw_axis=1, method="bulk"))
    rhat = float(array_stats.rhat(array, chain_axis=0, draw_axis=1, method="split"))
    assert bulk_ess(values) == pytest.approx(ess, rel=1e-5)
    # The reference doesn't split a single chain.
    if len(values) > 1:
        assert split_rhat(values) == pytest.approx(rhat, rel=1e-9)


@pytest.mark.parametrize("slope", [0.0, 0.5, 0.9])
def test_known_autocorrelation_and_ess(slope: float) -> None:
    values = autoregressive(slope, (20, 5000))
    lags = torch.arange(6, dtype=DOUBLE)
    assert torch.allclose(autocorrelation(values, 5), slope**lags, atol=0.02)
    assert bulk_ess(values) == pytest.approx(values.numel() * (1 - slope) / (1 + slope), rel=0.1)
    assert split_rhat(values) == pytest.approx(1, abs=0.005)


def test_weights() -> None:
    assert effective_sample_size(torch.tensor([0.0, -1e9])) == pytest.approx(1)
    assert effective_sample_size(torch.tensor([3.0, 3.0, 3.0])) == pytest.approx(3)
    assert effective_sample_size(torch.tensor([1.0, 2.0]).log()) == pytest.approx(9 / 5)


def test_constant_chains() -> None:
    assert split_rhat(torch.ones(2, 10)) == 1
    assert bulk_ess(torch.ones(2, 10)) == 20
    assert split_rhat(torch.tensor([[1.0] * 10, [2.0] * 10])) == float("inf")


@pytest.mark.parametrize(
    "values", [torch.zeros(10), torch.zeros(2, 3), torch.full((2, 10), torch.nan)], ids=["flat", "few", "nan"]
)
def test_bad_draws(values: Tensor) -> None:
    for diagnose in (split_rhat, bulk_ess, lambda draws: autocorrelation(draws, 1)):
        with pytest.raises(ValueError, match="draws"):
            diagnose(values)
