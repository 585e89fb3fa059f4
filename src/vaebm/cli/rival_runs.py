"""One row of ``vaebm benchmark``: trained for its time, chosen on the selection split, measured on the test images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vaebm.cli.choosing import Measure, selection_measure
from vaebm.cli.evaluation import quality_row
from vaebm.cli.provenance import versions
from vaebm.cli.rival_players import Course, Player, kernel_of, make_player
from vaebm.cli.rival_state import Best, Misfit, RowUnderWay, Tally
from vaebm.data import to_float, to_uint8
from vaebm.distributed import hardware_facts
from vaebm.evaluation import frechet_to_reference, measure_against
from vaebm.models import VAEBM, for_chains
from vaebm.nn import frozen
from vaebm.recipes import ConfigError
from vaebm.recipes.rivals import RivalConfig
from vaebm.sampling import FreshNoise, grad_log_density, run_chain
from vaebm.training import log_density_of

NUM_PILOT, NUM_SKIPPED = 12, 4
NUM_AT_ONCE, NUM_SELECTING = 250, 500
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


def _train(player: Player, rival: RivalConfig, course: Course, budget: float, under_way: RowUnderWay) -> _Trained:
    """Trains until the time is over, and chooses among candidates on the selection split."""
    if rival.space == "none":
        return _Trained(course.model, 0, 1.0, {"num_iterations": 0, "seconds": 0.0})
    best, tally, moment, iterations = _begin(player, rival, course, budget, under_way)
    num_samples = min(course.config.selection.num_samples or NUM_SELECTING, NUM_SELECTING)
    measure = selection_measure(course.judges[0], course.splits, num_samples, course.generator(1))

    def look(progress: Any) -> None:
        with under_way.stop.leaving_at_once():
            _look(best, player, rival, course, measure, progress, tally.seconds)
        tally.looked(budget)
        under_way.keep(player.state_dict(progress), best, tally)

    if tally.is_pending:
        look(moment)
    origin = time.monotonic()
    for progress in iterations if not tally.is_over else ():
        tally.count(progress, time.monotonic() - origin, budget)
        if tally.is_pending or under_way.is_due:
            under_way.keep(player.state_dict(progress), best, tally)
        if tally.is_pending:
            look(progress)
        if tally.is_over:
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
) -> tuple[Best, Tally, Any, Iterator[Any]]:
    """Returns the candidates so far, how far the row has come, where it stands (None: at its start), and what follows.

    Raises:
        CheckpointError: If what was kept is damaged, of another row, or doesn't fit.
    """
    stored = under_way.load()
    if stored:
        best, tally, moment, iterations = _go_on(player, stored, under_way)
        done = f"{tally.seconds / 60:.1f} of {budget / 60:.1f} minutes"
        course.tell(f"goes on after {tally.iteration:,} iterations, {done}")
    else:
        with under_way.stop.leaving_at_once():
            pace = _pace(rival, course)
        best, tally = Best(rival.lengths[0], rival.energy.step_size), Tally(max(2, round(budget / pace)))
        course.tell(f"some {tally.planned:,} iterations at {1000 * pace:.0f} ms")
        moment, iterations = None, player.iterations(tally.planned, {})
    hardware, source = hardware_facts(course.engine.device), versions()
    facts = {name: hardware[name] for name in ("cpu", "torch_threads", "device")}
    other = tally.sit_down({**facts, "torch": source["versions"]["torch"], "commit": source["commit"]})
    if other:
        course.tell(f"it began with {other}")
    return best, tally, moment, iterations


def _go_on(player: Player, stored: Mapping[str, Any], under_way: RowUnderWay) -> tuple[Best, Tally, Any, Iterator[Any]]:
    """Returns what was kept of a row, and what follows."""
    try:
        best, tally = Best(**stored["best"]), Tally(**stored["tally"])
        iterations = player.iterations(tally.planned, stored["player"])
    except (Misfit, KeyError, TypeError) as error:
        raise under_way.no_fit(error) from error
    return best, tally, next(iterations), iterations


def _look(
    best: Best, player: Player, rival: RivalConfig, course: Course, measure: Measure, progress: Any, seconds: float
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
