"""Rows of ``vaebm benchmark`` that are stopped go on where they were."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import Cli, FinishedRun, assert_user_error

from forking import Process
from vaebm.checkpoint import load_state, save_state
from vaebm.cli import rival_runs, rival_state
from vaebm.cli.rival_players import Course, Player, make_player
from vaebm.cli.rival_state import RowUnderWay
from vaebm.data import load_splits
from vaebm.distributed import make_engine
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork, ImageFields
from vaebm.recipes import RECIPES
from vaebm.recipes.rivals import RIVALS, RivalConfig
from vaebm.training import Act, GuardSettings

TINY = """
vaebm: {lengths: [2, 4], energy: {num_steps: 2, batch_size: 8}}
wgan-gp: {adversarial: {batch_size: 8, num_critic_steps: 1}}
"""


@pytest.fixture(scope="module")
def course() -> Course:
    torch.manual_seed(0)
    model = VAEBM(ConvVAE((1, 8, 8), (4,), widths=(16,)), EnergyNetwork((1, 8, 8), widths=(4,)), ImageFields())
    config = replace(RECIPES["digits"](), guard=GuardSettings(window=2, snapshot_every=2))
    return Course(model, config, load_splits("digits", 0), [], make_engine("fp32", "cpu"), 50, 0, lambda text: None)


def small(name: str, course: Course) -> RivalConfig:
    rival = RIVALS[name].settings(course.config)
    return replace(
        rival,
        energy=replace(rival.energy, num_steps=2, batch_size=8, buffer_size=20),
        adversarial=replace(rival.adversarial, num_critic_steps=2, batch_size=8),
    )


def beginner(name: str, course: Course) -> Player:
    torch.manual_seed(0)
    return make_player(small(name, course), course)


def shown(player: Player, progress: Any) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    return progress.figures, {**player.model.state_dict(), "batch": next(player.batches)}


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "vae"])
def test_a_player_goes_on_as_if_it_had_never_been_stopped(name: str, course: Course, tmp_path: Path) -> None:
    whole = beginner(name, course)
    *_, last = islice(whole.iterations(20, {}), 7)
    figures, tensors = shown(whole, last)
    part = beginner(name, course)
    *_, progress = islice(part.iterations(20, {}), 4)
    save_state(tmp_path / "row.pt", part.state_dict(progress))
    # Networks of another seed show that everything is taken over.
    torch.manual_seed(1)
    following = make_player(small(name, course), course)
    *_, progress = islice(following.iterations(20, load_state(tmp_path / "row.pt")), 3)
    # The guard may have gone back.
    assert progress.state.iteration == last.state.iteration
    found_figures, found = shown(following, progress)
    assert found_figures == figures
    assert found.keys() == tensors.keys()
    for key, tensor in tensors.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=0, msg=key)
    for key, tensor in last.state.average.items():
        torch.testing.assert_close(progress.state.average[key], tensor, rtol=0, atol=0, msg=key)


def words(folder: Path, rows: str, budget: str = "1s") -> list[object]:
    Path("tiny.yaml").write_text(TINY)
    return ["benchmark", folder, "--config", "tiny.yaml", "--budget", budget, "-n", 50, "--rows", rows,
            "--output", "out"]  # fmt: skip


def row_of(key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("out/benchmark.json").read_text())["rows"][key]
    return found


class Broken(Exception):
    """What ends a process, for all that the row knows."""


@pytest.mark.parametrize("name", ["vaebm", "wgan-gp"])
@pytest.mark.parametrize("place", ["in training", "in the first look", "in the last look", "in the end"])
def test_a_row_that_ended_anywhere_goes_on(
    name: str, place: str, finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rival_runs, "STEPS", (0, 1))
    monkeypatch.setattr(rival_state, "EVERY", 0.0)
    looks, original = [], rival_runs._look

    def look(best: Any, *others: Any) -> None:
        looks.append(others[-1])
        if place == {1: "in the first look", 3: "in the last look"}.get(len(looks)):
            raise Broken
        original(best, *others)

    def keep(self: RowUnderWay, state: Any) -> None:
        keeping(self, state)
        if place == "in training" and state["tally"]["seconds"] > 0.5:
            raise Broken

    def measure(*arguments: Any) -> Any:
        if place == "in the end":
            raise Broken
        return measuring(*arguments)

    measuring, keeping = rival_runs._measured, RowUnderWay.keep
    with monkeypatch.context() as broken:
        broken.setattr(rival_runs, "_look", look)
        broken.setattr(rival_runs, "_measured", measure)
        broken.setattr(RowUnderWay, "keep", keep)
        with pytest.raises(Broken):
            cli(*words(finished.folder, name))
    before = load_state(f"out/{name}-0.pt")
    assert not Path("out/benchmark.json").exists()
    outcome = cli(*words(finished.folder, name))
    assert (outcome.code, outcome.errors) == (0, "")
    tally = before["tally"]
    assert f"goes on after {tally['iteration']:,} iterations" in outcome.output
    row = row_of(f"{name}-0")
    # It has had no more than its time, and what was looked at stays.
    assert row["sittings"] == 2
    assert row["num_planned"] == tally["planned"]
    assert 1 <= row["seconds"] < 1.5
    assert row["num_iterations"] >= tally["iteration"]
    assert row["candidates"][: len(before["best"]["looks"])] == before["best"]["looks"]
    assert len({look["seconds"] for look in row["candidates"]}) == 3
    assert row["chosen"]["distance"] == min(look["distance"] for look in row["candidates"])
    assert not Path(f"out/{name}-0.pt").exists()


def test_a_signal_stops_a_row_and_keeps_it(finished: FinishedRun, cli: Cli) -> None:
    process = Process("vaebm", *words(finished.folder, "vae,wgan-gp", "1h"))
    process.wait_for(Path("out/benchmark.json"), "vae-0")
    process.wait_for(process.output, "iterations at")
    process.send_signal(signal.SIGTERM)
    outcome = process.outcome()
    assert outcome.code == 130
    assert outcome.output.endswith("stopped by SIGTERM; all is saved. Go on with the same command\n")
    kept = Path("out/wgan-gp-0.pt")
    seconds = load_state(kept)["tally"]["seconds"]
    # It can't become a row of another time, other settings or other judges.
    assert_user_error(cli(*words(finished.folder, "wgan-gp", "1s")), "benchmark.json holds rows of another comparison")
    Path("out/benchmark.json").unlink()
    told = cli(*words(finished.folder, "wgan-gp", "1s"))
    assert_user_error(told, f"{kept} is of another row (budget, time): name another --output, or remove it")
    assert load_state(kept)["tally"]["seconds"] == seconds


def test_a_file_that_cant_be_gone_on_with_is_told(finished: FinishedRun, cli: Cli, course: Course) -> None:
    Path("out").mkdir()
    kept = Path("out/wgan-gp-0.pt")
    kept.write_bytes(b"nothing")
    assert_user_error(cli(*words(finished.folder, "wgan-gp")), f"{kept} is damaged, truncated or altered")
    assert kept.read_bytes() == b"nothing"
    under_way = RowUnderWay(kept, {})
    begun = {"best": {"num_steps": 0, "step_size": 1.0}, "tally": {"planned": 3}}
    for misfit in ({"tally": {}}, {**begun, "player": {"model": {}}}):
        save_state(kept, {"identity": {}, **misfit})
        with pytest.raises(Exception, match=r"doesn't fit its row .*: remove it, and the row begins anew"):
            rival_runs.run_row(small("wgan-gp", course), course, 1.0, under_way)
    kept.unlink()
    with under_way.held():
        told = cli(*words(finished.folder, "wgan-gp"))
        assert_user_error(told, "the row wgan-gp-0 in out is in use: another process makes it")
    assert not kept.exists()


def test_a_row_whose_guard_gave_up_is_looked_at_after_it_was_stopped_there(
    course: Course, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def iterations(planned: int, stored: Any) -> Any:
        for progress in islice(player.iterations(planned, stored), 3):
            yield progress
        act = Act(4, 0, ("steep",), 1e-3, 0.1, True)
        yield progress._replace(act=act, memory=replace(progress.memory, acts=(act,)))

    def look(best: Any, *others: Any) -> None:
        looks.append(others[-1])
        if len(looks) == 1:
            raise Broken
        best.distance, best.average = 1.0, others[-2].state.average

    player, looks = beginner("vaebm", course), []
    rival = small("vaebm", course)
    under_way = RowUnderWay(tmp_path / "row.pt", {})
    monkeypatch.setattr(rival_state, "EVERY", 0.0)
    monkeypatch.setattr(rival_runs, "_look", look)
    monkeypatch.setattr(rival_runs, "_pace", lambda rival, course: 1.0)
    monkeypatch.setattr(rival_runs, "selection_measure", lambda *arguments: None)
    judged: Any = replace(course, judges=[None])
    with pytest.raises(Broken):
        rival_runs._train(replace(player, iterations=iterations), rival, judged, 1000.0, under_way)
    player = beginner("vaebm", course)
    found = rival_runs._train(replace(player, iterations=iterations), rival, judged, 1000.0, under_way)
    assert len(looks) == 2
    assert found.row["gave_up"]
    # After the look it is over.
    player = beginner("vaebm", course)
    again = rival_runs._train(player, rival, judged, 1000.0, under_way)
    assert again.row == {**found.row, "sittings": found.row["sittings"] + 1}
