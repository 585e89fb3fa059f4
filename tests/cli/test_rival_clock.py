"""Rows of ``vaebm benchmark`` end by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vaebm.cli import rival_runs
from vaebm.cli.rival_players import Course, Player, make_player
from vaebm.cli.stop import StopRequest
from vaebm.data import load_splits
from vaebm.distributed import make_engine
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork, ImageFields
from vaebm.recipes import RECIPES
from vaebm.recipes.rivals import RIVALS, RivalConfig
from vaebm.training import GuardSettings
from vaebm.training.guard import Act


@dataclass
class Clock:
    """A clock that goes on when it is told to."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


class Seen(SimpleNamespace):
    """What came of a training with a clock of its own: iterations looked at, and the row."""


def trained(
    monkeypatch: pytest.MonkeyPatch, lasts: list[float], acts: dict[int, bool], budget: float = 100.0, pace: float = 1.0
) -> Seen:
    """Trains with iterations that last so long, again and again; acts of the guard by iteration, and if it gave up."""
    clock, looks = Clock(), []

    def iterations(planned: int, stored: Any) -> Iterator[Any]:
        assert not stored
        assert planned == max(2, round(budget / pace))
        for index in range(10**6):
            clock.now += lasts[index % len(lasts)]
            gave_up = acts.get(index + 1)
            act = None if gave_up is None else Act(index + 1, 0, ("steep",), 1e-3, 0.1, gave_up)
            verdict = SimpleNamespace(condition="healthy")
            yield SimpleNamespace(state=SimpleNamespace(iteration=index + 1), act=act, verdict=verdict)
            if gave_up:
                return

    def look(best: Any, *arguments: Any) -> None:
        *_, progress, seconds = arguments
        looks.append((progress.state.iteration, seconds))
        # Looking takes long, and doesn't count.
        clock.now += 1000
        best.distance = 1.0

    monkeypatch.setattr(rival_runs, "time", clock)
    monkeypatch.setattr(rival_runs, "_look", look)
    monkeypatch.setattr(rival_runs, "_pace", lambda rival, course: pace)
    monkeypatch.setattr(rival_runs, "selection_measure", lambda *arguments: None)
    course: Any = SimpleNamespace(
        tell=lambda text: None, judges=[None], splits=None, generator=lambda purpose: None, engine=make_engine("fp32"),
        config=SimpleNamespace(selection=SimpleNamespace(num_samples=0)),
    )  # fmt: skip
    model: Any = None
    player = Player(model, model, iterations, lambda average: model, model)
    kept: Any = SimpleNamespace(load=dict, keep=lambda *state: None, stop=StopRequest(), is_due=False)
    monkeypatch.setattr(Player, "state_dict", lambda self, progress: {})
    return Seen(looks=looks, row=rival_runs._train(player, RivalConfig(), course, budget, kept).row)


@pytest.mark.parametrize("pace", [0.5, 1.0, 3.0])
def test_a_row_ends_with_the_first_iteration_after_its_time(monkeypatch: pytest.MonkeyPatch, pace: float) -> None:
    # Whatever a few iterations beforehand promised.
    seen = trained(monkeypatch, [1.0, 0.5, 2.0], {}, pace=pace)
    assert 100 <= seen.row["seconds"] < 102
    assert [seconds for _, seconds in seen.looks] == pytest.approx([50.0, 75, 100], abs=2)
    assert seen.row["num_iterations"] == seen.looks[-1][0]


def test_an_iteration_that_takes_all_the_time_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained(monkeypatch, [300.0], {}).looks == [(1, 300.0)]
    assert trained(monkeypatch, [80.0], {}).looks == [(1, 80.0), (2, 160.0)]


def test_after_an_act_the_next_iteration_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = trained(monkeypatch, [1.0], {50: False, 100: False})
    assert seen.looks == [(51, 51.0), (75, 75.0), (101, 101.0)]
    assert len(seen.row["acts"]) == 2
    assert not seen.row["gave_up"]


def test_what_the_guard_gave_up_with_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = trained(monkeypatch, [1.0], {20: False, 30: True})
    assert seen.looks == [(30, 30.0)]
    assert seen.row["gave_up"]
    assert seen.row["seconds"] == 30.0


@pytest.fixture(scope="module")
def course() -> Course:
    torch.manual_seed(0)
    model = VAEBM(ConvVAE((1, 8, 8), (4,), widths=(16,)), EnergyNetwork((1, 8, 8), widths=(4,)), ImageFields())
    config = RECIPES["digits"]()
    return Course(model, config, load_splits("digits", 0), [], make_engine("fp32", "cpu"), 50, 0, lambda text: None)


def rates(course: Course, schedule: str, planned: int, count: int) -> list[float]:
    rival = RIVALS["vaebm-no-buffer"].settings(course.config)
    energy = replace(rival.energy, schedule=schedule, num_steps=1, batch_size=4, learning_rate=1e-3)
    iterations = make_player(replace(rival, energy=energy), course).iterations(planned, {})
    return [next(iterations).figures["learning_rate"] for _ in range(count)]


def test_a_rate_that_falls_rests_where_it_has_fallen(course: Course) -> None:
    falling = rates(course, "cosine", 4, 7)
    assert falling[:4] == sorted(falling[:4], reverse=True)
    assert falling[3] > 0
    # By its formula it would rise again.
    assert falling[4:] == [0.0, 0.0, 0.0]
    assert rates(course, "constant", 4, 7) == [1e-3] * 7


@pytest.mark.parametrize(("guarded", "acts"), [(True, [True, True]), (False, [False, False])])
def test_the_guard_only_watches_where_it_is_told_to(course: Course, guarded: bool, acts: list[bool]) -> None:
    strict = replace(course, config=replace(course.config, guard=GuardSettings(largest_noise_norm=1e-9, window=1)))
    rival = RIVALS["vaebm"].settings(course.config)
    rival = replace(rival, guarded=guarded, energy=replace(rival.energy, num_steps=1, batch_size=4))
    iterations = make_player(rival, strict).iterations(10, {})
    seen = [next(iterations) for _ in range(2)]
    assert [one.verdict.condition for one in seen] == ["diverged", "diverged"]
    assert [one.act is not None for one in seen] == acts


def test_the_critic_gets_images_for_each_of_its_steps(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def fit(step: Any, state: Any, batches: Iterator[torch.Tensor], num_iterations: int) -> Iterator[None]:
        sizes.append(len(next(batches)))
        yield None

    monkeypatch.setattr("vaebm.cli.rival_players.fit", fit)
    rival = RIVALS["wgan-gp"].settings(course.config)
    next(make_player(rival, course).iterations(10, {}))
    assert sizes == [5 * rival.adversarial.batch_size]
