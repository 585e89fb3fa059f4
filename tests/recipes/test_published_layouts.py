"""Layouts that no fixture has: a network under published names comes back as what it was."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from publishing import energy_tensors, shaken, vae_tensors, write_vae
from torch import Tensor

from vaebm.models import NVAE, VAEBM, EnergyNetwork
from vaebm.recipes import import_published, load, save
from vaebm.recipes.config import from_dict
from vaebm.recipes.hierarchical import NVAENetworkConfig

TOLERANCE = 1e-5
SMALL = {"latents": 2, "encoder_width": 4, "decoder_width": 4, "encoder_cells": 1, "decoder_cells": 1}
ADAPTIVE = {"ada_groups": True}
# The arguments of the network, and what its file says beyond them.
LAYOUTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "two scales": ({"groups": (2, 2)}, {}),
    "three scales": ({"groups": (2, 2, 2)}, {}),
    "halved groups": ({"groups": (1, 2, 4)}, ADAPTIVE),
    "halved groups down to two": ({"groups": (2, 2, 5)}, ADAPTIVE | {"min_groups_per_scale": 2}),
    "two pairs of flows": ({"groups": (1, 2), "num_flows": 2}, ADAPTIVE),
    "no gates": ({"groups": (1, 1), "has_excitation": False}, {}),
    "no residual posterior": ({"groups": (2,), "is_residual": False}, {}),
    "flows without a residual posterior": ({"groups": (2,), "is_residual": False, "num_flows": 1}, {}),
    "more cells in the decoder": ({"groups": (2, 2), "encoder_cells": 1, "decoder_cells": 3}, {}),
    "more cells in the encoder": ({"groups": (2, 2), "encoder_cells": 3, "decoder_cells": 1}, {}),
    "a wide encoder": ({"groups": (1, 2), "encoder_width": 12, "decoder_width": 4}, ADAPTIVE),
    "a wide decoder": ({"groups": (1, 2), "encoder_width": 4, "decoder_width": 20}, ADAPTIVE),
    "no outer blocks": ({"groups": (2, 2), "outer_blocks": 0}, {}),
    "two outer blocks": ({"groups": (1, 1), "outer_blocks": 2, "outer_cells": 3}, {}),
    "fewer cells outward": ({"groups": (1, 1), "outer_blocks": 2, "outer_cells": 3, "outward_cells": 1}, {}),
    "more cells outward": ({"groups": (1, 1), "outer_blocks": 2, "outer_cells": 1, "outward_cells": 2}, {}),
    "grey": ({"groups": (1, 1), "image_shape": (1, 16, 16)}, {}),
}
ENERGIES = {
    "CIFAR-10": "1v 1 2v 2 2v 2",
    "CelebA-64": "1v 1 2v 2 2v 4 4v 4",
    "LSUN-64": "1v 1 2v 2 2 2v 4 4 4v 4",
    "CelebA-HQ-256": "1v 1 2v 2 2v 2 4v 4 4v 4 8v 8",
    "MNIST": "1v 1 2v 2",
}


def distance(found: Tensor, expected: Tensor) -> float:
    """Returns the largest error, relative to the largest entry."""
    assert found.shape == expected.shape
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).abs().max() / expected.abs().max())


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small_vae(**arguments: Any) -> NVAE:
    torch.manual_seed(0)
    vae: NVAE = shaken(NVAE(**{"image_shape": (3, 16, 24), **SMALL, **arguments}))
    return vae


def small_energy(blocks: str, channels: int = 3) -> EnergyNetwork:
    torch.manual_seed(1)
    parts = blocks.split()
    energy: EnergyNetwork = shaken(
        EnergyNetwork(
            (channels, 16, 24),
            blocks="residual",
            widths=[4 * int(part.rstrip("v")) for part in parts],
            halvings=[int(part.endswith("v")) for part in parts],
            stem_kernel_size=3,
            num_hidden=0,
            pooling="sum",
        )
    )
    return energy


def assert_same_vae(found: Any, expected: NVAE) -> None:
    size = expected.noise_layout.latent_size
    noise, images = draw(2, size, seed=0), draw(2, *expected.image_shape, seed=1).tanh()
    with torch.no_grad():
        decoded, wanted = found.decode(noise), expected.decode(noise)
        terms, wanted_terms = found.elbo_terms(images, noise), expected.elbo_terms(images, noise)
    assert distance(decoded.mean, wanted.mean) <= TOLERANCE
    assert distance(decoded.scale, wanted.scale) <= TOLERANCE
    for latent, wanted_latent in zip(decoded.latents, wanted.latents, strict=True):
        assert distance(latent, wanted_latent) <= TOLERANCE
    assert distance(terms.log_likelihood, wanted_terms.log_likelihood) <= TOLERANCE
    assert distance(terms.kl, wanted_terms.kl) <= TOLERANCE
    assert distance(terms.noise, wanted_terms.noise) <= TOLERANCE


@pytest.mark.parametrize("kind", LAYOUTS)
def test_an_nvae_of_any_layout_comes_back(kind: str, tmp_path: Path) -> None:
    arguments, settings = LAYOUTS[kind]
    vae = small_vae(**arguments)
    write_vae(vae, tmp_path / "checkpoint.pt", **settings)
    found = import_published(tmp_path / "checkpoint.pt").model.vae
    assert found.arguments == vae.arguments
    assert_same_vae(found, vae)


def test_other_numbers_of_cells_inward_and_outward_stay_in_a_model_folder(tmp_path: Path) -> None:
    vae = small_vae(groups=(1,), outer_cells=1, outward_cells=3)
    save(VAEBM(vae, small_energy("1v 1")), tmp_path / "model")
    again = load(tmp_path / "model").vae
    assert (len(again.inward), len(again.outward)) == (1, 3)
    assert_same_vae(again, vae)


def test_cells_outward_are_as_many_as_inward_where_nothing_is_said() -> None:
    arguments = small_vae(groups=(1,)).arguments
    stored = {name: value for name, value in arguments.items() if name not in ("outward_cells", "image_shape")}
    config = from_dict(NVAENetworkConfig, stored)
    assert config.outward_cells == 0
    assert len(NVAE((3, 16, 24), **stored).outward) == len(NVAE((3, 16, 24), **asdict(config)).outward) == 2
    with pytest.raises(ValueError, match="outward_cells is -1: expected 0 or more"):
        small_vae(groups=(1,), outward_cells=-1)


def test_the_alias_of_a_plain_convolution_wins(tmp_path: Path) -> None:
    vae = small_vae(groups=(1, 1))
    write_vae(vae, tmp_path / "checkpoint.pt")
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=False)
    tensors = {name: value.clone() for name, value in content["state_dict"].items()}
    aliases = [name for name in tensors if name.endswith(".weight_normalized")]
    for name in aliases:
        tensors[name.replace("weight_normalized", "weight")].fill_(7)
    torch.save({**content, "state_dict": tensors}, tmp_path / "checkpoint.pt")
    assert aliases
    assert_same_vae(import_published(tmp_path / "checkpoint.pt").model.vae, vae)


def test_half_precision_and_the_names_of_parallel_training_are_taken(tmp_path: Path) -> None:
    vae = small_vae(groups=(1, 1)).half().float()
    write_vae(vae, tmp_path / "checkpoint.pt")
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=False)
    tensors = {f"module.{name}": value for name, value in content["state_dict"].items()}
    halves = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    torch.save({**content, "state_dict": halves}, tmp_path / "checkpoint.pt")
    found = import_published(tmp_path / "checkpoint.pt").model.vae
    assert next(found.parameters()).dtype == torch.float32
    assert_same_vae(found, vae)


@pytest.mark.parametrize("kind", ENERGIES)
def test_each_published_energy_network_comes_back(kind: str, tmp_path: Path) -> None:
    vae, energy = small_vae(groups=(1,)), small_energy(ENERGIES[kind])
    write_vae(vae, tmp_path / "checkpoint.pt")
    torch.save({"model": energy_tensors(energy)}, tmp_path / "EBM.pth")
    found = import_published(tmp_path / "checkpoint.pt", tmp_path / "EBM.pth").model.energy
    images = draw(5, 3, 16, 24, seed=2).tanh()
    assert found.arguments == energy.arguments
    assert distance(found(images), energy(images)) <= TOLERANCE


def test_filters_of_zeros_stay_zero(tmp_path: Path) -> None:
    energy = small_energy(ENERGIES["MNIST"])
    tensors = energy_tensors(energy)
    with torch.no_grad():
        for name, layer in (("conv1", energy.body[0]), ("blocks.1.conv1", energy.body[3].first)):
            tensors[f"{name}.weight"][1] = 0
            layer.parametrizations.weight.original0[1] = 0
    write_vae(small_vae(groups=(1,)), tmp_path / "checkpoint.pt")
    images = draw(3, 3, 16, 24, seed=2).tanh()
    for expected in (energy(images), tensors["linear.bias"].expand(3)):
        torch.save({"model": tensors}, tmp_path / "EBM.pth")
        found = import_published(tmp_path / "checkpoint.pt", tmp_path / "EBM.pth").model.energy
        assert distance(found(images), expected) <= TOLERANCE
        tensors["linear.weight"].zero_()


def test_the_exporter_names_what_the_fixtures_name() -> None:
    path = Path(__file__).parents[1] / "fixtures" / "published" / "cifar-flow"
    found = import_published(path / "checkpoint.pt", path / "EBM.pth").model
    for file, key, tensors in (
        ("checkpoint.pt", "state_dict", vae_tensors(found.vae)),
        ("EBM.pth", "model", energy_tensors(found.energy)),
    ):
        stored = torch.load(path / file, weights_only=False)[key]
        assert {name: value.shape for name, value in stored.items()} == {
            name: value.shape for name, value in tensors.items()
        }
