"""Looks at the energy network on the way: grids of samples, and candidates compared on the selection split."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vaebm.applications import snapshots, start_noise
from vaebm.cli.choosing import Measure, selection_measure
from vaebm.cli.evaluation import FEWEST_JUDGED
from vaebm.cli.running import Run
from vaebm.data import to_uint8
from vaebm.evaluation import JudgeError
from vaebm.models import VAEBM
from vaebm.plots import image_grid, png_bytes

NUM_GRID, GRID_COLUMNS, GRID_PIXELS = 64, 8, 56


def is_due(iteration: int, every: int, num_iterations: int) -> bool:
    """Whether an iteration is one of every so many, or the last."""
    return iteration % every == 0 or iteration == num_iterations


def candidates(run: Run) -> Callable[[Any], bool]:
    """Returns what looks at the averaged energy network: it draws grids and keeps the best candidate."""
    config, num_iterations = run.config, run.config.energy.num_iterations
    noise = start_noise(run.model, NUM_GRID, run.generator("grid start"))
    judge = _selection_judge(run)
    averaged = copy.deepcopy(run.model)

    def look(state: Any) -> bool:
        iteration = state.iteration
        is_candidate = judge is not None and config.selection.is_due(iteration, num_iterations)
        is_shown = is_due(iteration, config.sample_every, num_iterations)
        if is_candidate or is_shown:
            averaged.energy.load_state_dict(state.average)
        if judge is not None and is_candidate:
            _compare(run, judge, averaged, iteration)
        if is_shown:
            draw_grid(run, averaged, noise, config.sampling.num_steps, f"energy_{iteration:06d}")
        return False

    return look


def choose_after_giving_up(run: Run) -> None:
    """Measures the healthy states that the guard has kept, if it gave up: there may have been no candidate yet."""
    judge = _selection_judge(run) if run.guard is not None and run.guard.has_given_up else None
    if judge is None or run.guard is None:
        return
    averaged = copy.deepcopy(run.model)
    run.console.tell(f"the guard gave up: {len(run.guard.snapshots)} healthy states are compared with the candidates")
    with run.leaving_at_once():
        for snapshot in run.guard.snapshots:
            averaged.energy.load_state_dict(snapshot.state["average"])
            _compare(run, judge, averaged, snapshot.iteration)
    if run.best:
        run.console.tell(f"the energy network of iteration {run.best['iteration']} is kept")


def _compare(run: Run, judge: _SelectionJudge, averaged: VAEBM, iteration: int) -> None:
    """Measures a candidate, and keeps it with its best number of steps if it is the best so far."""
    first, count = run.judges[0], run.config.selection.num_samples
    told = {"judge": first.name, "judge_sha256": first.sha256, "n": count, "seed": run.config.seed}
    figures, measure = judge.distances(averaged), judge.measure.name
    for steps, figure in figures.items():
        run.record({"stage": "selection", "iteration": iteration, "num_steps": steps, measure: figure, **told})
    words = ", ".join(
        f"{figure:.4g} after {steps} steps"
        if math.isfinite(figure)
        else f"infinite after {steps} steps (its samples aren't finite, or the judge can't see them)"
        for steps, figure in figures.items()
    )
    run.console.tell(f"selection split, iteration {iteration}: {judge.measure.title} distance {words}")
    best = min(figures, key=figures.__getitem__)
    if figures[best] < run.best.get(measure, float("inf")):
        energy = {name: value.clone() for name, value in averaged.energy.state_dict().items()}
        chains = {"num_steps": best, "step_size": run.longest_step}
        run.best = {measure: figures[best], "iteration": iteration, **chains, "energy": energy}


def draw_grid(run: Run, model: VAEBM, noise: Tensor, num_steps: int, name: str) -> None:
    """Draws samples after so many steps from the noise into a file of the run, if all of them are finite."""
    if not run.engine.is_main:
        return
    kernel, generator = run.kernel, run.generator("grid chains")
    with run.engine.autocast():
        (seen,) = snapshots(model, noise, (num_steps,), kernel=kernel, generator=generator)
    lost = int((~seen.images.isfinite()).flatten(1).any(1).sum())
    if lost:
        run.console.tell(f"no grid {name}: {lost} of {len(noise)} samples aren't finite")
        return
    pixels = to_uint8(seen.images.cpu())
    grid = image_grid(pixels, GRID_COLUMNS, scale=max(1, GRID_PIXELS // pixels.shape[3]))
    run.folder.save_sample(name, png_bytes(grid))


@dataclass(frozen=True)
class _SelectionJudge:
    """What a candidate is chosen by: its distances after each number of steps."""

    measure: Measure
    distances: Callable[[VAEBM], dict[int, float]]


def _selection_judge(run: Run) -> _SelectionJudge | None:
    """Returns what measures a model's distance from the selection split; None without judges or images."""
    count = min(run.config.selection.num_samples, len(run.splits.training))
    if not run.judges or min(count, len(run.splits.selection)) < FEWEST_JUDGED:
        return None
    measure = selection_measure(
        run.judges[0], run.splits, run.config.selection.num_samples, run.generator("selection reference")
    )
    steps = tuple(sorted(set(run.config.selection.num_steps))) or (run.config.sampling.num_steps,)

    def distances(model: VAEBM) -> dict[int, float]:
        generator = run.generator("selection samples")
        noise = start_noise(model, run.config.selection.num_samples, generator)
        with run.engine.autocast():
            seen = snapshots(model, noise, steps, kernel=run.kernel, generator=generator, engine=run.engine)
        found = [distance_of(measure, look.images.cpu()) if run.engine.is_main else math.nan for look in seen]
        return dict(zip((look.step for look in seen), run.engine.from_main(found), strict=True))

    return _SelectionJudge(measure, distances)


def distance_of(measure: Measure, images: Tensor) -> float:
    """Returns the distance of samples; infinite, if some aren't finite or are nothing that a judge can see."""
    if not bool(images.isfinite().all()):
        return math.inf
    try:
        distance = measure.distance(images)
    except JudgeError:
        return math.inf
    return distance if math.isfinite(distance) else math.inf
