"""What a VAEBM is compared with: the same networks and data, trained in other ways.

| row | where chains run | where they start |
|---|---|---|
| ``vae`` | nowhere | |
| ``reconstructions`` | nowhere: training images as the VAE reconstructs them | |
| ``vaebm`` | noise space | buffer, N(0, I) |
| ``vaebm-no-buffer`` | noise space | N(0, I) |
| ``vaebm-official`` | noise space, the official release's potential | buffer, N(0, I) |
| ``pixels-short-run`` | pixels | uniform noise |
| ``pixels-persistent`` | pixels | buffer, uniform noise |
| ``pixels-from-vae`` | pixels | samples of the VAE |
| ``wgan-gp`` | nowhere: the decoder is a generator, the energy network its critic | |

Networks, batches, optimizer, moving average and guard are those of the model's recipe. What pixel space needs else,
step size, temperature and noise on data, was chosen by short trials on MNIST (docs/benchmark.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vaebm.recipes.config import Config, from_dict, to_dict
from vaebm.recipes.errors import ConfigError
from vaebm.recipes.ranges import check_leaves
from vaebm.training import AdversarialSettings, EnergySettings

SHORT = 15
# At the temperature of pixel space, energies that begin with a spread of 1 drive chains from noise away for good.
SMALL_SPREAD = 0.1
SPACES, STARTS = ("none", "noise", "pixels", "generator"), ("noise", "vae", "images")


@dataclass(frozen=True)
class RivalConfig:
    """How one row of a comparison is trained and drawn from.

    Arguments:
        space: Where it happens: none (the VAE as it is), noise (VAEBM), pixels (an energy alone), generator (WGAN-GP).
        start: Where chains of pixels start that don't go on from the buffer: noise, or samples of the vae; for space
            none also images, the means of their posteriors instead of draws of the prior.
        temperature: T of E(x) = network(x) / T, for pixels.
        data_noise: The standard deviation σ of Gaussian noise on data, for pixels. Samples end with x + σ² ∇ log h(x),
            the mean of what they were without it (Tweedie's formula).
        input_pooling: The size of the squares of pixels that the energy network averages, 0 for the recipe's. Chains on
            pixels can't remove noise within such squares.
        lengths: The numbers of steps among which the selection split chooses that of generation.
        energy: How the energy network is trained.
        adversarial: How generator and critic are trained.
        guarded: Whether the guard takes training back, in noise space; otherwise what it sees is only counted, as it
            always is on pixels.

    Raises:
        ConfigError: If a value is out of range.
    """

    space: str = "noise"
    start: str = "noise"
    temperature: float = 1.0
    data_noise: float = 0.0
    input_pooling: int = 0
    lengths: tuple[int, ...] = (30, 60, 120)
    energy: EnergySettings = field(default_factory=EnergySettings)
    adversarial: AdversarialSettings = field(default_factory=AdversarialSettings)
    guarded: bool = True

    def __post_init__(self) -> None:
        for name, allowed in (("space", SPACES), ("start", STARTS)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: expected one of {', '.join(allowed)}")
        if self.start == "images" and self.space != "none":
            raise ConfigError(f"start is 'images' with space {self.space!r}: expected none, whose rows aren't trained")
        check_leaves(self)
        if self.space != "pixels" and (self.start == "vae" or self.temperature != 1 or self.data_noise):
            raise ConfigError(f"space is {self.space!r}: expected start noise, temperature 1 and data_noise 0, which "
                              "are otherwise for pixels alone")  # fmt: skip
        if self.space in ("noise", "pixels") and self.energy.objective != "contrastive":
            raise ConfigError(f"energy.objective is {self.energy.objective!r}: rows are trained by chains, contrastive")
        if self.energy.kernel != "langevin" or self.energy.jump_probability:
            raise ConfigError("energy has chains of another kind: those of rows are Langevin's, expected kernel "
                              "langevin and jump_probability 0")  # fmt: skip
        if self.energy.persistence:
            raise ConfigError(f"energy.persistence is {self.energy.persistence:g}: chains of rows keep no momentum, "
                              "expected 0")  # fmt: skip
        if self.space != "noise" and not self.guarded:
            raise ConfigError(f"guarded is false with space {self.space!r}: the guard acts in noise space alone, "
                              "expected true")  # fmt: skip
        if self.space not in ("noise", "pixels") and self.lengths != (0,):
            raise ConfigError(f"lengths is {list(self.lengths)}: {self.space} has no chains, expected [0]")
        if not self.lengths or list(self.lengths) != sorted(set(self.lengths)) or self.lengths[0] < 0:
            raise ConfigError(f"lengths is {list(self.lengths)}: expected ascending numbers of steps, such as [30,60]")


def settings_today(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a stored row, with the defaults of those that are newer than it."""
    try:
        found: dict[str, Any] = to_dict(from_dict(RivalConfig, stored))
    except ConfigError:
        return dict(stored)
    return found


@dataclass(frozen=True)
class Rival:
    """A row: its title in tables, whether it makes use of the VAE, and its settings for a model's recipe."""

    title: str
    needs_vae: bool
    settings: Callable[[Config], RivalConfig]


def _plain(config: Config) -> EnergySettings:
    """Returns a recipe's settings; chains of rows are Langevin's, without momentum."""
    return replace(config.energy, persistence=0.0, kernel="langevin", jump_probability=0.0)


def _vaebm(config: Config) -> RivalConfig:
    longest = max(config.selection.num_steps, default=config.sampling.num_steps)
    return RivalConfig("noise", lengths=tuple(sorted({longest // 2, longest, 2 * longest})), energy=_plain(config))


def _no_buffer(config: Config) -> RivalConfig:
    energy = replace(_plain(config), replay_probability=0.0, num_steps=SHORT)
    return RivalConfig("noise", lengths=(SHORT, 2 * SHORT, 4 * SHORT), energy=energy)


def _official(config: Config) -> RivalConfig:
    return replace(_vaebm(config), energy=replace(_plain(config), potential="official"))


def _pixels(config: Config, num_steps: int, learning_rate: float, l2: float, initial_spread: float) -> RivalConfig:
    energy = replace(
        _plain(config),
        replay_probability=0.0,
        num_steps=num_steps,
        step_size=4e-3,
        learning_rate=learning_rate,
        l2=l2,
        initial_spread=initial_spread,
        matched_noise=False,
    )
    lengths = tuple(sorted({num_steps, 60, 120}))
    return RivalConfig("pixels", temperature=1e-3, data_noise=0.1, input_pooling=1, lengths=lengths, energy=energy)


def _short_run(config: Config) -> RivalConfig:
    return _pixels(config, 40, 1e-4, 0.1, SMALL_SPREAD)


def _persistent(config: Config) -> RivalConfig:
    pixels = _pixels(config, 10, 3e-4, 0.01, SMALL_SPREAD)
    # Chains go on for some 200 steps.
    return replace(pixels, lengths=(60, 120, 240), energy=replace(pixels.energy, replay_probability=0.95))


def _from_vae(config: Config) -> RivalConfig:
    return replace(_pixels(config, 20, 1e-4, 0.1, config.energy.initial_spread), start="vae")


def _wgan(config: Config) -> RivalConfig:
    settings = AdversarialSettings(
        batch_size=config.energy.batch_size, learning_rate=3e-4, critic_rate=3e-4, ema_decay=config.energy.ema_decay
    )
    # A generator that is free needs a critic that sees every pixel.
    return RivalConfig("generator", lengths=(0,), input_pooling=1, adversarial=settings)


RIVALS = {
    "vae": Rival("VAE", True, lambda config: RivalConfig("none", lengths=(0,))),
    "reconstructions": Rival(
        "reconstructions by the VAE", True, lambda config: RivalConfig("none", start="images", lengths=(0,))
    ),
    "vaebm": Rival("VAEBM", True, _vaebm),
    "vaebm-no-buffer": Rival("VAEBM without persistent chains", True, _no_buffer),
    "vaebm-official": Rival("VAEBM, official potential", True, _official),
    "pixels-short-run": Rival("EBM on pixels, from noise", False, _short_run),
    "pixels-persistent": Rival("EBM on pixels, persistent", False, _persistent),
    "pixels-from-vae": Rival("EBM on pixels, from VAE samples", True, _from_vae),
    "wgan-gp": Rival("WGAN-GP, generator from the VAE", True, _wgan),
}
