"""From configurations and stored tensors to networks: the only place that knows which name means which class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebm.applications import round_scores
from vaebm.checkpoint import (
    CheckpointError,
    StoredModel,
    load_model_folder,
    resolve_model,
    save_model_folder,
)
from vaebm.data import Preprocessing
from vaebm.metrics.calibration import threshold
from vaebm.models import NVAE, VAEBM, ConvVAE, DenseEnergy, EnergyNetwork, ImageFields
from vaebm.recipes.config import Config
from vaebm.recipes.errors import ConfigError
from vaebm.recipes.hierarchical import NVAEConfig
from vaebm.recipes.planar import PlanarConfig

VAES = {"ConvVAE": ConvVAE, "NVAE": NVAE}
ENERGIES = {"EnergyNetwork": EnergyNetwork, "DenseEnergy": DenseEnergy}


@dataclass(frozen=True)
class LoadedModel:
    """A model and what is stored beside it.

    Arguments:
        model: The model.
        calibration: Scores of the calibration split, or None.
        card: The model card.
        folder: Where it lies.
        details: What it was trained on.
        preprocessing: What becomes of a picture before the model sees it.
    """

    model: VAEBM
    calibration: dict[str, Any] | None
    card: str
    folder: Path
    details: dict[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


def build_model(config: Config, image_shape: Sequence[int]) -> VAEBM:
    """Builds the untrained VAEBM of a configuration.

    Arguments:
        config: The configuration.
        image_shape: The shape (C, H, W) of one image.

    Raises:
        ConfigError: If there is no such network for images of this shape.
    """
    try:
        kind = NVAE if isinstance(config, NVAEConfig) else ConvVAE
        vae = kind(image_shape, **asdict(config.vae_network))
        energy = EnergyNetwork(image_shape, **asdict(config.energy_network))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return VAEBM(vae, energy, config.images, asdict(config.sampling))


def build_planar_model(config: PlanarConfig) -> VAEBM:
    """Builds the untrained VAEBM of a density of the plane.

    Arguments:
        config: The configuration.

    Raises:
        ConfigError: If there are no such networks.
    """
    shape = (2, 1, 1)
    try:
        vae = ConvVAE(shape, (2,), **asdict(config.vae_network))
        energy = DenseEnergy(shape, **asdict(config.energy_network))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    sampling = {"num_steps": config.evaluation.num_steps, "step_size": config.energy.step_size,
                "persistence": config.energy.persistence}  # fmt: skip
    return VAEBM(vae, energy, ImageFields("sampled", "sampled", "sampled"), sampling)


def save(
    model: VAEBM,
    folder: str | Path,
    *,
    calibration: dict[str, Any] | None = None,
    card: str = "",
    details: dict[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes a model folder: config.json, model.safetensors, a card, and calibration scores if there are any.

    Arguments:
        model: The VAEBM.
        folder: Where to; written whole or not at all.
        calibration: Scores of the calibration split, for p-values.
        card: The model card, Markdown.
        details: Plain values to keep with the model: data set, seed, and the like.
        preprocessing: What becomes of a picture before the model sees it; by default it is taken as it is.
        dtype: The type in which floating-point tensors are stored, by default their own.

    Raises:
        CheckpointError: If the folder can't be written.
    """
    config = {
        "kind": "vaebm",
        "vae": _entry(model.vae),
        "energy": _entry(model.energy),
        "images": asdict(model.image_fields),
        "sampling": model.sampling,
        "details": details or {},
        "preprocessing": (preprocessing or Preprocessing()).to_dict(),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if dtype is not None:
        tensors = {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
    save_model_folder(folder, StoredModel(config, tensors, calibration, card))


def load(name: str | Path) -> VAEBM:
    """Loads a VAEBM: a bundled name, a model folder, a run folder or a hub id.

    Arguments:
        name: Which one.

    Returns:
        The model in evaluation mode, float32, on the CPU, its parameters frozen.

    Raises:
        CheckpointError: If there is no such model or a file of it is damaged.
    """
    return read_model(name).model


def read_model(name: str | Path) -> LoadedModel:
    """Loads a VAEBM as ``load`` does, with what is stored beside it.

    Arguments:
        name: A bundled name, a model folder, a run folder or a hub id.

    Returns:
        The model and what is stored beside it.

    Raises:
        CheckpointError: If there is no such model or a file of it is damaged.
    """
    folder = resolve_model(str(name))
    stored = load_model_folder(folder)
    if stored.config.get("kind") != "vaebm":
        raise CheckpointError(f"{folder} holds a {stored.config.get('kind')!r}, not a vaebm: name another model")
    try:
        vae = _network(stored.config["vae"], VAES, folder)
        energy = _network(stored.config["energy"], ENERGIES, folder)
        model = VAEBM(vae, energy, ImageFields(**stored.config["images"]), stored.config["sampling"])
        # Models of before pictures were resized took them as they were.
        preprocessing = Preprocessing.from_dict(stored.config.get("preprocessing", {}))
    except CheckpointError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{folder}/config.json describes no model ({reason}): was vaebm newer there?") from error
    _check_stored(stored, folder)
    fill(model, stored.tensors, folder)
    model.requires_grad_(False)
    details = stored.config.get("details", {})
    return LoadedModel(model.eval(), stored.calibration, stored.card, folder, details, preprocessing)


def _check_stored(stored: StoredModel, folder: Path) -> None:
    sampling, calibration = stored.config["sampling"], stored.calibration
    known = {"num_steps": int, "step_size": float, "persistence": float}
    kept = sampling.get("persistence", 0.0)
    is_wrong = any(name not in known or not isinstance(value, known[name]) for name, value in sampling.items())
    if is_wrong or not 0 <= kept < 1 or not sampling.get("step_size", 1.0) > 0 or sampling.get("num_steps", 0) < 0:
        raise CheckpointError(
            f"{folder}/config.json has a wrong 'sampling': expected num_steps, step_size > 0 and persistence < 1"
        )
    if calibration is None:
        return
    expected = {"score": str, "seed": int, "num_posterior_samples": int, "outlier_scores": list}
    if any(not isinstance(calibration.get(name), kind) for name, kind in expected.items()):
        raise CheckpointError(f"{folder}/calibration.json is damaged: expected {', '.join(expected)}")
    if calibration["num_posterior_samples"] < 1 or not 0 <= calibration["seed"] < 2**63:
        raise CheckpointError(
            f"{folder}/calibration.json is damaged: expected a posterior sample and a seed of 0 or more"
        )
    _check_decision(calibration, folder)


def _check_decision(calibration: dict[str, Any], folder: Path) -> None:
    # Models of before decisions were stored have neither a rate nor a threshold.
    rate = calibration.get("false_positive_rate", 1.0)
    try:
        scores = torch.tensor(calibration["outlier_scores"], dtype=torch.float64)
        found = threshold(round_scores(scores), float(rate))
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{folder}/calibration.json can't be used ({reason}): copy or download the model again"
        ) from error
    if "false_positive_rate" in calibration and calibration.get("threshold") != found:
        raise CheckpointError(
            f"{folder}/calibration.json has the threshold {calibration.get('threshold')}, but its scores put it at "
            f"{found} for a rate of {rate}: copy or download the model again"
        )


def _entry(network: Any) -> dict[str, Any]:
    if type(network) not in (*VAES.values(), *ENERGIES.values()):
        name, known = type(network).__name__, ", ".join([*VAES, *ENERGIES])
        raise CheckpointError(
            f"a {name} can't be stored in a model folder: expected one of {known}; keep its state_dict"
        )
    return {"class": type(network).__name__, **network.arguments}


def _network(entry: dict[str, Any], classes: Mapping[str, Any], folder: Path) -> Any:
    found = str(entry.get("class"))
    if found not in classes:
        names = " or ".join(classes)
        raise CheckpointError(f"{folder}/config.json names {found!r}: expected {names}; was vaebm newer there?")
    return classes[found](**{name: value for name, value in entry.items() if name != "class"})


def fill(module: torch.nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    """Puts stored tensors into a network.

    Raises:
        CheckpointError: If they don't fit.
    """
    floats = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    try:
        module.load_state_dict(floats)
    except RuntimeError as error:
        lines = " ".join(str(error).split())
        raise CheckpointError(f"{folder}/model.safetensors doesn't fit its config.json: {lines[:300]}") from error
