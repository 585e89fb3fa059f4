"""Chains that are watched: start noise that doesn't fit into the memory is drawn when its turn comes."""

from __future__ import annotations

import pytest
import torch

from vaebm.cli.chain_looks import Look, watch_chains
from vaebm.cli.parsing import UsageError
from vaebm.distributed import make_engine
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork, ImageFields
from vaebm.sampling import Langevin


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> VAEBM:
    torch.manual_seed(0)
    vae, energy = ConvVAE((1, 8, 8), (4,), widths=(16,)), EnergyNetwork((1, 8, 8), widths=(4,))
    monkeypatch.setattr("vaebm.models.vaebm.MOST_AT_ONCE", 16)
    return VAEBM(vae, energy, ImageFields()).requires_grad_(False).eval()


def watch(model: VAEBM, **further: int) -> list[Look]:
    generator = torch.Generator().manual_seed(3)
    return watch_chains(model, 40, (0, 3), Langevin(0.1), generator, make_engine("fp32", "cpu"), **further)


def test_chains_that_are_no_numbers_any_more_are_told(model: VAEBM) -> None:
    generator, engine = torch.Generator().manual_seed(3), make_engine("fp32", "cpu")
    with pytest.raises(UsageError, match="40 of 40 chains are NaN after 3 steps: expected a smaller step size"):
        watch_chains(model, 40, (0, 3), Langevin(1e30), generator, engine)


def test_noise_is_drawn_batch_by_batch_where_it_is_large(model: VAEBM) -> None:
    whole, parts = watch(model), watch(model, most_held=100)
    for looks in (whole, parts):
        assert [len(look.images) for look in looks] == [40, 40]
        assert [look.step for look in looks] == [0, 3]
        # |noise|² / D of 40 × 68 standard-normal numbers.
        assert looks[0].noise_norm == pytest.approx(1, abs=0.1)
    # No two batches are the same.
    first, second = parts[0].images[:16], parts[0].images[16:32]
    assert not torch.equal(first, second)
    assert torch.equal(watch(model, most_held=100)[1].images, parts[1].images)
    assert not torch.equal(whole[0].images, parts[0].images)
