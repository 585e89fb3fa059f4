"""Configurations: complete, plain to store, checked before anything is built."""

from __future__ import annotations

import math
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
import yaml

from vaebm.models import NVAE, ConvVAE, EnergyNetwork, ImageFields
from vaebm.recipes import (
    RECIPES,
    Config,
    ConfigError,
    NVAEConfig,
    PlanarConfig,
    build_model,
    config_class,
    from_dict,
    to_dict,
)
from vaebm.recipes.config import SamplingConfig, SelectionConfig
from vaebm.training import EnergySettings


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_a_file(name: str) -> None:
    config = RECIPES[name]()
    values = yaml.safe_load(yaml.safe_dump(to_dict(config)))
    assert from_dict(config_class(values), values) == config


# Those of the paper are large: tests/recipes/test_paper.py builds them without memory.
@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_a_recipe_builds_networks_for_its_data(name: str) -> None:
    config = RECIPES[name]()
    model = build_model(config, (1, 8, 8))
    assert model.noise_layout.latent_size == sum(config.vae_network.latent_groups)
    assert model.image_fields == config.images
    assert model.sampling == asdict(config.sampling)
    assert max(config.evaluation.steps_curve) >= config.sampling.num_steps > 0


def test_network_configurations_are_the_arguments_of_the_networks() -> None:
    for family, part, network in (
        (Config, "vae_network", ConvVAE),
        (NVAEConfig, "vae_network", NVAE),
        (Config, "energy_network", EnergyNetwork),
    ):
        config = getattr(family(), part)
        arguments = network((1, 8, 8), **asdict(config)).arguments
        assert set(arguments) == {"image_shape", *(item.name for item in fields(config))}


def test_plain_values_only() -> None:
    def kinds(value: Any) -> set[type]:
        entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return {type(value)}.union(*(kinds(entry) for entry in entries))

    assert kinds(to_dict(Config())) <= {dict, list, str, int, float, bool}


def test_missing_keys_keep_their_default() -> None:
    config = from_dict(Config, {"energy": {"num_steps": 3}, "seed": 5})
    assert config == replace(Config(), seed=5, energy=EnergySettings(num_steps=3))


@pytest.mark.parametrize(("given", "expected"), [(2, 2.0), (0.25, 0.25), ("1e-4", 1e-4), ("3", 3.0)])
def test_numbers_come_as_yaml_writes_them(given: Any, expected: float) -> None:
    rate = from_dict(Config, {"energy": {"learning_rate": given}}).energy.learning_rate
    assert rate == expected
    assert isinstance(rate, float)


def test_lists_become_tuples_of_numbers() -> None:
    config = from_dict(Config, {"vae_network": {"widths": [8, 4]}, "energy": {"betas": [0, 0.5]}})
    assert config.vae_network.widths == (8, 4)
    assert config.energy.betas == (0.0, 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": 1}, "unknown key colour: "),
        ({"energy": {"steps": 1}}, "unknown key energy.steps: "),
        ({"energy": 3}, "energy is 3: expected keys and values"),
        ({"energy": None}, "energy is None: expected keys and values"),
        ([], "the configuration is []: expected keys and values"),
        ({"seed": 1.5}, "seed is 1.5: expected a whole number"),
        ({"seed": True}, "seed is True: expected a whole number"),
        ({"energy": {"num_steps": "many"}}, "energy.num_steps is 'many': expected a whole number"),
        ({"energy": {"step_size": "small"}}, "energy.step_size is 'small': expected a number"),
        ({"energy": {"step_size": True}}, "energy.step_size is True: expected a number"),
        ({"energy": {"step_size": [1.0]}}, "energy.step_size is [1.0]: expected a number"),
        ({"energy": {"matched_noise": 1}}, "energy.matched_noise is 1: expected true or false"),
        ({"data": {"source": 7}}, "data.source is 7: expected text"),
        ({"vae_network": {"widths": 8}}, "vae_network.widths is 8: expected a list"),
        ({"vae_network": {"widths": [8, "x"]}}, "vae_network.widths is 'x': expected a whole number"),
        ({"images": {"chain_image": "median"}}, "images.chain_image is 'median': expected one of sampled, mean"),
    ],
)
def test_what_is_no_configuration_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Config, values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("vae.num_iterations", 0, "expected a number above 0"),
        ("vae.learning_rate", -1e-3, "expected a number of at least 0"),
        ("vae.learning_rate", math.nan, "expected a number of at least 0"),
        ("vae.clip_norm", math.inf, "expected a number of at least 0"),
        ("vae.kl_warmup", 1.5, "expected a share from 0 to 1"),
        ("vae.ema_decay", 1.0, "expected a number from 0 to below 1"),
        ("energy.batch_size", 0, "expected a number above 0"),
        ("energy.num_steps", -1, "expected a number of at least 0"),
        ("energy.step_size", 0.0, "expected a number above 0"),
        ("sampling.persistence", 1.0, "expected a number from 0 to below 1"),
        ("energy.persistence", 1.0, "expected a number from 0 to below 1"),
        ("energy.replay_probability", 1.01, "expected a share from 0 to 1"),
        ("energy.ema_decay", 1.0, "expected a number from 0 to below 1"),
        ("energy.betas", (0.0, 1.0), "expected a number from 0 to below 1"),
        ("energy.buffer_keeps", "none", "expected one of all, latent"),
        ("vae_network.latent_groups", (4, 0), "expected a number above 0"),
        ("vae_network.widths", (), "expected one number or more"),
        ("vae_network.body", "recurrent", "expected one of dense, convolutional"),
        ("vae_network.scale", 0.0, "expected a number above 0"),
        ("vae_network.normalization", "batch", "expected one of none, layer"),
        ("vae.betas", (0.9, 1.0), "expected a number from 0 to below 1"),
        ("energy.potential", "approximate", "expected one of exact, official"),
        ("energy_network.widths", (), "expected one number or more"),
        ("energy_network.depth", 0, "expected a number above 0"),
        ("energy_network.stem_kernel_size", 4, "expected an odd number"),
        ("energy_network.normalization", "batch", "expected one of weight, spectral, none"),
        ("evaluation.steps_curve", (0, 15, 5), "expected ascending numbers"),
        ("selection.after", 2.0, "expected a share from 0 to 1"),
        ("seed", -1, "expected a number of at least 0"),
        ("precision", "fp8", "expected one of auto, fp32, bf16"),
        ("checkpoint_every", 0, "expected a number above 0"),
    ],
)
def test_values_out_of_range_are_refused(path: str, value: Any, message: str) -> None:
    section, _, name = path.rpartition(".")
    changes = {section: replace(getattr(Config(), section), **{name: value})} if section else {name: value}
    with pytest.raises(ConfigError) as caught:
        replace(Config(), **changes)
    assert str(caught.value).startswith(f"{path} is ")
    assert message in str(caught.value)


