"""Stage 2 on a VAE that is there already: of another run, imported, or bundled."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

from vaebm.models import NVAE, VAEBM
from vaebm.recipes.build import LoadedModel, read_model
from vaebm.recipes.config import Config, VAENetworkConfig, from_dict
from vaebm.recipes.errors import ConfigError
from vaebm.recipes.hierarchical import NVAEConfig, NVAENetworkConfig


def with_given_vae(config: Config) -> Config:
    """Returns a configuration whose VAE is that of ``config.initial_vae``, if one is given.

    Raises:
        CheckpointError: If there is no such model, or it is damaged.
    """
    if not config.initial_vae:
        return config
    vae = read_model(config.initial_vae).model.vae
    is_hierarchical = isinstance(vae, NVAE)
    network = {name: value for name, value in vae.arguments.items() if name != "image_shape"}
    kind: type[Config] = NVAEConfig if is_hierarchical else Config
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    # A run goes on from any folder.
    place = Path(os.path.expanduser(config.initial_vae))
    values["initial_vae"] = str(place.resolve()) if place.exists() else config.initial_vae
    values["vae_network"] = from_dict(NVAENetworkConfig if is_hierarchical else VAENetworkConfig, network)
    return kind(**values)


def take_given_vae(model: VAEBM, config: Config) -> str:
    """Gives a model the VAE of ``config.initial_vae``, in place.

    Returns:
        What is to be said of it.

    Raises:
        CheckpointError: If there is no such model, or it is damaged.
        ConfigError: If it isn't the VAE of the configuration, or of other images.
    """
    loaded = read_model(config.initial_vae)
    given, wanted = loaded.model.image_shape, model.image_shape
    if tuple(given) != tuple(wanted):
        raise ConfigError(
            f"initial_vae {config.initial_vae}: is a VAE of {_told(given)} images, the data are {_told(wanted)}: "
            "give images of its size with data.image_size and data.channels, or another VAE"
        )
    try:
        model.vae.load_state_dict(loaded.model.vae.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"initial_vae {config.initial_vae}: isn't the VAE of vae_network: was it changed? start anew"
        ) from error
    return f"the VAE of {loaded.folder} is taken as it is{_on_split(loaded, config)}"


def _on_split(loaded: LoadedModel, config: Config) -> str:
    """Returns a warning if that VAE may have learned images that this run calibrates or selects with."""
    data = loaded.details.get("config", {}).get("data", {})
    if not data:
        return "; what it learned on isn't known, so held-out images may not be new to it"
    if (data.get("source"), data.get("split_seed")) == (config.data.source, config.data.split_seed):
        return ""
    return "; it learned on other images or another split, so held-out images may not be new to it"


def _told(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)
