"""bfloat16 networks beside float32 ones: how far energies, gradients, gap and samples may be apart.

The state of chains is float32 and sums of energies are float64 in both. The bounds stand in docs/training.md.
"""

from __future__ import annotations

import pytest
import torch
from test_energy_stage import share_closed, trained_on_digits
from torch import Tensor
from torch.nn import functional

import vaebm
from vaebm.data import load_splits, to_float
from vaebm.distributed import make_engine
from vaebm.sampling import Langevin, grad_log_density, run_chain

NUM_CHAINS = 48


@pytest.fixture(scope="module")
def seen() -> dict[str, dict[str, Tensor]]:
    """What the bundled model says of the same noise and the same test images in both precisions."""
    model = vaebm.load("mnist")
    noise = torch.randn(NUM_CHAINS, model.noise_layout.size, generator=torch.Generator().manual_seed(0))
    images = to_float(load_splits("mnist").test.images[:200])
    found = {}
    for precision in ("fp32", "bf16"):
        with make_engine(precision, "cpu").autocast():
            density = grad_log_density(model.log_density, noise)
            (step,) = run_chain(Langevin(0.1), noise, model.log_density, 1, torch.Generator().manual_seed(1))
            with torch.no_grad():
                gap = model.energy(images).double().mean() - model.energy(model.transport(noise).image).double().mean()
        found[precision] = {"value": density.value, "grad": density.grad, "state": step.state.noise, "gap": gap}
    return found


def test_chains_keep_float32_and_densities_float64(seen: dict[str, dict[str, Tensor]]) -> None:
    for row in seen.values():
        assert row["value"].dtype == torch.float64
        assert row["grad"].dtype == row["state"].dtype == torch.float32
    assert not torch.equal(seen["fp32"]["grad"], seen["bf16"]["grad"])


def test_the_gap_is_the_same_within_a_percent(seen: dict[str, dict[str, Tensor]]) -> None:
    assert float(seen["fp32"]["gap"]) < -10
    assert float(seen["bf16"]["gap"]) == pytest.approx(float(seen["fp32"]["gap"]), rel=0.01)


def test_log_densities_are_within_half_a_nat(seen: dict[str, dict[str, Tensor]]) -> None:
    difference = (seen["bf16"]["value"] - seen["fp32"]["value"]).abs().max()
    assert 0 < float(difference) < 0.5
    assert float(seen["fp32"]["value"].std()) > 10


def test_gradients_point_the_same_way(seen: dict[str, dict[str, Tensor]]) -> None:
    one, other = seen["fp32"]["grad"], seen["bf16"]["grad"]
    assert float(functional.cosine_similarity(one, other).min()) > 0.99
    assert float(((one - other).norm(dim=1) / one.norm(dim=1)).max()) < 0.15


def test_training_in_either_ends_with_samples_as_good(digits: Tensor) -> None:
    closed = {
        precision: share_closed(trained_on_digits(digits[:1000], make_engine(precision, "cpu")), digits)
        for precision in ("fp32", "bf16")
    }
    assert min(closed.values()) > 0.4
    assert abs(closed["fp32"] - closed["bf16"]) < 0.1
