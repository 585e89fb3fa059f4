"""One complete configuration for each data set, and the networks that it names."""

from collections.abc import Callable

from vaebm.recipes.build import (
    LoadedModel,
    build_model,
    build_planar_model,
    load,
    read_model,
    save,
)
from vaebm.recipes.config import Config, from_dict, to_dict
from vaebm.recipes.digits import digits
from vaebm.recipes.errors import ConfigError, ExtraError
from vaebm.recipes.given import take_given_vae, with_given_vae
from vaebm.recipes.hierarchical import NVAEConfig, config_class
from vaebm.recipes.images import images
from vaebm.recipes.judges import load_extractor, load_inception, load_judges, load_stacked_judges
from vaebm.recipes.mnist import mnist, stacked_mnist_quick
from vaebm.recipes.paper import NOTES as PAPER_NOTES
from vaebm.recipes.paper import PAPER_RECIPES
from vaebm.recipes.planar import PLANAR_RECIPES, PlanarConfig
from vaebm.recipes.published import Imported, import_published
from vaebm.recipes.quick import quick
from vaebm.recipes.small import NOTES as SMALL_NOTES
from vaebm.recipes.small import SMALL_RECIPES

RECIPES: dict[str, Callable[[], Config]] = {
    "digits": digits,
    "mnist": mnist,
    "stacked_mnist-quick": stacked_mnist_quick,
    **PAPER_RECIPES,
    **SMALL_RECIPES,
}
NOTES = {**PAPER_NOTES, **SMALL_NOTES}

__all__ = [
    "NOTES",
    "PAPER_RECIPES",
    "PLANAR_RECIPES",
    "RECIPES",
    "Config",
    "ConfigError",
    "ExtraError",
    "Imported",
    "LoadedModel",
    "NVAEConfig",
    "PlanarConfig",
    "build_model",
    "build_planar_model",
    "config_class",
    "from_dict",
    "images",
    "import_published",
    "load",
    "load_extractor",
    "load_inception",
    "load_judges",
    "load_stacked_judges",
    "quick",
    "read_model",
    "save",
    "take_given_vae",
    "to_dict",
    "with_given_vae",
]
