"""The guard of stage 2: what it judges, where it goes back to, and what it does then."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from test_energy_stage import SETTINGS, Stage, begin, copy_of
from torch import Tensor

from vaebm.data import Batches
from vaebm.distributed import Engine
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork
from vaebm.training import (
    EnergySettings,
    EnergyState,
    Guarded,
    GuardMemory,
    GuardSettings,
    Progress,
    VAESettings,
    energy_step,
    fit,
    guarded_fit,
    judge,
    start_energy,
    start_vae,
    vae_step,
)
from vaebm.training.guard import LARGEST_COPY, Act, Snapshot, Verdict, _thinned, go_back, respond, take_snapshot

HEALTHY = {"loss": -1.0, "grad_norm": 3.0, "gap": 0.1, "energy_variance": 4.0, "would_accept": 0.84, "noise_norm": 1.15}
# Of two small batches the separation says nothing.
GUARD = GuardSettings(window=2, snapshot_every=2, num_attempts=2, largest_overshoot=100)
Step = Callable[[EnergyState, Tensor], Progress[EnergyState]]


@pytest.mark.parametrize(
    ("figures", "condition", "reason"),
    [
        ({}, "healthy", ""),
        ({"gap": -2.4}, "diverged", "1.20 standard deviations"),
        ({"gap": -1.4}, "strained", "0.70 standard deviations"),
        ({"gap": 0.6}, "healthy", ""),
        ({"gap": 0.8}, "strained", "data lie 0.40 standard deviations of the energy above samples"),
        ({"gap": 6.0}, "diverged", "data lie 3.00 standard deviations of the energy above samples"),
        ({"would_accept": 0.3, "gap": -0.4}, "diverged", "probability 0.30"),
        ({"would_accept": 0.55, "gap": -0.4}, "strained", "probability 0.55"),
        # In many dimensions few moves would be accepted, and chains follow all the same.
        ({"would_accept": 0.1}, "healthy", ""),
        ({"noise_norm": 2.5}, "diverged", "|noise|²/D of the chains is 2.50"),
        ({"noise_norm": 1.6}, "strained", "1.60"),
        ({"loss": math.nan}, "diverged", "loss is nan"),
        ({"grad_norm": math.inf}, "diverged", "grad_norm is inf"),
        ({"noise_norm": math.nan}, "diverged", "noise_norm is nan"),
        ({"density_gain": 1.2}, "healthy", ""),
        ({"density_gain": -0.04}, "healthy", ""),
        ({"density_gain": -0.08}, "strained", "0.08 nats less likely"),
        ({"density_gain": -0.3}, "diverged", "by 0.30 nats less likely than under the VAE"),
        ({"density_gain": math.nan}, "diverged", "density_gain is nan"),
    ],
)
def test_figures_are_judged(figures: dict[str, float], condition: str, reason: str) -> None:
    verdict = judge([{**HEALTHY, **figures}] * 20, GuardSettings())
    assert verdict.condition == condition
    assert reason in "; ".join(verdict.reasons)
    assert bool(verdict.reasons) == (condition != "healthy")


def test_before_the_window_is_full_only_numbers_that_are_none_count() -> None:
    assert judge([{**HEALTHY, "gap": -18.0}] * 19, GuardSettings()).condition == "healthy"
    assert judge([{**HEALTHY, "loss": math.inf}], GuardSettings()).condition == "diverged"


def test_of_a_kernel_with_an_accept_step_its_own_acceptance_does_not_count() -> None:
    row = {**HEALTHY, "would_accept": math.nan, "acceptance": 0.1, "gap": -0.6}
    assert judge([row] * 20, GuardSettings()) == Verdict("healthy")


def test_of_a_figure_that_few_iterations_have_the_latest_counts() -> None:
    rows = [HEALTHY] * 10 + [{**HEALTHY, "density_gain": -3.0}] + [HEALTHY] * 5
    assert judge([*rows, *[HEALTHY] * 4], GuardSettings()).is_astray
    assert judge([*rows, {**HEALTHY, "density_gain": 0.5}, *[HEALTHY] * 3], GuardSettings()) == Verdict("healthy")
    # Where something else is wrong too, the chains aren't just too short.
    steep = [{**row, "noise_norm": 3.0} for row in [*rows, *[HEALTHY] * 4]]
    assert not judge(steep, GuardSettings()).is_astray


def at(*iterations: int) -> GuardMemory:
    return GuardMemory(snapshots=tuple(Snapshot(iteration, {}, {}) for iteration in iterations))


def spoiled(stage: Stage, engine: Engine, bad: set[int]) -> Callable[[EnergySettings], Step]:
    """Makes steps that tell of a loss that is no number, at the first time of some iterations."""
    left = set(bad)

    def make_step(settings: EnergySettings) -> Step:
        step = energy_step(stage.model, settings, engine)

        def spoiling(state: EnergyState, images: Tensor) -> Progress[EnergyState]:
            progress = step(state, images)
            if progress.state.iteration in left:
                left.discard(progress.state.iteration)
                return progress._replace(figures={**progress.figures, "loss": math.nan})
            return progress

        return spoiling

    return make_step


def guarded(stage: Stage, engine: Engine, bad: set[int], memory: GuardMemory | None = None) -> list[Guarded]:
    found = []
    iterations = guarded_fit(
        stage.model, SETTINGS, spoiled(stage, engine, bad), stage.state, stage.batches, GUARD, memory
    )
    for progress in iterations:
        stage.state = progress.state
        found.append(progress)
    return found


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


def held(stage: Stage) -> dict[str, Any]:
    """What a stage holds; of the ring of end points, their order and not their places."""
    stored = stage.stored()
    return {**stored, "stage": {**stored["stage"], "buffer": stage.state.buffer.noise}}


def test_a_healthy_stage_is_left_alone(digits: Tensor, engine: Engine) -> None:
    watched, plain = begin(digits), begin(digits)
    found = guarded(watched, engine, set())
    plain.state = list(fit(energy_step(plain.model, SETTINGS, engine), plain.state, plain.batches, 8))[-1].state
    assert same(held(watched), held(plain))
    assert not any(progress.act for progress in found)


@pytest.mark.parametrize("potential", ["exact", "official"])
def test_the_norm_of_noise_counts_where_it_should_be_one(digits: Tensor, engine: Engine, potential: str) -> None:
    stage, settings = begin(digits), replace(SETTINGS, potential=potential)

    def make_step(changed: EnergySettings) -> Step:
        step = energy_step(stage.model, changed, engine)

        def far(state: EnergyState, images: Tensor) -> Progress[EnergyState]:
            progress = step(state, images)
            return progress._replace(figures={**progress.figures, "noise_norm": 2.5})

        return far

    found = list(guarded_fit(stage.model, settings, make_step, stage.state, stage.batches, GUARD))
    assert bool(found[-1].memory.acts) is (potential == "exact")


def test_snapshots_keep_the_density_gain_and_what_descends_from_them_has_it(digits: Tensor, engine: Engine) -> None:
    stage, told = begin(digits), {1: 0.3, 5: -2.0}

    def make_step(settings: EnergySettings) -> Step:
        step = energy_step(stage.model, settings, engine)

        def telling(state: EnergyState, images: Tensor) -> Progress[EnergyState]:
            progress = step(state, images)
            gain = told.pop(progress.state.iteration, None)
            figures = progress.figures if gain is None else {**progress.figures, "density_gain": gain}
            return progress._replace(figures=figures)

        return telling

    found = list(guarded_fit(stage.model, SETTINGS, make_step, stage.state, stage.batches, GUARD))
    (act,) = found[-1].memory.acts
    assert (act.iteration, act.returned_to, act.learning_rate) == (5, 2, SETTINGS.learning_rate)
    # Nothing was measured after the return.
    gains = {one.iteration: one.gain for one in found[-1].memory.snapshots}
    assert gains[0] is None
    assert set(list(gains.values())[1:]) == {0.3}


def test_it_goes_back_to_the_last_healthy_state_to_the_bit(
    digits: Tensor, engine: Engine, through_a_file: Callable[[Any], Any]
) -> None:
    stage = begin(digits)
    iterations = guarded_fit(stage.model, SETTINGS, spoiled(stage, engine, {7}), stage.state, stage.batches, GUARD)
    healthy: dict[str, Any] = {}
    for progress in iterations:
        stage.state = progress.state
        if progress.state.iteration == 4 and not healthy:
            healthy = through_a_file(held(stage))
        if progress.act:
            break
    assert (progress.act.iteration, progress.act.returned_to) == (7, 4)
    assert progress.act.reasons == ("loss is nan",)
    restored = held(stage)
    # Data go on where they are.
    assert not same(restored.pop("batches"), healthy.pop("batches"))
    assert same(restored, healthy)
    after = next(iterations)
    assert after.figures["learning_rate"] == pytest.approx(
        0.3 * SETTINGS.learning_rate * 0.5 * (1 + math.cos(math.pi * 4 / 8))
    )


@pytest.mark.parametrize("cut", [3, 6, 7, 9])
def test_what_it_knows_goes_through_a_checkpoint(
    digits: Tensor, engine: Engine, through_a_file: Callable[[Any], Any], cut: int
) -> None:
    whole, part = begin(digits), begin(digits)
    told = guarded(whole, engine, {7})
    memory = None
    make_step = spoiled(part, engine, {7})
    for number, progress in enumerate(
        guarded_fit(part.model, SETTINGS, make_step, part.state, part.batches, GUARD), start=1
    ):
        part.state, memory = progress.state, progress.memory
        if number == cut:
            break
    assert memory is not None
    stored = through_a_file({**part.stored(), "guard": memory.state_dict()})
    fresh = begin(digits, seed=5)
    fresh.restore(stored)
    rest = guarded(fresh, engine, {7} if cut < 7 else set(), GuardMemory.from_state_dict(stored["guard"]))
    assert same(held(fresh), held(whole))
    assert len(rest) == len(told) - cut
    assert rest[-1].memory.acts == told[-1].memory.acts


def test_a_stage_that_never_heals_ends_with_the_last_healthy_state(digits: Tensor, engine: Engine) -> None:
    stage = begin(digits)
    before = {name: value.clone() for name, value in stage.model.energy.state_dict().items()}
    make_step = spoiled(stage, engine, set())

    def broken(settings: EnergySettings) -> Step:
        step = make_step(settings)

        def breaking(state: EnergyState, images: Tensor) -> Progress[EnergyState]:
            progress = step(state, images)
            return progress._replace(figures={**progress.figures, "grad_norm": math.inf})

        return breaking

    found = list(guarded_fit(stage.model, SETTINGS, broken, stage.state, stage.batches, GUARD))
    assert [progress.act is not None for progress in found] == [True] * 3
    last = found[-1]
    assert isinstance(last.act, Act)
    assert last.act.gave_up
    assert last.state.iteration == 0
    assert same(stage.model.energy.state_dict(), before)


def test_without_rolling_back_it_only_tells(digits: Tensor, engine: Engine) -> None:
    stage = begin(digits)
    watch = replace(GUARD, rolls_back=False)
    found = list(guarded_fit(stage.model, SETTINGS, spoiled(stage, engine, {7}), stage.state, stage.batches, watch))
    assert [progress.verdict.condition for progress in found if progress.state.iteration == 7] == ["diverged"]
    assert len(found) == 8
    # Where it doesn't go back it needs no copies.
    assert found[-1].memory.snapshots == ()


def test_chains_of_a_large_buffer_are_left_out(digits: Tensor, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    assert LARGEST_COPY == 2**29
    monkeypatch.setattr("vaebm.training.guard.LARGEST_COPY", 100)
    stage = begin(digits)
    stage.go(engine, 3)
    assert stage.state.buffer.count == 30
    snapshot = take_snapshot(stage.model, stage.state)
    rows = snapshot.state["buffer"]["rows"]
    assert (rows.shape[0], rows.untyped_storage().nbytes()) == (0, 0)
    stage.state.load_state_dict(snapshot.state)
    assert stage.state.buffer.count == 0


def test_a_snapshot_shares_nothing_with_the_stage_and_copies_its_chains_once(digits: Tensor, engine: Engine) -> None:
    stage = begin(digits)
    stage.go(engine, 2)
    snapshot = take_snapshot(stage.model, stage.state)
    before = {"energy": copy_of(stage.model.energy), "stage": copy.deepcopy(stage.state.state_dict())}
    rows = snapshot.state["buffer"]["rows"]
    assert rows.untyped_storage().nbytes() == rows.numel() * rows.element_size()
    for _ in range(2):
        stage.go(engine, 5)
        go_back(stage.model, stage.state, snapshot)
        assert same(before, {"energy": copy_of(stage.model.energy), "stage": stage.state.state_dict()})


def test_of_a_batch_of_one_there_is_no_separation(digits: Tensor, engine: Engine) -> None:
    single = replace(SETTINGS, batch_size=1, num_iterations=40)
    stage = begin(digits, settings=single)
    found = list(
        guarded_fit(
            stage.model, single, lambda changed: energy_step(stage.model, changed, engine), stage.state, stage.batches
        )
    )
    assert {progress.figures["separation"] for progress in found} == {0.0}
    assert not any(progress.act for progress in found)


@pytest.mark.parametrize(("window", "every"), [(20, 50), (20, 5), (200, 50), (7, 3)])
def test_there_is_always_a_snapshot_of_a_window_ago(window: int, every: int) -> None:
    guard = GuardSettings(window=window, snapshot_every=every)
    kept = at(0).snapshots
    for iteration in range(every, 1001, every):
        kept = _thinned((*kept, Snapshot(iteration, {}, {})), guard)
        assert len(kept) <= 5
        memory = respond(GuardMemory(snapshots=kept), iteration + 1, Verdict("diverged"), SETTINGS, guard)
        age = iteration + 1 - memory.acts[-1].returned_to
        assert age >= window or memory.acts[-1].returned_to == 0
        assert age <= max(2 * window + every, window + 2 * every)


def test_a_network_that_overruns_its_chains_is_held(digits: Tensor, engine: Engine) -> None:
    wild = EnergySettings(num_iterations=150, batch_size=64, learning_rate=0.03, num_steps=2, step_size=1.0)
    torch.manual_seed(0)
    vae = ConvVAE((1, 8, 8), (16,), widths=(128,), scale_kind="pixel", scale=0.1)
    first = VAESettings(num_iterations=300, batch_size=64)
    batches = Batches(digits, 64, torch.Generator().manual_seed(0))
    trained = start_vae(vae, first, torch.Generator().manual_seed(0))
    for _ in fit(vae_step(vae, first, engine), trained, batches, 300):
        pass
    conditions, acts = {}, []
    for guard in (GuardSettings(rolls_back=False), GuardSettings()):
        torch.manual_seed(1)
        model = VAEBM(vae, EnergyNetwork((1, 8, 8), widths=(16, 32), num_hidden=16))
        state = start_energy(model, wild, digits[:100], torch.Generator().manual_seed(1))
        make_step = partial(energy_step, model, engine=engine)
        found = list(guarded_fit(model, wild, make_step, state, batches, guard))
        conditions[guard.rolls_back] = found[-1].verdict.condition
        acts = [progress.act for progress in found if progress.act]
    assert conditions[False] == "diverged"
    assert acts
    assert not found[-1].memory.has_given_up
    assert (found[-1].state.iteration, found[-1].act) == (150, None)
    assert conditions[True] != "diverged"
    assert all(bool(value.isfinite().all()) for value in model.energy.state_dict().values())
