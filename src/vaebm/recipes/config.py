"""The complete configuration of a run: frozen dataclasses whose fields are the arguments of what they build.

A recipe is a function that returns one complete ``Config``; a file and the command line override single fields. Ranges
are checked here, so that a bad value ends before anything is built.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from vaebm.data import DataError, Preprocessing
from vaebm.models import ImageFields
from vaebm.models.conv_vae import BODIES, SCALES
from vaebm.models.conv_vae import NORMALIZATIONS as VAE_NORMALIZATIONS
from vaebm.models.energy import BLOCKS, POOLINGS
from vaebm.nn import NORMALIZATIONS
from vaebm.recipes.errors import ConfigError
from vaebm.training import EnergySettings, VAESettings
from vaebm.training.energy_stage import KERNELS, OBJECTIVES, POTENTIALS
from vaebm.training.vae_stage import OPTIMIZERS, SCHEDULES, VAE_OBJECTIVES


@dataclass(frozen=True)
class DataConfig:
    """Where images come from.

    Arguments:
        source: A bundled name (mnist, digits) or a path: npz, npy, idx files, a folder of images.
        split_seed: The seed of the split into training, selection, calibration and test.
        image_size: The height and width that pictures are brought to, [0,0] to keep the one that all have.
        channels: 1 (grey) or 3 (colour) channels that pictures are brought to, 0 to keep those that all have.
        fit: stretch pictures to the size, or crop their middle in its proportions.
        value_range: The values that become black and white, [0,0] for the range of the type.
        strict: Whether an unreadable file ends the run; otherwise it is left out and counted.
        flips: Whether training images are mirrored left to right, half of the time.
        shifts: The number of pixels by which training images are moved at most, the border repeated.
    """

    source: str = "mnist"
    split_seed: int = 0
    image_size: tuple[int, int] = (0, 0)
    channels: int = 0
    fit: str = "stretch"
    value_range: tuple[float, float] = (0.0, 0.0)
    strict: bool = False
    flips: bool = False
    shifts: int = 0

    @property
    def preprocessing(self) -> Preprocessing:
        """What becomes of a picture.

        Raises:
            DataError: If a value can't be used.
        """
        return Preprocessing(
            image_size=self.image_size if any(self.image_size) else None,
            channels=self.channels or None,
            fit=self.fit,
            value_range=self.value_range if any(self.value_range) else None,
        )


@dataclass(frozen=True)
class VAENetworkConfig:
    """The arguments of ``vaebm.models.ConvVAE``, but the image shape.

    Arguments:
        latent_groups: The number of latents of each group, top-down.
        body: dense (fully connected) or convolutional.
        widths: Hidden units of the body's layers, or channels after each halving of the resolution.
        num_hidden: The width of the networks of conditional prior and posterior.
        scale_kind: fixed, shared (one learned pixel scale) or pixel (predicted for each pixel).
        scale: The pixel scale, or its floor, in units of the range [−1, 1].
        normalization: layer (of the hidden units of each image) or none.
    """

    latent_groups: tuple[int, ...] = (32,)
    body: str = "dense"
    widths: tuple[int, ...] = (1024, 512)
    num_hidden: int = 256
    scale_kind: str = "fixed"
    scale: float = 0.1
    normalization: str = "none"


@dataclass(frozen=True)
class EnergyNetworkConfig:
    """The arguments of ``vaebm.models.EnergyNetwork``, but the image shape.

    Arguments:
        blocks: plain strided convolutions, or the paper's residual blocks.
        widths: The channels after each halving of the resolution.
        depth: The number of blocks for each width.
        stem_kernel_size: The odd size of the first convolution.
        num_hidden: The width of a hidden layer before the scalar, 0 for none.
        pooling: flatten, or sum over space.
        normalization: weight, spectral or none.
        input_pooling: The size of the squares of pixels that are averaged first.
        halvings: For each width, at depth 1, 1 if its block halves the resolution and 0 if not; empty: the first block
            of each width does.
    """

    blocks: str = "plain"
    widths: tuple[int, ...] = (32, 64, 128)
    depth: int = 1
    stem_kernel_size: int = 5
    num_hidden: int = 128
    pooling: str = "flatten"
    normalization: str = "weight"
    input_pooling: int = 1
    halvings: tuple[int, ...] = ()


@dataclass(frozen=True)
class SamplingConfig:
    """How images are generated.

    Arguments:
        num_steps: The number of Langevin steps.
        step_size: The step size η.
    """

    num_steps: int = 45
    step_size: float = 0.05


@dataclass(frozen=True)
class SelectionConfig:
    """How VAE and energy network are chosen among those of their training, on the selection split.

    Arguments:
        num_candidates: How many energy networks are compared, evenly spaced up to the last iteration.
        after: The share of training before the first candidate.
        num_samples: The number of samples for each, 0 to take the last one.
        num_steps: The numbers of Langevin steps that are compared with each energy network; the best becomes the
            model's. [] for sampling.num_steps alone.
        vae_every: The number of iterations between looks at the held-out ELBO; the VAE of the best look is kept. 0
            keeps the last one.
        vae_patience: The number of looks without a better ELBO that end the stage of the VAE, 0 for none.
    """

    num_candidates: int = 4
    after: float = 0.5
    num_samples: int = 1000
    num_steps: tuple[int, ...] = ()
    vae_every: int = 0
    vae_patience: int = 0

    def is_due(self, iteration: int, num_iterations: int) -> bool:
        """Whether an iteration is a candidate's.

        Example:
            >>> [iteration for iteration in range(1, 101) if SelectionConfig(3, 0.5).is_due(iteration, 100)]
            [50, 75, 100]
        """
        first = self.after * num_iterations
        gap = (num_iterations - first) / max(1, self.num_candidates - 1)
        return iteration in {round(num_iterations - index * gap) for index in range(self.num_candidates)}


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured at the end, on the test images.

    Arguments:
        num_samples: The number of generated images.
        steps_curve: The numbers of Langevin steps at which quality is measured.
        num_posterior_samples: The number of posterior samples of an ELBO, and of noisy copies of an energy.
        seed: The seed of everything that is drawn to measure: chains, floors, outliers, bootstrap resamples.
        num_test: At most so many test images take part, evenly spaced; 0 for all of them.
    """

    num_samples: int = 5000
    steps_curve: tuple[int, ...] = (0, 5, 15, 45, 150)
    num_posterior_samples: int = 8
    seed: int = 2023
    num_test: int = 0


