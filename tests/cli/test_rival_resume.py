"""Rows of ``vaebm benchmark`` that are stopped go on where they were."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import Cli, FinishedRun, assert_user_error

from forking import Outcome, Process
from vaebm.checkpoint import CheckpointError, load_state, save_state
from vaebm.cli import rival_runs, rival_state
from vaebm.cli.rival_players import Course, Player, make_player
from vaebm.cli.rival_state import Best, RowUnderWay, Tally
from vaebm.data import load_splits
from vaebm.distributed import make_engine
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork, ImageFields
from vaebm.recipes import RECIPES, to_dict
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
    # A guard that goes back at once.
    config = replace(RECIPES["digits"](), guard=GuardSettings(window=2, snapshot_every=2))
    return Course(model, config, load_splits("digits", 0), [], make_engine("fp32", "cpu"), 50, 0, lambda text: None)


def small(name: str, course: Course) -> RivalConfig:
    rival = RIVALS[name].settings(course.config)
    return replace(
        rival,
        energy=replace(rival.energy, num_steps=2, batch_size=8, buffer_size=20),
        adversarial=replace(rival.adversarial, num_critic_steps=2, batch_size=8),
    )


def beginner(name: str, course: Course, seed: int = 0) -> Player:
    torch.manual_seed(seed)
    return make_player(small(name, course), course)


def shown(player: Player, progress: Any) -> dict[str, torch.Tensor]:
    average = {f"average {name}": value for name, value in progress.state.average.items()}
    return {**player.model.state_dict(), **average, "batch": next(player.batches)}


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "vae"])
def test_a_player_goes_on_as_if_it_had_never_been_stopped(name: str, course: Course, tmp_path: Path) -> None:
    whole = beginner(name, course)
    *_, last = islice(whole.iterations(20, {}), 7)
    part = beginner(name, course)
    *_, progress = islice(part.iterations(20, {}), 4)
    save_state(tmp_path / "row.pt", part.state_dict(progress))
    # Networks of another seed show that everything is taken over.
    following = beginner(name, course, 1)
    moment, *_, found = islice(following.iterations(20, load_state(tmp_path / "row.pt")), 4)
    # The guard may have gone back.
    assert moment.state.iteration == progress.state.iteration
    assert (found.state.iteration, found.figures) == (last.state.iteration, last.figures)
    expected = shown(whole, last)
    assert shown(following, found).keys() == expected.keys()
    for key, tensor in shown(following, found).items():
        if key != "batch":
            torch.testing.assert_close(tensor, expected[key], rtol=0, atol=0, msg=key)


def words(folder: Path, rows: str, budget: str = "12s") -> list[object]:
    Path("tiny.yaml").write_text(TINY)
    return ["benchmark", folder, "--config", "tiny.yaml", "--budget", budget, "-n", 50, "--rows", rows,
            "--output", "out"]  # fmt: skip


def row_of(key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("out/benchmark.json").read_text())["rows"][key]
    return found


class Broken(Exception):
    """What ends a process, for all that the row knows."""


@dataclass
class Clock:
    """A clock by which everything takes a second."""

    now: float = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterations of a second each, kept after every one of them."""
    monkeypatch.setattr(rival_runs, "time", Clock())
    monkeypatch.setattr(rival_runs, "STEPS", (0, 1))
    monkeypatch.setattr(rival_state, "EVERY", 0.0)


# After three iterations, before the first look, in the first and the last one, after it, in the measurement.
PLACES = ("keep 3", "keep 6", "look 1", "look 3", "keep 15", "measured 1")


