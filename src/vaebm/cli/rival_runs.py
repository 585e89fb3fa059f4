"""One row of ``vaebm benchmark``: trained for its time, chosen on the selection split, measured on the test images."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vaebm.applications import snapshots, start_noise
from vaebm.cli.chain_looks import Look, watch_chains
from vaebm.cli.choosing import Measure, selection_measure
from vaebm.cli.evaluation import quality_row
from vaebm.data import Batches, Splits, to_float
from vaebm.distributed import Engine
from vaebm.evaluation import (
    Floors,
    Judge,
    Reference,
    frechet_to_reference,
    make_reference,
    measure_against,
    measure_floors,
)
from vaebm.models import VAEBM, EnergyNetwork, GaussianReference, ImageFields, TemperedEnergy, for_chains
from vaebm.nn import frozen
from vaebm.recipes import Config
from vaebm.recipes.config import SelectionConfig
from vaebm.recipes.rivals import RivalConfig
from vaebm.sampling import FreshNoise, Kernel, Langevin, Projected, run_chain, standard_normal
from vaebm.training import (
    EnergySettings,
    adversarial_step,
    energy_step,
    fit,
    guarded_fit,
    start_adversarial,
    start_energy,
)

NUM_PILOT, NUM_SKIPPED = 12, 4
NUM_TIMED, NUM_TIMED_STEPS = 250, 9
CANDIDATES, NUM_SELECTING = SelectionConfig(num_candidates=3, after=0.5), 500
STEPS = (0, 1, 2, 4, 8, 15, 30, 60, 100, 200)


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
class _Player:
    """A row under way: its model, where chains start afresh, and how the model with averaged weights is made."""

    model: VAEBM
    fresh: FreshNoise
    iterations: Callable[[int], Iterator[Any]]
    averaged: Callable[[Any], VAEBM]


@dataclass(frozen=True)
class _Trained:
    model: VAEBM
    num_steps: int
    step_size: float
    row: dict[str, Any]


def run_row(rival: RivalConfig, course: Course, budget: float) -> tuple[dict[str, Any], Tensor]:
    """Trains and measures a row.

    Arguments:
        rival: How it is trained.
        course: What all rows have in common.
        budget: The seconds of training; looking at candidates takes no part in them.

    Returns:
        Its figures, and its samples, uint8 (N, C, H, W).
    """
    player = _player(rival, course)
    trained = _train(player, rival, course, budget)
    if rival.space != "none" and not math.isfinite(trained.row["chosen"]["distance"]):
        course.tell("no candidate made finite images")
        nothing = {"num_samples": course.num_samples, "milliseconds_per_step": 0.0, "quality": [], "curve": []}
        return {**trained.row, **nothing}, torch.zeros(1, *course.model.image_shape, dtype=torch.uint8)
    kernel, generator = _kernel(rival, trained.step_size), course.generator(7)
    lengths = sorted({0, trained.num_steps, *(STEPS if rival.space in ("noise", "pixels") else ())})
    start = player.fresh((course.num_samples, trained.model.noise_layout.size), generator)
    course.tell(f"drawing {course.num_samples:,} samples, up to {lengths[-1]} steps")
    with course.engine.autocast():
        looks = watch_chains(trained.model, start, lengths, kernel, generator, course.engine)
        seconds = _seconds_per_step(trained.model, start[:NUM_TIMED], kernel) if lengths[-1] else 0.0
    chosen = next(look for look in looks if look.step == trained.num_steps)
    row = {
        **trained.row,
        "num_samples": course.num_samples,
        "milliseconds_per_step": 1000 * seconds / min(NUM_TIMED, course.num_samples),
        **_measure(chosen, looks if len(lengths) > 2 else [], course),
    }
    return row, chosen.images


def _seconds_per_step(model: VAEBM, start: Tensor, kernel: Kernel) -> float:
    """Returns the median seconds of a step of chains that run at once, after one that isn't counted."""
    fast, times = for_chains(model), []
    with frozen(fast):
        origin = time.monotonic()
        for _ in run_chain(kernel, start, fast.log_density, 1 + NUM_TIMED_STEPS, torch.Generator().manual_seed(0)):
            times.append(time.monotonic() - origin)
            origin = time.monotonic()
    return median(times[1:])


def _measure(chosen: Look, looks: list[Look], course: Course) -> dict[str, Any]:
    quality, curve = [], []
    for judge in course.judges:
        reference, floors = course.reference(judge)
        generator = course.generator(8)
        found = measure_against(to_float(chosen.images), reference, generator=generator, floors=floors)
        quality.append({**quality_row("", found, None), "floor": floors.frechet})
        for look in looks:
            distance = frechet_to_reference(to_float(look.images), reference)
            curve.append({"judge": judge.name, "num_steps": look.step, "frechet": distance})
    return {"quality": quality, "curve": curve}


@dataclass
class _Best:
    """The candidates of a row so far, and the best of them."""

    model: VAEBM
    num_steps: int
    step_size: float
    distance: float = math.inf
    looks: list[dict[str, float]] = field(default_factory=list)

    def compare(self, model: VAEBM, size: float, distances: dict[int, float], told: dict[str, float]) -> None:
        """Takes a model over if its samples are nearer, after any of the numbers of steps."""
        for steps, distance in distances.items():
            self.looks.append({**told, "num_steps": steps, "distance": distance})
            if distance < self.distance:
                self.model, self.num_steps, self.step_size, self.distance = model, steps, size, distance