@dataclass(frozen=True)
class Config:
    """The complete configuration of a run.

    Arguments:
        data: Where images come from.
        vae_network: The VAE.
        vae: How the VAE is trained.
        energy_network: The energy network.
        energy: How the energy network is trained.
        images: Which image the energy sees, the loss takes and generation returns.
        sampling: How images are generated.
        selection: How the energy network is chosen.
        evaluation: What is measured at the end.
        seed: The seed of everything random but the split and the measurements.
        precision: fp32, bf16 or auto (bf16 where the hardware has it).
        device: cpu, cuda or auto (cuda where there is one).
        report_every: Figures are recorded after so many iterations.
        sample_every: A grid of samples is drawn after so many iterations.
        checkpoint_every: A checkpoint is written after so many iterations.
    """

    data: DataConfig = field(default_factory=DataConfig)
    vae_network: VAENetworkConfig = field(default_factory=VAENetworkConfig)
    vae: VAESettings = field(default_factory=VAESettings)
    energy_network: EnergyNetworkConfig = field(default_factory=EnergyNetworkConfig)
    energy: EnergySettings = field(default_factory=EnergySettings)
    images: ImageFields = field(default_factory=ImageFields)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    report_every: int = 10
    sample_every: int = 500
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        check_leaves(self)
        check_potential(self.energy)
        try:
            _ = self.data.preprocessing
        except DataError as error:
            raise ConfigError(f"data: {error}") from error
        if self.energy.potential == "official" and self.images.chain_image != "sampled":
            raise ConfigError(
                "energy.potential is 'official', which needs image noise: set images.chain_image to sampled"
            )


def check_potential(energy: EnergySettings) -> None:
    """Checks that chains follow the potential that was asked for.

    Raises:
        ConfigError: If there are no chains.
    """
    if energy.potential != "exact" and energy.objective != "contrastive":
        raise ConfigError(
            f"energy.potential {energy.potential!r} has no effect without chains: set energy.objective to contrastive"
        )