@pytest.mark.usefixtures("by_the_clock")
@pytest.mark.parametrize(("name", "places"), [("vaebm", PLACES), ("wgan-gp", PLACES[2:3])])
def test_a_row_that_is_stopped_anywhere_ends_as_one_that_is_not(
    name: str, places: Sequence[str], finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def breaking(kind: str, place: str, original: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls.append(kind)
            if kind != "keep" and f"{kind} {calls.count(kind)}" == place:
                raise Broken
            found = original(*arguments)
            if f"{kind} {calls.count(kind)}" == place:
                raise Broken
            return found

        return call

    assert cli(*words(finished.folder, name)).code == 0
    expected = row_of(f"{name}-0")
    picture = Path(f"out/{name}-0.png").read_bytes()
    assert expected["num_iterations"] == expected["num_planned"] == expected["seconds"] == 12
    for place in places:
        Path("out/benchmark.json").unlink()
        calls.clear()
        with monkeypatch.context() as broken:
            broken.setattr(rival_runs, "_look", breaking("look", place, rival_runs._look))
            broken.setattr(rival_runs, "_measured", breaking("measured", place, rival_runs._measured))
            broken.setattr(RowUnderWay, "keep", breaking("keep", place, RowUnderWay.keep))
            with pytest.raises(Broken):
                cli(*words(finished.folder, name))
        assert not Path("out/benchmark.json").exists()
        kept = load_state(f"out/{name}-0.pt")["tally"]
        outcome = cli(*words(finished.folder, name))
        assert f"goes on after {kept['iteration']:,} iterations" in outcome.output
        found = row_of(f"{name}-0")
        sittings = found.pop("sittings")
        assert [sitting["since"] for sitting in sittings] == [0, kept["seconds"]]
        assert sittings[0]["torch"] == torch.__version__
        times = {"milliseconds_per_step", "sittings", "hardware"}
        assert {**found, **{key: expected[key] for key in times}} == expected
        assert Path(f"out/{name}-0.png").read_bytes() == picture
        assert not Path(f"out/{name}-0.pt").exists()


def test_a_signal_stops_a_row_and_keeps_it(finished: FinishedRun, cli: Cli) -> None:
    process = Process("vaebm", *words(finished.folder, "vae,wgan-gp", "1h"))
    process.wait_for(process.output, "iterations at")
    process.send_signal(signal.SIGTERM)
    outcome = process.outcome()
    assert outcome.code == 130
    assert outcome.output.endswith("stopped by SIGTERM; what was trained is saved. Go on with the same command\n")
    kept = Path("out/wgan-gp-0.pt")
    seconds = load_state(kept)["tally"]["seconds"]
    # It can't become a row of another time or of other settings.
    assert_user_error(cli(*words(finished.folder, "wgan-gp")), "benchmark.json holds rows of another comparison")
    Path("out/benchmark.json").unlink()
    told = cli(*words(finished.folder, "wgan-gp"))
    assert_user_error(told, f"{kept} is of another row (budget, time): name another --output, or remove it")
    Path("other.yaml").write_text("wgan-gp: {adversarial: {penalty: 1.0}}")
    told = cli(*words(finished.folder, "wgan-gp", "1h"), "--config", "other.yaml")
    assert_user_error(told, f"{kept} is of another row (settings)")
    assert load_state(kept)["tally"]["seconds"] == seconds


def killed(finished: FinishedRun, number: signal.Signals, **limits: Any) -> Outcome:
    """A row of wgan-gp for an hour, ended once it trains."""
    process = Process("vaebm", *words(finished.folder, "wgan-gp", "1h"), **limits)
    process.wait_for(process.output, " iterations")
    process.send_signal(number)
    return process.outcome()


def test_a_disk_that_is_full_and_a_killed_process_leave_what_was_kept(finished: FinishedRun, cli: Cli) -> None:
    # The file of the row is larger than that.
    full = killed(finished, signal.SIGTERM, file_size=20_000)
    assert full.code == 2
    told = (
        "cannot write out/wgan-gp-0.pt: File too large; check space and rights; the same command goes on with the row"
    )
    assert full.errors.endswith(f"\nvaebm: {told}: nothing was kept of it\n")
    assert killed(finished, signal.SIGTERM).code == 130
    before = Path("out/wgan-gp-0.pt").read_bytes()
    full = killed(finished, signal.SIGTERM, file_size=20_000)
    assert full.errors.endswith(f"\nvaebm: {told}: what was kept of it before is whole\n")
    # What a process leaves that is killed while it writes.
    Path("out/.wgan-gp-0.pt.0123456789ab.tmp").write_bytes(before[:100])
    assert killed(finished, signal.SIGKILL).code == -signal.SIGKILL
    assert Path("out/wgan-gp-0.pt").read_bytes() == before
    assert [path.name for path in Path("out").iterdir() if path.suffix == ".tmp"] == []


def test_what_is_not_to_be_gone_on_with_is_told_before_other_rows_take_their_time(
    finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*arguments: Any) -> None:
        pytest.fail("a row was trained")

    monkeypatch.setattr(rival_runs, "run_row", train)
    Path("out").mkdir()
    kept = Path("out/wgan-gp-0.pt")
    kept.write_bytes(b"nothing")
    told = cli(*words(finished.folder, "vaebm,wgan-gp"))
    assert_user_error(
        told, f"{kept} is damaged, truncated or altered", "if wgan-gp-0.pt is removed, its row begins anew"
    )
    assert kept.read_bytes() == b"nothing"
    kept.unlink()
    with RowUnderWay(kept, {}).held():
        told = cli(*words(finished.folder, "vaebm,wgan-gp"))
        assert_user_error(told, "the row wgan-gp-0 in out is in use: another process makes it")


@pytest.mark.usefixtures("by_the_clock")
def test_a_row_that_is_there_leaves_nothing_under_way(finished: FinishedRun, cli: Cli) -> None:
    assert cli(*words(finished.folder, "vae")).code == 0
    before = Path("out/benchmark.json").read_bytes()
    # Its process was killed between the row and the removal of its file.
    Path("out/vae-0.pt").write_bytes(b"left")
    assert "vae-0: measured before" in cli(*words(finished.folder, "vae")).output
    assert not Path("out/vae-0.pt").exists()
    assert Path("out/benchmark.json").read_bytes() == before


def test_a_file_that_holds_something_else_is_told(course: Course, tmp_path: Path) -> None:
    under_way = RowUnderWay(tmp_path / "row.pt", {})
    begun = {"best": {"num_steps": 0, "step_size": 1.0}, "tally": {"planned": 3}}
    for misfit, told in (
        ({"tally": {}}, "'best'"),
        ({**begun, "player": {"model": {}}}, "RuntimeError"),
        ({**begun, "tally": {"plans": 3}, "player": {}}, "plans"),
    ):
        save_state(under_way.path, {"identity": {}, **misfit})
        with pytest.raises(CheckpointError, match=f"doesn't fit its row .*{told}.*: remove it, and the row begins"):
            rival_runs.run_row(small("wgan-gp", course), course, 1.0, under_way)


def test_a_memory_that_is_too_small_is_not_the_files_fault(
    course: Course, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def load(self: Any, state: Any) -> None:
        raise torch.OutOfMemoryError

    player = beginner("wgan-gp", course)
    (progress,) = islice(player.iterations(20, {}), 1)
    under_way = RowUnderWay(tmp_path / "row.pt", {})
    under_way.keep(player.state_dict(progress), Best(0, 1.0), Tally(20))
    monkeypatch.setattr(torch.optim.Adam, "load_state_dict", load)
    with pytest.raises(torch.OutOfMemoryError):
        rival_runs.run_row(small("wgan-gp", course), course, 1.0, under_way)


def test_another_machine_is_told_of() -> None:
    tally = Tally(10)
    assert tally.sit_down({"cpu": "one", "torch_threads": 1}) == ""
    tally.seconds = 60.0
    assert tally.sit_down({"cpu": "two", "torch_threads": 1}) == "cpu one, now two"
    assert [sitting["since"] for sitting in tally.sittings] == [0.0, 60.0]


def test_settings_that_are_newer_than_a_kept_row_have_their_defaults(course: Course, tmp_path: Path) -> None:
    settings = to_dict(small("vaebm", course))
    older = {**settings, "energy": {key: value for key, value in settings["energy"].items() if key != "persistence"}}
    RowUnderWay(tmp_path / "row.pt", {"settings": older}).keep({}, Best(0, 1.0), Tally(20))
    assert RowUnderWay(tmp_path / "row.pt", {"settings": settings}).load()["tally"]["planned"] == 20
    with pytest.raises(CheckpointError, match=r"of another row \(settings, num_test\)"):
        RowUnderWay(tmp_path / "row.pt", {"settings": {}, "num_test": 3}).load()


def test_a_row_whose_guard_gave_up_is_looked_at_once(
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

    player, looks, rival = beginner("vaebm", course), [], small("vaebm", course)
    under_way = RowUnderWay(tmp_path / "row.pt", {})
    monkeypatch.setattr(rival_runs, "_look", look)
    monkeypatch.setattr(rival_runs, "_pace", lambda rival, course: 1.0)
    monkeypatch.setattr(rival_runs, "selection_measure", lambda *arguments: None)
    judged: Any = replace(course, judges=[None])
    with pytest.raises(Broken):
        rival_runs._train(replace(player, iterations=iterations), rival, judged, 1000.0, under_way)
    # No iteration is left that it could be looked at after.
    found, again = (rival_runs._train(beginner("vaebm", course), rival, judged, 1000.0, under_way) for _ in range(2))
    assert len(looks) == 2
    assert found.row["gave_up"]
    assert len(found.row["sittings"]) == 2
    assert {**again.row, "sittings": []} == {**found.row, "sittings": []}
