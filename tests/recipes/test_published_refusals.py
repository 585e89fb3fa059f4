"""Published checkpoints that can't be used: each is refused in one line that names what is wrong, before it costs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from publishing import energy_tensors, settings_of, shaken, vae_tensors
from torch import Tensor

from vaebm.checkpoint import CheckpointError
from vaebm.models import NVAE, EnergyNetwork
from vaebm.recipes import import_published

Tensors = dict[Any, Any]
BLOCKS = "1v 1 2v 2"
PLAIN = "dec_tower.1._ops.0.conv.3"


@pytest.fixture(scope="module")
def vae() -> NVAE:
    torch.manual_seed(0)
    made: NVAE = shaken(NVAE((3, 16, 16), (2,), 2, 8, 8, 1, 1, outer_cells=1))
    return made


@pytest.fixture(scope="module")
def energy() -> EnergyNetwork:
    torch.manual_seed(0)
    made: EnergyNetwork = shaken(
        EnergyNetwork((3, 16, 16), "residual", (8, 8, 16, 16), 1, 3, 0, "sum", halvings=(1, 0, 1, 0))
    )
    return made


def refused(folder: Path, vae: Tensors, settings: Any, energy: Tensors | None = None) -> str:
    """Imports what is written, and returns the line in which it is refused."""
    torch.save({"args": argparse.Namespace(**settings), "state_dict": vae}, folder / "checkpoint.pt")
    if energy is not None:
        torch.save({"model": energy}, folder / "EBM.pth")
    begun = time.perf_counter()
    with pytest.raises(CheckpointError) as caught:
        import_published(folder / "checkpoint.pt", None if energy is None else folder / "EBM.pth")
    assert time.perf_counter() - begun < 20
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1000
    assert line.count(str(folder)) == 1
    return line


MISSHAPEN = [
    ("conv1.weight", (8,), "(filters, channels, height, width)"),
    ("conv1.weight", (), "(filters, channels, height, width)"),
    ("conv1.weight", (8, 3, 3, 5), "(8, 3, 3, 3)"),
    ("conv1.log_weight_norm", (), "(8, 1, 1, 1)"),
    ("conv1.log_weight_norm", (1, 1, 1, 1), "(8, 1, 1, 1)"),
    ("conv1.log_weight_norm", (5, 1, 1, 1), "(8, 1, 1, 1)"),
    ("conv1.bias", (1,), "(8,)"),
    ("blocks.1.conv1.weight", (), "(filters, channels, height, width)"),
    ("blocks.1.conv1.weight", (8, 3, 3, 3), "(8, 8, 3, 3)"),
    ("blocks.1.conv2.weight", (8, 8, 1, 1), "(8, 8, 3, 3)"),
    ("blocks.2.conv2.log_weight_norm", (8, 1, 1, 1), "(16, 1, 1, 1)"),
    ("blocks.0.skip.0.weight", (8, 8, 3, 3), "(8, 8, 1, 1)"),
    ("linear.weight", (16,), "(1, 16)"),
    ("linear.weight", (), "(1, 16)"),
    ("linear.weight", (2, 16), "(1, 16)"),
    ("linear.bias", (), "(1,)"),
]


@pytest.mark.parametrize(("name", "shape", "expected"), MISSHAPEN, ids=str)
def test_a_misshapen_tensor_of_an_energy_network(
    name: str, shape: tuple[int, ...], expected: str, vae: NVAE, energy: EnergyNetwork, tmp_path: Path
) -> None:
    tensors = {**energy_tensors(energy), name: torch.ones(shape)}
    line = refused(tmp_path, vae_tensors(vae), settings_of(vae), tensors)
    assert f"{name} has shape {shape}, expected {expected}" in line


ENERGY_EDITS: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "whole numbers": (
        lambda tensors: tensors.update({"conv1.weight": torch.ones(8, 3, 3, 3, dtype=torch.int64)}),
        "conv1.weight is of type int64 and shape (8, 3, 3, 3): expected floating-point numbers",
    ),
    "complex": (
        lambda tensors: tensors.update({"linear.bias": torch.ones(1, dtype=torch.complex64)}),
        "linear.bias is of type complex64",
    ),
    "sparse": (
        lambda tensors: tensors.update({"linear.weight": torch.ones(1, 16).to_sparse()}),
        "linear.weight is of type sparse_coo",
    ),
    "nested": (
        lambda tensors: tensors.update({"linear.bias": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])}),
        "linear.bias is several tensors in one: expected floating-point numbers",
    ),
    "attributes": (
        lambda tensors: setattr(tensors["linear.bias"].fill_(torch.nan), "isfinite", 3),
        "linear.bias holds values that aren't finite",
    ),
    "nowhere": (
        lambda tensors: tensors.update({"linear.weight": torch.ones(1, 16, device="meta")}),
        "linear.weight is of type meta",
    ),
    "a number for a name": (lambda tensors: tensors.update({3: torch.ones(1)}), "model has the name 3"),
    "bytes for a name": (lambda tensors: tensors.update({b"x": torch.ones(1)}), "model has the name a bytes"),
    "a name of two lines": (lambda tensors: tensors.update({"a\nb": torch.ones(1)}), "has 'a\\nb' too many"),
    "a norm without bounds": (
        lambda tensors: tensors["blocks.1.conv1.log_weight_norm"].fill_(200),
        "blocks.1.conv1.log_weight_norm holds values that aren't finite",
    ),
    "no number": (lambda tensors: tensors["linear.weight"].fill_(torch.nan), "linear.weight holds values that"),
    "a repeated number": (
        lambda tensors: tensors.update({"linear.weight": torch.ones(1).expand(10**6, 10**6)}),
        "linear.weight has shape (1000000, 1000000): expected each number to be stored",
    ),
    "none": (lambda tensors: tensors.clear(), "has no 'model'"),
}


@pytest.mark.parametrize("kind", ENERGY_EDITS)
def test_an_energy_network_that_is_none(kind: str, vae: NVAE, energy: EnergyNetwork, tmp_path: Path) -> None:
    edit, words = ENERGY_EDITS[kind]
    tensors: Tensors = energy_tensors(energy)
    edit(tensors)
    assert words in refused(tmp_path, vae_tensors(vae), settings_of(vae), tensors)


VAE_EDITS: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "stem of one dimension": (
        lambda tensors: tensors.update({"stem.weight": torch.ones(8)}),
        "stem.weight has shape (8,), expected (filters, channels, height, width)",
    ),
    "stem of none": (lambda tensors: tensors.update({"stem.weight": torch.ones(())}), "stem.weight has shape (), "),
    "start of none": (lambda tensors: tensors.update({"prior_ftr0": torch.ones(())}), "prior_ftr0 has shape (), "),
    "no start": (lambda tensors: tensors.pop("prior_ftr0"), "has no tensor prior_ftr0"),
    "whole numbers": (
        lambda tensors: tensors.update({"enc0.1.bias": torch.ones(16, dtype=torch.int32)}),
        "enc0.1.bias is of type int32 and shape (16,)",
    ),
    "a counter of fractions": (
        lambda tensors: tensors.update({"enc_tower.0._ops.0.bn_act.num_batches_tracked": torch.ones(2)}),
        "bn_act.num_batches_tracked has shape (2,), expected ()",
    ),
    "an alias alone": (lambda tensors: tensors.pop(f"{PLAIN}.weight"), f"lacks {PLAIN}.weight:"),
    "a misshapen tensor with a good alias": (
        lambda tensors: tensors.update({f"{PLAIN}.weight": torch.ones(3, 3)}),
        f"{PLAIN}.weight has shape (3, 3), expected (16, 96, 1, 1)",
    ),
    "a misshapen alias": (
        lambda tensors: tensors.update({f"{PLAIN}.weight_normalized": torch.ones(3, 3)}),
        f"{PLAIN}.weight_normalized has shape (3, 3), expected (16, 96, 1, 1)",
    ),
    "an endless alias": (
        lambda tensors: tensors.update({f"{PLAIN}.weight_normalized": torch.ones(1).expand(10**6, 10**6)}),
        f"{PLAIN}.weight_normalized has shape (1000000, 1000000), expected (16, 96, 1, 1)",
    ),
    "one name twice": (
        lambda tensors: tensors.update({"module.stem.bias": torch.ones(8)}),
        "has both stem.bias and module.stem.bias",
    ),
    "a repeated number": (
        lambda tensors: tensors.update({"more": torch.ones(1).expand(10**6, 10**6)}),
        "more has shape (1000000, 1000000): expected each number to be stored",
    ),
    "one map of pixels for each channel": (
        lambda tensors: tensors.update({"image_conditional.1.weight": torch.ones(3, 8, 3, 3)}),
        "has Bernoulli pixels (image_conditional.1.weight has 3 filters, one for each channel), through which no chain "
        "can run: expected an NVAE with Gaussian pixels (num_mixture_dec 1), the only ones that are supported",
    ),
    "a number for a name": (lambda tensors: tensors.update({0: torch.ones(1)}), "state_dict has the name 0"),
}


@pytest.mark.parametrize("kind", VAE_EDITS)
def test_an_nvae_with_a_wrong_tensor(kind: str, vae: NVAE, tmp_path: Path) -> None:
    edit, words = VAE_EDITS[kind]
    tensors: Tensors = vae_tensors(vae)
    edit(tensors)
    assert words in refused(tmp_path, tensors, settings_of(vae))


MANY = dict.fromkeys(
    ("num_latent_scales", "num_groups_per_scale", "num_cell_per_cond_enc", "num_cell_per_cond_dec", "num_nf"), 200
)
SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "all at their most": (MANY, "its settings describe a network of 24,000,002 cells"),
    "two hundred scales": ({"num_latent_scales": 200}, "its settings describe a network of"),
    "two hundred outer blocks": (
        {"num_preprocess_blocks": 200, "num_postprocess_blocks": 200, "num_postprocess_cells": 200},
        "its settings describe a network of",
    ),
    "thirty scales": ({"num_latent_scales": 30}, "prior_ftr0 has shape (16, 8, 8), expected (8589934592, 8, 8)"),
    "many latents": ({"num_latent_per_group": 2**14}, "has shape"),
    "a number of hundreds of digits": ({"num_nf": 10**600}, "args.num_nf is 1000000"),
    "a tensor of more numbers": ({"num_nf": torch.ones(3)}, "args.num_nf is a Tensor"),
    "an architecture of numbers": ({"arch_instance": torch.ones(3)}, "args.arch_instance is a Tensor: expected text"),
    "pixels of numbers": ({"num_mixture_dec": torch.ones(3)}, "args.num_mixture_dec is a Tensor"),
    "blocks of numbers": ({"num_postprocess_blocks": torch.ones(3)}, "args.num_postprocess_blocks is a Tensor"),
    "a flag of numbers": ({"use_se": torch.ones(3)}, "args.use_se is a Tensor: expected True or False"),
    "a flag of text": ({"res_dist": "False"}, "args.res_dist is 'False': expected True or False"),
    "a long text": ({"num_nf": "\n" * 10**6}, "args.num_nf is '\\n"),
    "other blocks on the way out": (
        {"num_postprocess_blocks": 2},
        "args.num_preprocess_blocks is 1, but num_postprocess_blocks 2: expected as many",
    ),
    "no cells": ({"num_preprocess_cells": 0}, "args.num_preprocess_cells is 0: expected a whole number from 1"),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_an_nvae_with_wrong_settings(kind: str, vae: NVAE, tmp_path: Path) -> None:
    settings, words = SETTINGS[kind]
    assert words in refused(tmp_path, vae_tensors(vae), settings_of(vae) | settings)


def test_what_the_file_says_besides_is_kept_only_where_it_is_plain(vae: NVAE, tmp_path: Path) -> None:
    more = {"epochs": 3, "huge": 10**600, "long": "x" * 10**6, "lines": "a\nb", "numbers": torch.ones(3), "rate": 0.5}
    settings = argparse.Namespace(**settings_of(vae) | more)
    torch.save({"args": settings, "state_dict": vae_tensors(vae)}, tmp_path / "checkpoint.pt")
    found = import_published(tmp_path / "checkpoint.pt").settings
    assert {name for name in more if name in found} == {"epochs", "rate"}


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("cifar10", None),
        ("lsun_church", None),
        ("celeba_64", None),
        ("omniglot", "the data set 'omniglot', for which none were published: Langevin steps are those of cifar10"),
        ("", "no data set: Langevin steps are those of cifar10, 16 of 8e-05, and the loss's image is the mean"),
    ],
)
def test_an_unknown_data_set_is_told_of(dataset: str, words: str | None, vae: NVAE, tmp_path: Path) -> None:
    settings = argparse.Namespace(**settings_of(vae) | {"dataset": dataset})
    torch.save({"args": settings, "state_dict": vae_tensors(vae)}, tmp_path / "checkpoint.pt")
    notes = import_published(tmp_path / "checkpoint.pt").notes
    assert (words in notes[0]) if words else not notes


def test_a_name_longer_than_a_line_is_cut(vae: NVAE, tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = vae_tensors(vae) | {"x" * 10**5: torch.ones(1)}
    assert "…" in refused(tmp_path, tensors, settings_of(vae))