def test_a_hierarchical_vae_has_no_shared_scale() -> None:
    with pytest.raises(ConfigError, match=r"scale_kind is 'shared': expected one of pixel, fixed$"):
        replace(NVAEConfig(), vae_network=replace(NVAEConfig().vae_network, scale_kind="shared"))


@pytest.mark.parametrize("other", [{"kernel": "mala"}, {"jump_probability": 0.5}, {"objective": "importance_sampled"}])
def test_only_langevin_chains_without_jumps_keep_momentum(other: dict[str, Any]) -> None:
    for kind in (Config, PlanarConfig):
        with pytest.raises(ConfigError, match=r"energy\.persistence is 0\.5, but only Langevin chains without jumps"):
            from_dict(kind, {"energy": {"persistence": 0.5, "objective": "contrastive", **other}})
    assert from_dict(Config, {"energy": {"persistence": 0.5}}).energy.persistence == 0.5


def test_the_official_potential_needs_image_noise() -> None:
    for images in ({"chain_image": "mean", "loss_image": "mean"}, {"chain_image": "mean"}):
        with pytest.raises(ConfigError, match=r"energy\.potential is 'official', which needs image noise"):
            from_dict(Config, {"energy": {"potential": "official"}, "images": images})
    assert from_dict(Config, {"energy": {"potential": "official"}}).energy.potential == "official"


def test_limits_themselves_are_allowed() -> None:
    energy = EnergySettings(replay_probability=1.0, replay_rise=0.0, buffer_size=0, centring=0.0, ema_decay=0.0)
    assert replace(Config(), energy=energy, seed=0).energy == energy


def test_networks_that_do_not_fit_the_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="image_shape"):
        build_model(Config(), (1, 5, 5))


def test_fields_are_part_of_the_configuration() -> None:
    fields_given = ImageFields("mean", "mean", "mean")
    assert build_model(replace(Config(), images=fields_given), (1, 8, 8)).noise_layout.size == 32


@pytest.mark.parametrize(("num_candidates", "after"), [(1, 0.5), (4, 0.5), (3, 0.0), (5, 0.9)])
def test_candidates_are_spread_up_to_the_last_iteration(num_candidates: int, after: float) -> None:
    due = [number for number in range(1, 1001) if SelectionConfig(num_candidates, after).is_due(number, 1000)]
    assert due[-1] == 1000
    assert min(due) >= after * 1000
    assert len(due) == (num_candidates if after > 0 else num_candidates - 1)


def test_a_part_of_the_configuration_can_be_read_alone() -> None:
    assert from_dict(SamplingConfig, {"num_steps": 7}) == SamplingConfig(num_steps=7)
    with pytest.raises(ConfigError, match=r"unknown key sampling\.steps"):
        from_dict(SamplingConfig, {"steps": 7}, "sampling.")
