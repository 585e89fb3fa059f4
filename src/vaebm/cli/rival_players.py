"""What a row of ``vaebm benchmark`` trains: its networks, where its chains start, its iterations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vaebm.applications import start_noise
from vaebm.data import Batches, Splits, to_float
from vaebm.distributed import Engine
from vaebm.evaluation import Floors, Judge, Reference, make_reference, measure_floors
from vaebm.models import VAEBM, EnergyNetwork, GaussianReference, ImageFields, TemperedEnergy
from vaebm.recipes import Config
from vaebm.recipes.rivals import RivalConfig
from vaebm.sampling import FreshNoise, Kernel, Langevin, Projected, standard_normal
from vaebm.training import (
    EnergySettings,
    adversarial_step,
    energy_step,
    fit,
    guarded_fit,
    start_adversarial,
    start_energy,
)

# Rows end by the clock.
ENDLESS = 10**9


@dataclass
class Course:
    """What all rows have in common.

    Arguments:
        model: The trained VAEBM whose VAE all rows take that need one.
        config: Its configuration.
        splits: The four splits of its images.
        judges: What measures samples; the first one chooses.
        engine: Device and precision, of one process.
        num_samples: How many samples are measured on the test images.
        seed: The seed of everything random.
        tell: Is told what goes on.
        references: The judged real images, by judge; made when they are needed.
    """

    model: VAEBM
    config: Config
    splits: Splits
    judges: list[Judge]
    engine: Engine
    num_samples: int
    seed: int
    tell: Callable[[str], None]
    references: dict[str, tuple[Reference, Floors]] = field(default_factory=dict)

    def generator(self, purpose: int) -> torch.Generator:
        """Returns a generator for a purpose, seeded by the seed."""
        return torch.Generator().manual_seed(self.seed * 1000 + purpose)

    def reference(self, judge: Judge) -> tuple[Reference, Floors]:
        """Returns what a judge sees in the real images, and its floors."""
        if judge.sha256 not in self.references:
            test, training = to_float(self.splits.test.images), to_float(self.splits.training.images)
            drawn = torch.Generator().manual_seed(0)
            found = make_reference(judge, test, training, num_samples=self.num_samples, generator=drawn)
            self.references[judge.sha256] = found, measure_floors(found, self.num_samples, generator=drawn)
        return self.references[judge.sha256]


@dataclass(frozen=True)
class Player:
    """A row under way.

    Arguments:
        model: Its model.
        fresh: Where chains start afresh.
        iterations: Trains, for ever, by schedules that are planned for so many iterations.
        averaged: Makes the model with the averaged weights of a state.
    """

    model: VAEBM
    fresh: FreshNoise
    iterations: Callable[[int], Iterator[Any]]
    averaged: Callable[[Any], VAEBM]


def kernel_of(rival: RivalConfig, step_size: float) -> Kernel:
    """Returns Langevin's kernel; pixels are kept within the range of images, outside which their energy is flat."""
    local = Langevin(step_size)
    return Projected(local, 1.0) if rival.space == "pixels" else local


def make_player(rival: RivalConfig, course: Course) -> Player:
    """Builds what a row trains; its new networks come from the global generator.

    Raises:
        ValueError: If there are no such networks.
    """
    base, shape = course.model, course.model.image_shape
    network = asdict(course.config.energy_network)
    if rival.input_pooling:
        network["input_pooling"] = rival.input_pooling
    energy = EnergyNetwork(shape, **network)
    if rival.space == "pixels":
        model = VAEBM(
            GaussianReference(shape), TemperedEnergy(energy, rival.temperature), ImageFields("mean", "mean", "mean")
        )
        fresh = _from_vae(base) if rival.start == "vae" else _uniform
    else:
        model, fresh = VAEBM(copy.deepcopy(base.vae), energy, base.image_fields), standard_normal
    model.to(course.engine.device)
    if rival.space == "generator":
        return Player(
            model, fresh, lambda planned: _adversarial(model, rival, course, planned), _with_average(model, "vae")
        )
    return Player(
        model, fresh, lambda planned: _chains(model, rival, course, fresh, planned), _with_average(model, "energy")
    )


