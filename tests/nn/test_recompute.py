"""Recomputed cells: same values, gradients and statistics, less that is kept."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from vaebm.distributed import make_engine
from vaebm.models import NVAE
from vaebm.nn import Recomputed, set_recomputation
from vaebm.training import VAESettings, start_vae, vae_step


def kept_bytes(vae: NVAE, images: Tensor, noise: Tensor) -> int:
    total = 0

    def pack(value: Tensor) -> Tensor:
        nonlocal total
        total += value.numel() * value.element_size()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        vae.elbo_terms(images, noise).elbo.sum()
    return total


@pytest.fixture
def vae() -> NVAE:
    torch.manual_seed(0)
    return NVAE((3, 16, 16), (1, 2), 2, 8, 8, num_flows=1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_goes_the_same_way(vae: NVAE, precision: str) -> None:
    engine, ends = make_engine(precision, "cpu"), []
    for recompute in (False, True):
        trained = copy.deepcopy(vae)
        settings = VAESettings(num_iterations=3, batch_size=4, penalty=0.1, recompute=recompute)
        state = start_vae(trained, settings, torch.Generator().manual_seed(1))
        step = vae_step(trained, settings, engine)
        for index in range(3):
            images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(index)) * 2 - 1
            state = step(state, images).state
        ends.append(trained.state_dict())
    kept, anew = ends
    assert kept.keys() == anew.keys()
    for name, value in kept.items():
        assert torch.equal(value, anew[name]), name


def test_less_is_kept(vae: NVAE) -> None:
    images, noise = torch.randn(4, 3, 16, 16), torch.randn(4, vae.noise_layout.latent_size)
    before = kept_bytes(vae, images, noise)
    assert set_recomputation(vae, True) == 8
    assert kept_bytes(vae, images, noise) < 0.6 * before


def test_what_can_not_be_recomputed_is_refused() -> None:
    with pytest.raises(ValueError, match="recompute is for an NVAE"):
        start_vae(nn.Linear(2, 2), VAESettings(recompute=True), torch.Generator())


def test_names_of_parameters_are_those_of_a_sequence() -> None:
    parts = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)]
    assert list(Recomputed(*parts).state_dict()) == list(nn.Sequential(*parts).state_dict())