_POSITIVE = {
    "vae_network.latent_groups", "vae_network.widths", "vae_network.num_hidden", "vae_network.scale",
    "vae.num_iterations", "vae.batch_size", "vae.learning_rate", "vae.clip_norm",
    "energy_network.widths", "energy_network.depth", "energy_network.stem_kernel_size", "energy_network.input_pooling",
    "energy.num_iterations", "energy.batch_size", "energy.learning_rate", "energy.num_steps", "energy.step_size",
    "energy.clip_norm", "energy.initial_spread", "energy.num_prior_samples", "energy_network.input_scale",
    "sampling.step_size", "selection.num_candidates", "evaluation.num_samples", "evaluation.num_posterior_samples",
    "evaluation.grid_size", "evaluation.latent_grid_size", "evaluation.num_draws", "evaluation.num_annealed",
    "report_every", "sample_every", "checkpoint_every",
}  # fmt: skip
_SIGNED = {"data.value_range"}
_SHARES = {
    "selection.after", "vae.kl_warmup", "vae.rate_warmup", "energy.replay_probability", "energy.replay_rise",
    "energy.jump_probability",
}  # fmt: skip
_BELOW_ONE = {"vae.ema_decay", "energy.ema_decay", "vae.betas", "energy.betas"}
_LEAST = dict.fromkeys(
    ("evaluation.num_samples", "evaluation.num_draws", "evaluation.num_annealed", "selection.num_samples"), 10
)
_LARGEST_SEED, _LARGEST_BATCH, _LARGEST = 2**32 - 1, 2**20, 10**15
_MOST = {
    **dict.fromkeys(("seed", "data.split_seed", "evaluation.seed"), _LARGEST_SEED),
    **dict.fromkeys(("vae.batch_size", "energy.batch_size"), _LARGEST_BATCH),
}
_NOT_EMPTY = {"vae_network.latent_groups", "vae_network.widths", "energy_network.widths"}
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
    "energy.objective": OBJECTIVES,
    "energy.kernel": KERNELS,
    "energy.potential": POTENTIALS,
    "precision": ("auto", "fp32", "bf16"),
}


KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def check_leaves(config: Any) -> None:
    """Checks the range of every value of a configuration.

    Raises:
        ConfigError: If one is out of range.
    """
    for path, value in _leaves(config):
        _check_leaf(path, value)


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
    if path in _CHOICES and value not in _CHOICES[path]:
        raise ConfigError(f"{path} is {value!r}: expected one of {', '.join(_CHOICES[path])}")


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a configuration as nested plain values: lists instead of tuples."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(entry) for name, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, tuple | list) else value

    result: dict[str, Any] = plain(asdict(config))
    return result


def from_dict(cls: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """Builds a configuration dataclass from nested plain values.

    Arguments:
        cls: The dataclass.
        values: Its fields by name; missing ones keep their default.
        prefix: What precedes a field's name in an error.

    Raises:
        ConfigError: If a key is unknown, or a value of another type than its default or out of range.

    Example:
        >>> from_dict(SamplingConfig, {"num_steps": 3}).num_steps
        3
    """
    defaults = cls()
    names = [item.name for item in fields(defaults)]
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix.rstrip('.') or 'the configuration'} is {values!r}: expected keys and values")
    for name in values:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, 1)
            expected = f"did you mean {prefix}{close[0]}?" if close else f"expected one of {', '.join(names)}"
            raise ConfigError(f"unknown key {prefix}{name}: {expected}")
    arguments = {name: _converted(prefix + name, getattr(defaults, name), value) for name, value in values.items()}
    try:
        return cls(**arguments)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{prefix}{error}") from error


def _converted(path: str, default: Any, value: Any) -> Any:
    if is_dataclass(default):
        return from_dict(type(default), value, f"{path}.")
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{path} is {value!r}: expected a list")
        # A list that is empty by default is one of whole numbers.
        prototype = default[0] if default else 0
        return tuple(_converted(path, prototype, entry) for entry in value)
    if isinstance(default, float) and not isinstance(value, bool):
        # YAML takes 1e-4, without a point, for text.
        with suppress(TypeError, ValueError, OverflowError):
            return float(value)
    if type(value) is not type(default):
        raise ConfigError(f"{path} is {value!r}: expected {KIND_NAMES[type(default)]}")
    return value