def _uniform(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draws pixels uniform in [−1, 1]."""
    return 2 * torch.rand(shape, generator=generator, device=generator.device) - 1


def _from_vae(model: VAEBM) -> FreshNoise:
    """Returns what draws samples of a VAE, its mean images, as pixels."""

    @torch.no_grad()
    def draw(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        parts = torch.split(start_noise(model, shape[0], generator), 500)
        return torch.cat([model.transport(part).mean.flatten(1) for part in parts]).cpu()

    return draw


def _with_average(model: VAEBM, part: str) -> Callable[[Any], VAEBM]:
    """Returns what copies a model with the averaged weights of a state in its ``vae`` or its ``energy``."""

    def averaged(state: Any) -> VAEBM:
        found = copy.deepcopy(model).eval().requires_grad_(False)
        getattr(found, part).load_state_dict(state.average)
        return found

    return averaged


def _batches(rival: RivalConfig, course: Course, batch_size: int) -> Iterator[Tensor]:
    data, images = course.config.data, torch.from_numpy(course.splits.training.images)
    batches = Batches(images, batch_size, course.generator(3), flips=data.flips, shifts=data.shifts)
    noise = course.generator(4)
    for batch in batches:
        yield batch + rival.data_noise * torch.randn(batch.shape, generator=noise) if rival.data_noise else batch


def _first(course: Course, batch_size: int) -> Tensor:
    images = torch.from_numpy(course.splits.training.images)
    return next(Batches(images, max(batch_size, 128), course.generator(5))).to(course.engine.device)


def _chains(model: VAEBM, rival: RivalConfig, course: Course, fresh: FreshNoise, planned: int) -> Iterator[Any]:
    decay = _decay(rival.energy.ema_decay, planned)
    settings = replace(rival.energy, num_iterations=ENDLESS, ema_decay=decay, buffer_on_disk=False)
    settings = _scaled(settings, rival.temperature)
    first = _first(course, settings.batch_size)
    state = start_energy(model, settings, first, course.generator(6))
    guard = course.config.guard
    if rival.space == "pixels":
        # They overshoot in their first iterations and come back by themselves; what it sees is only counted.
        guard = replace(guard, rolls_back=False)

    def make(adapted: EnergySettings) -> Any:
        kernel = kernel_of(rival, adapted.step_size) if rival.space == "pixels" else None
        falling = energy_step(model, replace(adapted, num_iterations=planned), course.engine, kernel, fresh)
        if adapted.schedule == "constant":
            return falling
        # What has fallen to zero would rise again.
        fallen = replace(adapted, num_iterations=planned, schedule="constant", learning_rate=0.0)
        resting = energy_step(model, fallen, course.engine, kernel, fresh)
        return lambda state, images: (falling if state.iteration < planned else resting)(state, images)

    yield from guarded_fit(model, settings, make, state, _batches(rival, course, settings.batch_size), guard)


def _decay(decay: float, num_iterations: int) -> float:
    """Returns the decay of a moving average that remembers at most a tenth of the training.

    One that is meant for longer training would still hold the weights that it began with.
    """
    return min(decay, max(0.0, 1 - 10 / num_iterations))


def _scaled(settings: EnergySettings, temperature: float) -> EnergySettings:
    """Returns settings whose weights hold for the network's output instead of the energy, network / T."""
    return replace(
        settings,
        l2=settings.l2 * temperature,
        centring=settings.centring * temperature,
        spectral=settings.spectral / temperature,
        clip_norm=settings.clip_norm / temperature,
        weight_decay=settings.weight_decay / temperature,
    )


def _adversarial(model: VAEBM, rival: RivalConfig, course: Course, planned: int) -> Iterator[Any]:
    settings = replace(rival.adversarial, ema_decay=_decay(rival.adversarial.ema_decay, planned))
    state = start_adversarial(model, settings, _first(course, settings.batch_size), course.generator(6))
    step = adversarial_step(model, settings, course.engine)
    # Each step of the critic sees images of its own.
    batches = _batches(rival, course, settings.num_critic_steps * settings.batch_size)
    yield from fit(step, state, batches, ENDLESS)