def _train(player: _Player, rival: RivalConfig, course: Course, budget: float) -> _Trained:
    """Trains for so many seconds, and chooses among candidates on the selection split."""
    if rival.space == "none":
        return _Trained(course.model, 0, 1.0, {"num_iterations": 0, "seconds": 0.0})
    pace = _pace(rival, course)
    count = max(2, round(budget / pace))
    course.tell(f"{count:,} iterations at {1000 * pace:.0f} ms")
    num_samples = min(course.config.selection.num_samples or NUM_SELECTING, NUM_SELECTING)
    measure = selection_measure(course.judges[0], course.splits, num_samples, course.generator(1))
    best = _Best(player.model, rival.lengths[0], rival.energy.step_size)
    seconds, acts, origin = 0.0, [], time.monotonic()
    for progress in player.iterations(count):
        seconds += time.monotonic() - origin
        state, act = progress.state, getattr(progress, "act", None)
        acts += [act.row()] if act is not None else []
        if act is None and CANDIDATES.is_due(state.iteration, count):
            model, size = player.averaged(state), _step_size(rival, progress)
            distances = _distances(model, player.fresh, rival.lengths, _kernel(rival, size), measure, course)
            best.compare(model, size, distances, {"iteration": state.iteration, "seconds": seconds})
            told = ", ".join(f"{distance:.4g} after {steps} steps" for steps, distance in distances.items())
            course.tell(f"iteration {state.iteration:,}: {measure.title} distance {told}")
        origin = time.monotonic()
    row = {"num_iterations": count, "seconds": seconds, "candidates": best.looks, "acts": acts}
    chosen = {"num_steps": best.num_steps, "step_size": best.step_size, "distance": best.distance}
    return _Trained(best.model, best.num_steps, best.step_size, {**row, "chosen": chosen})


def _kernel(rival: RivalConfig, step_size: float) -> Kernel:
    """Returns Langevin's kernel; pixels are kept within the range of images, outside which their energy is flat."""
    local = Langevin(step_size)
    return Projected(local, 1.0) if rival.space == "pixels" else local


def _step_size(rival: RivalConfig, progress: Any) -> float:
    """Returns the step size of training, that which the guard came down to."""
    if rival.space == "generator":
        return 1.0
    size: float = progress.memory.adapt(rival.energy).step_size
    return size


def _distances(
    model: VAEBM, fresh: FreshNoise, lengths: tuple[int, ...], kernel: Kernel, measure: Measure, course: Course
) -> dict[int, float]:
    generator = course.generator(2)
    noise = fresh((measure.num_samples, model.noise_layout.size), generator)
    with course.engine.autocast():
        seen = snapshots(model, noise, lengths, kernel=kernel, generator=generator)
    found = {look.step: look.images.cpu() for look in seen}
    return {step: measure.distance(images) if bool(images.isfinite().all()) else math.inf
            for step, images in found.items()}  # fmt: skip


def _pace(rival: RivalConfig, course: Course) -> float:
    """Returns the seconds of an iteration, the median of a few on a copy."""
    player, times = _player(rival, course), []
    iterations = player.iterations(10**6)
    for _ in range(NUM_PILOT):
        origin = time.monotonic()
        next(iterations)
        times.append(time.monotonic() - origin)
    return median(times[NUM_SKIPPED:])


def _player(rival: RivalConfig, course: Course) -> _Player:
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
        return _Player(model, fresh, lambda count: _adversarial(model, rival, course, count), _with_vae(model))
    return _Player(model, fresh, lambda count: _chains(model, rival, course, fresh, count), _with_energy(model))


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


def _with_energy(model: VAEBM) -> Callable[[Any], VAEBM]:
    def averaged(state: Any) -> VAEBM:
        found = copy.deepcopy(model).eval().requires_grad_(False)
        found.energy.load_state_dict(state.average)
        return found

    return averaged


def _with_vae(model: VAEBM) -> Callable[[Any], VAEBM]:
    def averaged(state: Any) -> VAEBM:
        found = copy.deepcopy(model).eval().requires_grad_(False)
        found.vae.load_state_dict(state.average)
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


def _chains(model: VAEBM, rival: RivalConfig, course: Course, fresh: FreshNoise, num_iterations: int) -> Iterator[Any]:
    decay = _decay(rival.energy.ema_decay, num_iterations)
    settings = replace(rival.energy, num_iterations=num_iterations, ema_decay=decay)
    settings = _scaled(settings, rival.temperature)
    first = _first(course, settings.batch_size)
    state = start_energy(model, settings, first, course.generator(6))
    guard = course.config.guard
    if rival.space == "pixels":
        # Metropolis would accept few moves at a low temperature, and all the same samples become better.
        guard = replace(guard, rolls_back=False)

    def make(adapted: EnergySettings) -> Any:
        kernel = _kernel(rival, adapted.step_size) if rival.space == "pixels" else None
        return energy_step(model, adapted, course.engine, kernel, fresh)

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
    )


def _adversarial(model: VAEBM, rival: RivalConfig, course: Course, num_iterations: int) -> Iterator[Any]:
    decay = _decay(rival.adversarial.ema_decay, num_iterations)
    settings = replace(rival.adversarial, num_iterations=num_iterations, ema_decay=decay)
    state = start_adversarial(model, settings, _first(course, settings.batch_size), course.generator(6))
    step = adversarial_step(model, settings, course.engine)
    yield from fit(step, state, _batches(rival, course, settings.batch_size), num_iterations)
