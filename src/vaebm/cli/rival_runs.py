"""One row of ``vaebm benchmark``: trained for its time, chosen on the selection split, measured on the test images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vaebm.cli.choosing import Measure, selection_measure
from vaebm.cli.evaluation import quality_row
from vaebm.cli.rival_players import Course, Player, kernel_of, make_player
from vaebm.cli.rival_state import RowUnderWay
from vaebm.cli.running import MISFITS
from vaebm.data import to_float, to_uint8
from vaebm.evaluation import frechet_to_reference, measure_against
from vaebm.models import VAEBM, for_chains
from vaebm.nn import frozen
from vaebm.recipes import ConfigError
from vaebm.recipes.rivals import RivalConfig
from vaebm.sampling import FreshNoise, grad_log_density, run_chain
from vaebm.training import log_density_of

NUM_PILOT, NUM_SKIPPED = 12, 4
NUM_AT_ONCE, NUM_SELECTING = 250, 500
# When candidates are looked at, in shares of the time of training.
SHARES = (0.5, 0.75, 1.0)
STEPS = (0, 1, 2, 4, 8, 15, 30, 60, 100, 200)


@dataclass(frozen=True)
class _Trained:
    model: VAEBM
    num_steps: int
    step_size: float
    row: dict[str, Any]
    is_finite: bool = True


def check_row(rival: RivalConfig, course: Course) -> None:
    """Builds what a row trains, before any row has taken its time.

    Raises:
        ConfigError: If it can't be built.
    """
    if rival.energy.potential == "official" and course.model.image_fields.chain_image != "sampled":
        raise ConfigError("the official potential needs a model whose chains see the sampled image")
    try:
        make_player(rival, course)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def run_row(rival: RivalConfig, course: Course, budget: float, under_way: RowUnderWay) -> tuple[dict[str, Any], Tensor]:
    """Trains and measures a row, or goes on with it.

    Arguments:
        rival: How it is trained.
        course: What all rows have in common.
        budget: The seconds of training; looking at candidates and keeping the row take no part in them.
        under_way: Where it is kept meanwhile.

    Returns:
        Its figures, and its samples, uint8 (N, C, H, W); black ones, and no figures, if none of its networks drew
        finite images.

    Raises:
        Interrupted: If a signal asked to stop; the row is kept.
        CheckpointError: If what was kept is damaged or of another row, or the row can't be kept.
    """
    player = make_player(rival, course)
    trained = _train(player, rival, course, budget, under_way)
    with under_way.stop.leaving_at_once():
        return _measured(trained, player, rival, course)


def _measured(trained: _Trained, player: Player, rival: RivalConfig, course: Course) -> tuple[dict[str, Any], Tensor]:
    """Draws from a trained row and measures its samples."""
    lengths = sorted({0, trained.num_steps, *(STEPS if rival.space in ("noise", "pixels") else ())})
    course.tell(f"drawing {course.num_samples:,} samples, up to {lengths[-1]} steps")
    drawn = _draw(trained, player.fresh, lengths, course.num_samples, rival, course, course.generator(7))
    chosen = drawn.images.get(trained.num_steps)
    row = {**trained.row, "num_samples": course.num_samples, "milliseconds_per_step": drawn.milliseconds}
    if not trained.is_finite or chosen is None:
        course.tell("none of its networks drew finite images")
        nothing = torch.zeros(course.num_samples, *course.model.image_shape, dtype=torch.uint8)
        return {**row, "quality": [], "curve": []}, nothing
    return {**row, **_measure(chosen, drawn.images if len(lengths) > 2 else {}, course)}, chosen


@dataclass(frozen=True)
class _Drawn:
    """Samples by number of steps, uint8 (N, C, H, W), those that are finite; and the time of a step of one chain."""

    images: dict[int, Tensor]
    milliseconds: float


def _draw(
    trained: _Trained,
    fresh: FreshNoise,
    lengths: Sequence[int],
    count: int,
    rival: RivalConfig,
    course: Course,
    generator: torch.Generator,
) -> _Drawn:
    """Draws samples as the row does: its potential, its kernel, its end."""
    model, kernel, device = for_chains(trained.model), kernel_of(rival, trained.step_size), course.engine.device
    log_density = log_density_of(model, rival.energy.potential)
    parts: dict[int, list[Tensor]] = {length: [] for length in lengths}
    times: list[float] = []
    with frozen(model), course.engine.autocast():
        for size in [len(part) for part in torch.split(torch.arange(count), NUM_AT_ONCE)]:
            noise = fresh((size, model.noise_layout.size), generator).to(device)
            if 0 in parts:
                parts[0].append(_images(model, noise, rival, 0))
            origin = time.monotonic()
            for step in run_chain(kernel, noise, log_density, max(lengths), generator):
                # Reading a number waits for devices that run behind.
                float(step.state.noise[0, 0])
                times.append((time.monotonic() - origin) / size)
                if step.number in parts:
                    parts[step.number].append(_images(model, step.state.noise, rival, step.number))
                origin = time.monotonic()
    images = {length: torch.cat(found) for length, found in parts.items()}
    finite = {length: torch.from_numpy(to_uint8(found)) for length, found in images.items()
              if bool(found.isfinite().all())}  # fmt: skip
    return _Drawn(finite, 1000 * median(times) if times else 0.0)


def _images(model: VAEBM, noise: Tensor, rival: RivalConfig, number: int) -> Tensor:
    """Returns the images (B, C, H, W) of chains, on the CPU; those of pixels without the noise that data had."""
    if rival.space == "pixels" and rival.data_noise and number:
        noise = noise + rival.data_noise**2 * grad_log_density(model.log_density, noise).grad
    with torch.no_grad():
        images: Tensor = model.transport(noise).pick(model.image_fields.output_image).float().clamp(-1, 1).cpu()
    return images


def _measure(chosen: Tensor, curve_images: dict[int, Tensor], course: Course) -> dict[str, Any]:
    quality, curve = [], []
    for judge in course.judges:
        reference, floors = course.reference(judge)
        generator = course.generator(8)
        found = measure_against(to_float(chosen), reference, generator=generator, floors=floors)
        quality.append({**quality_row("", found, None), "floor": floors.frechet})
        for steps, images in curve_images.items():
            distance = frechet_to_reference(to_float(images), reference)
            curve.append({"judge": judge.name, "num_steps": steps, "frechet": distance})
    return {"quality": quality, "curve": curve}


@dataclass
class _Best:
    """The candidates of a row so far, and the averaged weights of the best of them."""

    num_steps: int
    step_size: float
    average: dict[str, Tensor] = field(default_factory=dict)
    distance: float = math.inf
    looks: list[dict[str, float]] = field(default_factory=list)

    def compare(self, average: Any, size: float, distances: dict[int, float], told: dict[str, float]) -> None:
        """Takes weights over if their samples are nearer, after any of the numbers of steps."""
        for steps, distance in distances.items():
            self.looks.append({**told, "num_steps": steps, "distance": distance})
            if distance < self.distance:
                self.average = {name: value.clone() for name, value in average.items()}
                self.num_steps, self.step_size, self.distance = steps, size, distance


@dataclass
class _Tally:
    """How far a row has come; ``shares`` of its time are those at whose end it is still to be looked at."""

    planned: int
    iteration: int = 0
    seconds: float = 0.0
    shares: list[float] = field(default_factory=lambda: list(SHARES))
    acts: list[dict[str, Any]] = field(default_factory=list)
    conditions: dict[str, int] = field(default_factory=lambda: {"healthy": 0, "strained": 0, "diverged": 0})
    sittings: int = 1

    def count(self, progress: Any, seconds: float) -> None:
        """Counts an iteration."""
        self.iteration, self.seconds = progress.state.iteration, self.seconds + seconds
        act = getattr(progress, "act", None)
        self.acts += [act.row()] if act is not None else []
        self.conditions[progress.verdict.condition if hasattr(progress, "verdict") else "healthy"] += 1

    @property
    def has_given_up(self) -> bool:
        """Whether the guard gave up."""
        return bool(self.acts) and bool(self.acts[-1]["gave_up"])

    def is_due(self, progress: Any, budget: float) -> bool:
        """Whether the row is to be looked at after an iteration."""
        # What the guard went back to is no news, unless it gave up: then nothing comes after it.
        acted = getattr(progress, "act", None) is not None
        return self.has_given_up if acted else self.seconds >= self.shares[0] * budget


def _train(player: Player, rival: RivalConfig, course: Course, budget: float, under_way: RowUnderWay) -> _Trained:
    """Trains until the time is over, and chooses among candidates on the selection split."""
    if rival.space == "none":
        return _Trained(course.model, 0, 1.0, {"num_iterations": 0, "seconds": 0.0})
    best, tally, iterations = _begin(player, rival, course, budget, under_way)
    num_samples = min(course.config.selection.num_samples or NUM_SELECTING, NUM_SELECTING)
    measure = selection_measure(course.judges[0], course.splits, num_samples, course.generator(1))

    def keep(progress: Any) -> None:
        under_way.keep({"player": player.state_dict(progress), "best": vars(best), "tally": vars(tally)})

    origin = time.monotonic()
    for progress in iterations:
        tally.count(progress, time.monotonic() - origin)
        if tally.is_due(progress, budget):
            if not tally.has_given_up:
                # After what is kept of a row that gave up, no iteration would come that could be looked at.
                keep(progress)
            with under_way.stop.leaving_at_once():
                _look(best, player, rival, course, measure, progress, tally.seconds)
            tally.shares = [share for share in tally.shares if tally.seconds < share * budget]
            keep(progress)
        elif under_way.is_due:
            keep(progress)
        if not tally.shares:
            break
        origin = time.monotonic()
    chosen = {"num_steps": best.num_steps, "step_size": best.step_size, "distance": best.distance}
    row = {"num_iterations": tally.iteration, "num_planned": tally.planned, "seconds": tally.seconds,
           "sittings": tally.sittings, "candidates": best.looks, "acts": tally.acts, "conditions": tally.conditions,
           "gave_up": tally.has_given_up, "chosen": chosen}  # fmt: skip
    is_finite = math.isfinite(best.distance)
    model = player.averaged(best.average) if is_finite else player.model
    return _Trained(model, best.num_steps, best.step_size, row, is_finite)


def _begin(
    player: Player, rival: RivalConfig, course: Course, budget: float, under_way: RowUnderWay
) -> tuple[_Best, _Tally, Iterable[Any]]:
    """Returns the candidates so far, how far the row has come, and its further iterations."""
    stored = under_way.load()
    if not stored:
        with under_way.stop.leaving_at_once():
            pace = _pace(rival, course)
        tally = _Tally(max(2, round(budget / pace)))
        course.tell(f"some {tally.planned:,} iterations at {1000 * pace:.0f} ms")
        return _Best(rival.lengths[0], rival.energy.step_size), tally, player.iterations(tally.planned, {})
    try:
        best, tally = _Best(**stored["best"]), _Tally(**stored["tally"])
        # The last look may have been taken.
        iterations = player.iterations(tally.planned, stored["player"]) if tally.shares else ()
    except MISFITS as error:
        raise under_way.no_fit(error) from error
    tally.sittings += 1
    course.tell(f"goes on after {tally.iteration:,} iterations, {tally.seconds / 60:.1f} of {budget / 60:.1f} minutes")
    return best, tally, iterations


def _look(
    best: _Best, player: Player, rival: RivalConfig, course: Course, measure: Measure, progress: Any, seconds: float
) -> None:
    """Measures the averaged networks of a moment on the selection split, and keeps them if they are the best."""
    average, size, iteration = progress.state.average, _step_size(rival, progress), progress.state.iteration
    model = player.averaged(average)
    candidate = _Trained(model, rival.lengths[0], size, {})
    drawn = _draw(candidate, player.fresh, rival.lengths, measure.num_samples, rival, course, course.generator(2))
    distances = {steps: measure.distance(to_float(drawn.images[steps])) if steps in drawn.images else math.inf
                 for steps in rival.lengths}  # fmt: skip
    best.compare(average, size, distances, {"iteration": iteration, "seconds": seconds})
    told = ", ".join(f"{distance:.4g} after {steps} steps" for steps, distance in distances.items())
    course.tell(f"iteration {iteration:,}: {measure.title} distance {told}")


def _step_size(rival: RivalConfig, progress: Any) -> float:
    """Returns the step size of training, that which the guard came down to."""
    if rival.space == "generator":
        return 1.0
    size: float = progress.memory.adapt(rival.energy).step_size
    return size


def _pace(rival: RivalConfig, course: Course) -> float:
    """Returns the seconds of an iteration, the median of a few on a copy."""
    player, times = make_player(rival, course), []
    iterations = player.iterations(10**6, {})
    for _ in range(NUM_PILOT):
        origin = time.monotonic()
        next(iterations)
        times.append(time.monotonic() - origin)
    return median(times[NUM_SKIPPED:])
