"""The range of every value of a configuration, by its path, so that a bad value ends before anything is built."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from vaebm.models.conv_vae import BODIES, SCALES
from vaebm.models.conv_vae import NORMALIZATIONS as VAE_NORMALIZATIONS
from vaebm.models.energy import BLOCKS, POOLINGS
from vaebm.models.nvae import SCALE_KINDS
from vaebm.nn import NORMALIZATIONS
from vaebm.recipes.errors import ConfigError
from vaebm.training.chains import KERNELS, POTENTIALS
from vaebm.training.energy_state import BUFFER_DTYPES, ENERGY_SCHEDULES, OBJECTIVES
from vaebm.training.vae_stage import OPTIMIZERS, SCHEDULES, VAE_OBJECTIVES

_POSITIVE = {
    "vae_network.latent_groups", "vae_network.widths", "vae_network.num_hidden", "vae_network.scale",
    "vae_network.groups", "vae_network.latents", "vae_network.encoder_width", "vae_network.decoder_width",
    "vae_network.encoder_cells", "vae_network.decoder_cells", "vae_network.outer_cells",
    "vae.num_iterations", "vae.batch_size", "vae.learning_rate", "vae.clip_norm",
    "energy_network.widths", "energy_network.depth", "energy_network.stem_kernel_size", "energy_network.input_pooling",
    "energy.num_iterations", "energy.batch_size", "energy.learning_rate", "energy.num_steps", "energy.step_size",
    "energy.clip_norm", "energy.initial_spread", "energy.num_prior_samples", "energy_network.input_scale",
    "sampling.step_size", "selection.num_candidates", "evaluation.num_samples", "evaluation.num_posterior_samples",
    "evaluation.grid_size", "evaluation.latent_grid_size", "evaluation.num_draws", "evaluation.num_annealed",
    "temperature", "adversarial.num_iterations", "adversarial.batch_size", "adversarial.learning_rate",
    "adversarial.critic_rate", "adversarial.num_critic_steps", "adversarial.initial_spread",
    "guard.window", "guard.snapshot_every", "guard.largest_separation", "guard.largest_noise_norm",
    "guard.largest_overshoot", "guard.largest_loss", "guard.rate_factor", "guard.step_factor", "guard.steps_factor",
    "guard.fewest_steps", "guard.regulariser_factor",
    "report_every", "sample_every", "checkpoint_every",
}  # fmt: skip
_SIGNED = {"data.value_range"}
_SHARES = {
    "selection.after", "vae.kl_warmup", "vae.rate_warmup", "energy.rate_warmup", "energy.replay_probability",
    "energy.replay_rise", "energy.jump_probability", "guard.least_acceptance", "guard.replay_factor",
}  # fmt: skip
_BELOW_ONE = {
    "adversarial.ema_decay",
    "adversarial.betas",
    "vae.ema_decay",
    "energy.ema_decay",
    "vae.betas",
    "energy.betas",
    "guard.rate_factor",
    "guard.step_factor",
    "energy.persistence",
    "sampling.persistence",
}
_LEAST = {
    **dict.fromkeys(
        ("evaluation.num_samples", "evaluation.num_draws", "evaluation.num_annealed", "selection.num_samples"), 10
    ),
    "guard.regulariser_factor": 1,
}
_LARGEST_SEED, _LARGEST_BATCH, _LARGEST = 2**32 - 1, 2**20, 10**15
_MOST = {
    **dict.fromkeys(("seed", "data.split_seed", "evaluation.seed"), _LARGEST_SEED),
    **dict.fromkeys(("vae.batch_size", "energy.batch_size"), _LARGEST_BATCH),
}
_NOT_EMPTY = {
    "vae_network.latent_groups", "vae_network.widths", "vae_network.groups", "energy_network.widths",
}  # fmt: skip
_CHOICES: dict[str, tuple[str, ...]] = {
    "vae_network.body": BODIES,
    "vae_network.scale_kind": SCALES,
    "vae_network.normalization": VAE_NORMALIZATIONS,
    "energy_network.blocks": BLOCKS,
    "energy_network.pooling": POOLINGS,
    "energy_network.normalization": NORMALIZATIONS,
    "vae.objective": VAE_OBJECTIVES,
    "vae.optimizer": OPTIMIZERS,
    "vae.schedule": SCHEDULES,
    "energy.buffer_keeps": ("all", "latent"),
    "energy.buffer_dtype": tuple(BUFFER_DTYPES),
    "energy.objective": OBJECTIVES,
    "energy.schedule": ENERGY_SCHEDULES,
    "energy.kernel": KERNELS,
    "energy.potential": POTENTIALS,
    "precision": ("auto", "fp32", "bf16"),
}


def check_leaves(config: Any) -> None:
    """Checks the range of every value of a configuration.

    Raises:
        ConfigError: If one is out of range.
    """
    is_hierarchical = hasattr(getattr(config, "vae_network", None), "groups")
    choices = {**_CHOICES, "vae_network.scale_kind": SCALE_KINDS} if is_hierarchical else _CHOICES
    for path, value in _leaves(config):
        _check_leaf(path, value)
        if path in choices and value not in choices[path]:
            raise ConfigError(f"{path} is {value!r}: expected one of {', '.join(choices[path])}")


def _leaves(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for item in fields(config):
        value = getattr(config, item.name)
        found += _leaves(value, f"{prefix}{item.name}.") if is_dataclass(value) else [(prefix + item.name, value)]
    return found


def _check_leaf(path: str, value: Any) -> None:
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if not math.isfinite(number) or (number < 0 and path not in _SIGNED):
            raise ConfigError(f"{path} is {number}: expected a number of at least 0")
        if path in _POSITIVE and number == 0:
            raise ConfigError(f"{path} is {number}: expected a number above 0")
        if path in _SHARES and number > 1:
            raise ConfigError(f"{path} is {number}: expected a share from 0 to 1")
        if path in _BELOW_ONE and number >= 1:
            raise ConfigError(f"{path} is {number}: expected a number from 0 to below 1")
        if 0 < number < _LEAST.get(path, 0):
            raise ConfigError(f"{path} is {number}: expected a number of at least {_LEAST[path]}")
        if isinstance(number, int) and number > (most := _MOST.get(path, _LARGEST)):
            raise ConfigError(f"{path} is {number}: expected a number up to {most}")
    if path in _NOT_EMPTY and not value:
        raise ConfigError(f"{path} is empty: expected one number or more")
    if path == "energy_network.stem_kernel_size" and value % 2 == 0:
        raise ConfigError(f"{path} is {value}: expected an odd number")
    if path == "evaluation.steps_curve" and list(value) != sorted(set(value)):
        raise ConfigError(f"{path} is {value}: expected ascending numbers")
