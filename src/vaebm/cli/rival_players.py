"""What a row of ``vaebm benchmark`` trains: its networks, where its chains start, its iterations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from vaebm.applications import start_noise
from vaebm.cli.rival_state import Misfit
from vaebm.cli.running import MISFITS
from vaebm.data import Batches, ImageSet, Splits, to_float
from vaebm.distributed import Engine
from vaebm.evaluation import Floors, Judge, Reference, make_reference, measure_floors
from vaebm.models import VAEBM, EnergyNetwork, GaussianReference, ImageFields, TemperedEnergy
from vaebm.recipes import Config
from vaebm.recipes.rivals import RivalConfig
from vaebm.sampling import FreshNoise, Kernel, Langevin, Projected, standard_normal
from vaebm.training import (
    AdversarialState,
    EnergySettings,
    EnergyState,
    Guarded,
    GuardMemory,
    Progress,
    adversarial_step,
    energy_step,
    fit,
    guarded_fit,
    start_adversarial,
    start_energy,
)
from vaebm.training.verdict import Verdict

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


class RowBatches:
    """The batches of a row, with its noise on data.

    Arguments:
        rival: How the row is trained.
        course: What all rows have in common.
        batch_size: The number of images in a batch.
    """

    def __init__(self, rival: RivalConfig, course: Course, batch_size: int) -> None:
        data, images = course.config.data, torch.from_numpy(course.splits.training.images)
        self._batches = Batches(images, batch_size, course.generator(3), flips=data.flips, shifts=data.shifts)
        self._spread, self._generator = rival.data_noise, course.generator(4)

    def __iter__(self) -> RowBatches:
        return self

    def __next__(self) -> Tensor:
        """Returns the next batch (B, C, H, W)."""
        batch = next(self._batches)
        return batch + self._spread * torch.randn(batch.shape, generator=self._generator) if self._spread else batch

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and numbers to go on from."""
        return {"images": self._batches.state_dict(), "noise": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` returned."""
        self._batches.load_state_dict(state["images"])
        self._generator.set_state(state["noise"])


@dataclass(frozen=True)
class Player:
    """A row under way.

    Arguments:
        model: Its model.
        fresh: Where chains start afresh.
        iterations: Trains, for ever, by schedules that are planned for so many iterations; from the beginning, or from
            what ``state_dict`` returned: then it yields that moment first, without figures.
        averaged: Makes the model with the averaged weights of a state.
        batches: The images that it is trained on.
    """

    model: VAEBM
    fresh: FreshNoise
    iterations: Callable[[int, Mapping[str, Any]], Iterator[Any]]
    averaged: Callable[[Mapping[str, Tensor]], VAEBM]
    batches: RowBatches

    def state_dict(self, progress: Any) -> dict[str, Any]:
        """Returns tensors and numbers to go on from after an iteration."""
        memory = {"memory": progress.memory.state_dict()} if hasattr(progress, "memory") else {}
        return {
            "model": self.model.state_dict(),
            "batches": self.batches.state_dict(),
            "training": progress.state.state_dict(),
            **memory,
        }


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
        model = VAEBM(copy.deepcopy(base.vae), energy, base.image_fields)
        fresh = _from_images(base, course.splits.training) if rival.start == "images" else standard_normal
    model.to(course.engine.device)
    if rival.space == "generator":
        train, part = _adversarial, "vae"
        # Each step of the critic sees images of its own.
        batch_size = rival.adversarial.num_critic_steps * rival.adversarial.batch_size
    else:
        train, part, batch_size = partial(_chains, fresh=fresh), "energy", rival.energy.batch_size
    batches = RowBatches(rival, course, batch_size)
    iterations = partial(train, model, rival, course, batches)
    return Player(model, fresh, iterations, partial(_with_average, model, part), batches)


def _uniform(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draws pixels uniform in [−1, 1]."""
    return 2 * torch.rand(shape, generator=generator, device=generator.device) - 1


def _from_vae(model: VAEBM) -> FreshNoise:
    """Returns what draws samples of a VAE, its mean images, as pixels."""

    @torch.no_grad()
    def draw(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        device = next(model.vae.parameters()).device
        parts = torch.split(start_noise(model, shape[0], generator).to(device), 500)
        return torch.cat([model.transport(part).mean.flatten(1) for part in parts]).cpu()

    return draw


def _from_images(model: VAEBM, data: ImageSet) -> FreshNoise:
    """Returns what draws the noise of images, by the means of their posteriors, without that of pixels."""

    @torch.no_grad()
    def draw(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(data), (shape[0],), generator=generator, device=generator.device).cpu().numpy()
        images = to_float(data.images[chosen])
        device, size = next(model.vae.parameters()).device, model.noise_layout.latent_size
        latent = model.vae.elbo_terms(images.to(device), torch.zeros(shape[0], size, device=device)).noise.cpu()
        return torch.cat([latent, latent.new_zeros(shape[0], shape[1] - size)], 1)

    return draw


def _with_average(model: VAEBM, part: str, average: Mapping[str, Tensor]) -> VAEBM:
    """Copies a model with averaged weights in its ``vae`` or its ``energy``."""
    found = copy.deepcopy(model).eval().requires_grad_(False)
    getattr(found, part).load_state_dict(average)
    return found


def _first(course: Course, batch_size: int) -> Tensor:
    images = torch.from_numpy(course.splits.training.images)
    return next(Batches(images, max(batch_size, 128), course.generator(5))).to(course.engine.device)


def _chains(
    model: VAEBM,
    rival: RivalConfig,
    course: Course,
    batches: RowBatches,
    planned: int,
    stored: Mapping[str, Any],
    fresh: FreshNoise,
) -> Iterator[Any]:
    decay = _decay(rival.energy.ema_decay, planned)
    settings = replace(rival.energy, num_iterations=ENDLESS, ema_decay=decay, buffer_on_disk=False)
    settings = _scaled(settings, rival.temperature)
    first = _first(course, settings.batch_size)
    state = start_energy(model, settings, first, course.generator(6))
    memory = _go_on(model, batches, state, stored)
    guard = course.config.guard
    if rival.space == "pixels" or not rival.guarded:
        # Pixels overshoot in their first iterations and come back by themselves; what it sees is only counted.
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

    following = guarded_fit(model, settings, make, state, batches, guard, memory)
    return chain([Guarded(state, {}, Verdict(memory.condition), memory, None)], following) if memory else following


def _go_on(
    model: VAEBM, batches: RowBatches, state: EnergyState | AdversarialState, stored: Mapping[str, Any]
) -> GuardMemory | None:
    """Puts networks, images and what else training needs to where they were, if anything was kept.

    Returns:
        What the guard knew, if there was one.

    Raises:
        Misfit: If something else was kept.
    """
    if not stored:
        return None
    try:
        model.load_state_dict(stored["model"])
        batches.load_state_dict(stored["batches"])
        state.load_state_dict(stored["training"])
        return GuardMemory.from_state_dict(stored["memory"]) if "memory" in stored else None
    except torch.OutOfMemoryError:
        raise
    except MISFITS as error:
        raise Misfit(f"{type(error).__name__}: {error}") from error


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


def _adversarial(
    model: VAEBM, rival: RivalConfig, course: Course, batches: RowBatches, planned: int, stored: Mapping[str, Any]
) -> Iterator[Any]:
    settings = replace(rival.adversarial, ema_decay=_decay(rival.adversarial.ema_decay, planned))
    state = start_adversarial(model, settings, _first(course, settings.batch_size), course.generator(6))
    _go_on(model, batches, state, stored)
    following = fit(adversarial_step(model, settings, course.engine), state, batches, ENDLESS)
    return chain([Progress(state, {})], following) if stored else following
