"""The complete configuration of a run: frozen dataclasses whose fields are the arguments of what they build.

A recipe is a function that returns one complete ``Config``; a file and the command line override single fields. Ranges
are checked here, so that a bad value ends before anything is built.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from vaebm.data import DataError, Preprocessing
from vaebm.models import ImageFields
from vaebm.recipes.errors import ConfigError
from vaebm.recipes.ranges import check_leaves
from vaebm.sampling import Langevin
from vaebm.training import EnergySettings, GuardSettings, VAESettings


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
        persistence: How much of their momentum chains keep from step to step, from 0 (the paper) to below 1.
    """

    num_steps: int = 45
    step_size: float = 0.05
    persistence: float = 0.0

    @property
    def kernel(self) -> Langevin:
        """What moves the chains."""
        return Langevin(self.step_size, self.persistence)

    @property
    def words(self) -> str:
        """The chains in words."""
        kept = f" that keep {self.persistence:g} of the momentum" if self.persistence else ""
        return f"{self.num_steps} Langevin steps of size {self.step_size:g}{kept}"


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
        guard: When that counts as diverged, and what is done then.
        images: Which image the energy sees, the loss takes and generation returns.
        sampling: How images are generated.
        selection: How the energy network is chosen.
        evaluation: What is measured at the end.
        initial_vae: A model whose VAE is taken as it is, so that stage 1 is left out: a model folder, a run or a
            bundled name; empty to train one.
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
    guard: GuardSettings = field(default_factory=GuardSettings)
    images: ImageFields = field(default_factory=ImageFields)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    initial_vae: str = ""
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    report_every: int = 10
    sample_every: int = 500
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        check_leaves(self)
        check_chains(self.energy)
        try:
            _ = self.data.preprocessing
        except DataError as error:
            raise ConfigError(f"data: {error}") from error
        if self.vae.recompute and isinstance(self.vae_network, VAENetworkConfig):
            raise ConfigError("vae.recompute is true, but only the cells of an NVAE are recomputed: set it to false")
        if self.energy.potential == "official" and self.images.chain_image != "sampled":
            raise ConfigError(
                "energy.potential is 'official', which needs image noise: set images.chain_image to sampled"
            )


def check_chains(energy: EnergySettings) -> None:
    """Checks that chains follow the potential that was asked for, and can keep the momentum.

    Raises:
        ConfigError: If there are no chains, or others.
    """
    if energy.potential != "exact" and energy.objective != "contrastive":
        raise ConfigError(
            f"energy.potential {energy.potential!r} has no effect without chains: set energy.objective to contrastive"
        )
    can_keep = energy.objective == "contrastive" and energy.kernel == "langevin" and not energy.jump_probability
    if energy.persistence and not can_keep:
        raise ConfigError(
            f"energy.persistence is {energy.persistence:g}, but only Langevin chains without jumps keep momentum: set "
            "it to 0, or energy.objective to contrastive, energy.kernel to langevin and energy.jump_probability to 0"
        )


KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


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
