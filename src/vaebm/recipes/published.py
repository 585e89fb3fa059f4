"""Models out of checkpoints in the published layout.

References:
    NVAE: A Deep Hierarchical Variational Autoencoder, https://arxiv.org/abs/2007.03898
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vaebm.checkpoint import CheckpointError, Published, read_published_energy, read_published_vae
from vaebm.models import NVAE, VAEBM, EnergyNetwork, ImageFields

# What the released commands train with, by the name of the data set: facts of the paper and its release.
SAMPLING: dict[str, dict[str, Any]] = {
    "cifar10": {"num_steps": 16, "step_size": 8e-5},
    "celeba_64": {"num_steps": 20, "step_size": 5e-6},
    "celeba_256": {"num_steps": 24, "step_size": 3e-6},
}
LSUN, LSUN_SAMPLING = "lsun", {"num_steps": 20, "step_size": 4e-6}
DEFAULT = "cifar10"


@dataclass(frozen=True)
class Imported:
    """A model out of published checkpoints, whether it has an energy network of its own, and what the NVAE's file says.

    Without one, E(x) = 0: the model is its VAE. Notes are lines on what was assumed.
    """

    model: VAEBM
    has_energy: bool
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()


def import_published(vae: str | Path, energy: str | Path | None = None) -> Imported:
    """Reads an NVAE with Gaussian pixels, and an energy network, in the published layout.

    Arguments:
        vae: The NVAE's checkpoint.pt.
        energy: The energy network's file; None for E(x) = 0.

    Returns:
        The model, in evaluation mode, its parameters frozen.

    Raises:
        CheckpointError: If a file can't be read, is of another architecture, or has missing, extra or misshapen
            tensors.
    """
    found = read_published_vae(vae)
    base = _build(NVAE, found)
    shape = found.arguments["image_shape"]
    correction = _no_energy(shape) if energy is None else _build(EnergyNetwork, read_published_energy(energy, shape))
    dataset = str(found.settings.get("dataset", ""))
    sampling = LSUN_SAMPLING if dataset.startswith(LSUN) else SAMPLING.get(dataset)
    notes = () if sampling else (_note(dataset),)
    loss_image = "sampled" if dataset == "cifar10" else "mean"
    model = VAEBM(base, correction, ImageFields("sampled", loss_image, "mean"), sampling or SAMPLING[DEFAULT])
    return Imported(model.eval().requires_grad_(False), energy is not None, found.settings, notes)


def _note(dataset: str) -> str:
    named = f"the data set {dataset[:100]!r}, for which none were published" if dataset else "no data set"
    steps = "{num_steps} of {step_size:g}".format(**SAMPLING[DEFAULT])
    return (
        f"the file names {named}: Langevin steps are those of {DEFAULT}, {steps}, and the loss's image is the mean; "
        "vaebm sample --num-steps --step-size change the steps"
    )


def _build(kind: type[nn.Module], published: Published) -> nn.Module:
    # First without memory: settings that don't fit the tensors may ask for any amount of it.
    try:
        with torch.device("meta"):
            shapes = {name: tuple(value.shape) for name, value in kind(**published.arguments).state_dict().items()}
    except (ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{published.path} describes no network ({' '.join(str(error).split())})") from error
    published.check_shapes(shapes)
    _check_names(published, shapes)
    published.check_values()
    network = kind(**published.arguments)
    network.load_state_dict(published.tensors)
    return network


def _check_names(published: Published, shapes: Mapping[str, Any]) -> None:
    unknown = sorted(published.tensors.keys() ^ shapes.keys())
    if unknown:
        raise CheckpointError(
            f"{published.path}: its tensors make no such network, {unknown[0]} has no counterpart: expected the "
            "published layout"
        )


def _no_energy(image_shape: tuple[int, int, int]) -> EnergyNetwork:
    network = EnergyNetwork(image_shape, widths=(4,), num_hidden=0, normalization="none")
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network
