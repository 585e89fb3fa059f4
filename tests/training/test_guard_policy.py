"""What the guard of stage 2 does: where it goes back to, and which settings it changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_energy_stage import SETTINGS
from test_guard import GUARD, at

from vaebm.training import GuardMemory, GuardSettings, Verdict, diagnosis
from vaebm.training.guard import respond


def test_the_policy() -> None:
    guard, steep, flat = GuardSettings(), Verdict("diverged", ("steep",), True), Verdict("diverged", ("far",))
    memory = respond(at(0, 50, 100, 150), 160, steep, SETTINGS, guard)
    # 150 is too fresh: it was taken while the window filled that told of the divergence.
    assert (memory.acts[-1].returned_to, memory.rate, memory.step) == (100, 1, 0.5)
    memory = respond(memory, 140, steep, SETTINGS, guard)
    assert (memory.acts[-1].returned_to, memory.rate, memory.step) == (50, 0.3, 0.25)
    # At the beginning half of the change is due.
    early = respond(at(0), 40, flat, SETTINGS, guard)
    assert (early.rate, early.step) == (pytest.approx(0.3**0.5), 1)
    # The other remedy has its turn first.
    other = respond(respond(at(0, 50, 100), 160, flat, SETTINGS, guard), 160, steep, SETTINGS, guard)
    assert (other.rate, other.step) == (0.3, 0.5)
    assert (again := respond(other, 160, flat, SETTINGS, guard)).rate == pytest.approx(0.09)
    assert again.step == 0.25
    first = respond(at(0, 50), 90, flat, SETTINGS, guard)
    assert (first.acts[-1].returned_to, first.rate, first.step) == (50, 0.3, 1)
    assert first.acts[-1].learning_rate == pytest.approx(0.3 * SETTINGS.learning_rate)
    assert first.adapt(SETTINGS) == replace(SETTINGS, learning_rate=0.3 * SETTINGS.learning_rate)


def gained(gain: float | None) -> GuardMemory:
    memory = at(0, 50, 100)
    return replace(memory, snapshots=tuple(replace(one, gain=gain) for one in memory.snapshots))


def test_where_the_density_is_lost_chains_become_longer() -> None:
    guard, astray = GuardSettings(), Verdict("diverged", ("less likely",), False, True)
    settings = replace(SETTINGS, num_steps=2)
    memory = respond(gained(0.2), 160, astray, settings, guard)
    memory = respond(memory, 160, astray, settings, guard)
    # The second time the rate falls besides.
    assert [act.learning_rate for act in memory.acts] == [settings.learning_rate, 0.3 * settings.learning_rate]
    assert (memory.rate, memory.step, memory.steps) == (0.3, 1, 10)
    assert [act.num_steps for act in memory.acts] == [guard.fewest_steps, 2 * guard.fewest_steps]
    assert memory.adapt(settings) == replace(settings, num_steps=20, learning_rate=0.3 * settings.learning_rate)
    assert "20 steps" in memory.acts[-1].text()
    assert "10 steps)" in diagnosis(memory.acts, settings)
    # The first time too, and from the beginning, if nothing was learned that is worth going on from.
    for gain in (None, 0.05):
        anew = respond(gained(gain), 160, astray, settings, guard)
        assert (anew.rate, anew.steps, anew.acts[-1].returned_to) == (0.3, 5, 0)
    first, second, third = gained(0.2).snapshots
    older = respond(GuardMemory(snapshots=(first, second, replace(third, gain=0.05))), 160, astray, settings, guard)
    assert (older.rate, older.acts[-1].returned_to) == (1, 50)
    assert [one["gain"] for one in gained(0.2).state_dict()["snapshots"]] == [0.2] * 3
    # More than the fewest become twice as many.
    many = respond(gained(0.2), 160, astray, replace(SETTINGS, num_steps=15), guard)
    assert many.acts[-1].num_steps == 30
    # Without chains there is nothing to make longer.
    without = respond(at(0, 50), 160, astray, replace(SETTINGS, objective="importance_sampled"), guard)
    assert (without.rate, without.steps, without.acts[-1].num_steps) == (0.3, 1, None)
    assert without.acts[-1].returned_to == 0
    # What a checkpoint of before holds is taken over.
    old = {name: value for name, value in respond(at(0), 30, astray, SETTINGS, guard).state_dict().items()
           if name != "steps"}  # fmt: skip
    old["acts"] = [{name: value for name, value in act.items() if name != "num_steps"} for act in old["acts"]]
    assert GuardMemory.from_state_dict(old).steps == 1


def test_from_the_third_time_on_chains_start_anew_more_often_and_regularisers_weigh_more() -> None:
    guard, settings = GuardSettings(), replace(SETTINGS, l2=0.01, centring=0.1)
    verdict, memory, kept = Verdict("diverged", ("far",)), at(0), []
    for _ in range(4):
        memory = respond(memory, 60, verdict, settings, guard)
        kept.append((memory.rate, memory.step, memory.replay, memory.regulariser))
    assert kept == [
        (0.3, 1, 1, 1), (0.3**2, 0.5, 1, 1), (pytest.approx(0.3**3), 0.25, 0.5, 2),
        (pytest.approx(0.3**4), 0.125, 0.25, 4),
    ]  # fmt: skip
    changed = memory.adapt(settings)
    assert (changed.replay_probability, changed.l2, changed.centring) == (0.95 / 4, 0.04, 0.4)
    second, third = memory.acts[1:3]
    assert "buffer" not in second.text()
    assert third.text().endswith(", chains from the buffer with probability 0.475, centring 0.2, l2 0.02")
    assert (third.row()["replay_probability"], third.row()["l2"]) == (0.475, 0.02)
    assert "0.013, chains from the buffer with probability 0.475" in diagnosis(memory.acts, settings)
    # Only what there is can be changed.
    without = respond(at(0), 60, verdict, replace(settings, buffer_size=0, centring=0.0), guard)
    for _ in range(2):
        without = respond(without, 60, verdict, replace(settings, buffer_size=0, centring=0.0), guard)
    assert (without.acts[-1].replay_probability, without.acts[-1].centring) == (None, None)
    # Chains that are too short become longer; buffer and regularisers stay.
    less = Verdict("diverged", ("less",), False, True)
    astray = respond(replace(memory, acts=memory.acts[:2]), 30, less, replace(settings, num_steps=15), guard)
    assert (astray.replay, astray.regulariser, astray.steps) == (memory.replay, memory.regulariser, 2)
    # Checkpoints of before know neither.
    old = {name: value for name, value in memory.state_dict().items() if name not in ("replay", "regulariser")}
    late = ("num_steps", "replay_probability", "centring", "l2")
    old["acts"] = [{name: value for name, value in act.items() if name not in late} for act in old["acts"]]
    restored = GuardMemory.from_state_dict(old)
    assert (restored.replay, restored.regulariser, restored.acts[2].l2) == (1, 1, None)
    assert GuardMemory.from_state_dict(memory.state_dict()) == memory


def test_who_gives_up_keeps_the_snapshots_to_choose_among() -> None:
    verdict, memory = Verdict("diverged", ("far",)), at(0, 50, 100)
    guard = GuardSettings(num_attempts=1)
    memory = respond(memory, 130, verdict, SETTINGS, guard)
    assert memory.acts[-1].returned_to == 100
    memory = respond(memory, 140, verdict, SETTINGS, guard)
    assert memory.has_given_up
    assert [one.iteration for one in memory.snapshots] == [0, 50, 100]
    assert memory.acts[-1].returned_to == 100


def test_after_its_attempts_it_gives_up_and_changes_nothing_more() -> None:
    memory, verdict = at(0), Verdict("diverged", ("far",))
    for _ in range(3):
        memory = respond(memory, 30, verdict, SETTINGS, GUARD)
    assert [act.gave_up for act in memory.acts] == [False, False, True]
    assert memory.has_given_up
    assert memory.acts[2].learning_rate == memory.acts[1].learning_rate
    words = diagnosis(memory.acts, SETTINGS)
    assert "diverged 3 times, the last time at iteration 30: far" in words
    assert "--energy.step_size" in words
    assert "\n" not in words
    without_chains = diagnosis(memory.acts, replace(SETTINGS, objective="importance_sampled"))
    assert "--energy.num_prior_samples" in without_chains
    assert "chains" not in without_chains
    assert "step" not in without_chains
    at_once = diagnosis(memory.acts[2:], SETTINGS)
    assert "diverged once, at iteration 30: far" in at_once
    assert "Tried" not in at_once
