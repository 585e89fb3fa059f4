"""What ``benchmarks/rivals.py`` keeps of ``vaebm benchmark``, and its tables."""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaebm.cli.main import run as vaebm
from vaebm.recipes import to_dict
from vaebm.recipes.mnist import mnist
from vaebm.recipes.rivals import RIVALS

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
IDENTITY = {"budget": 60.0, "vae_time": 9.0, "model_sha256": "abc", "judges": {"plain": "1", "apart": "2"},
            "num_samples": 50, "device": "cpu", "precision": "fp32"}  # fmt: skip


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("rivals")


def row(name: str, seed: int = 0, curve: dict[int, float] | None = None, pace: float = 2.0) -> dict[str, Any]:
    """A row whose last judge sees half the distance of the first."""
    curve = curve or {}
    interval = {"value": 0.2, "low": 0.1, "high": 0.3}
    quality = [{"judge": judge, "frechet": 4.0, "recall": 0.5, "floor": 1.0, "kernel_interval": interval}
               for judge in ("plain", "apart")]  # fmt: skip
    return {
        "name": name, "title": name.upper(), "seed": seed, "seconds": 60.0, "num_iterations": 10, "num_samples": 50,
        "milliseconds_per_step": pace, "chosen": {"num_steps": 15}, "quality": quality,
        "curve": [{"judge": judge, "num_steps": steps, "frechet": distance / divisor}
                  for judge, divisor in (("plain", 1), ("apart", 2)) for steps, distance in curve.items()],
    }  # fmt: skip


def written(folder: Path, rows: dict[str, Any], shade: int = 0, **changes: Any) -> None:
    """Writes what ``vaebm benchmark`` leaves in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.json").write_text(json.dumps({**IDENTITY, "versions": {}, **changes, "rows": rows}))
    for key in rows:
        # Seven lines of eight hold 50 samples.
        Image.fromarray(np.full((70, 80), shade, np.uint8)).save(folder / f"{key}.png")


def test_rows_are_kept_with_what_they_have_in_common(rivals: Any) -> None:
    results = Path("rivals.json")
    written(Path("first"), {"vae-0": row("vae"), "vaebm-0": row("vaebm", 0, {0: 8.0, 15: 2.0})})
    rivals.keep("digits", Path("first"), results)
    second = {"vaebm-1": row("vaebm", 1, {0: 8.0, 15: 2.0}), "reconstructions-0": row("reconstructions")}
    written(Path("second"), second, shade=9)
    rivals.keep("digits", Path("second"), results)
    kept = json.loads(results.read_text())["digits"]
    assert kept["identity"] == IDENTITY
    assert list(kept["rows"]) == ["vae-0", "reconstructions-0", "vaebm-0", "vaebm-1"]
    # Of the first seed, in the order of the rows; those of the first folder from the picture that was there.
    assert shades("rivals_digits.png") == [0, 9, 0]


def shades(picture: str) -> list[float]:
    """The lines of a picture whose rows are 10 pixels high."""
    found: list[float] = np.asarray(Image.open(picture).convert("L"))[::10].mean(1).tolist()
    return found


def test_a_picture_has_the_first_seed_of_each_row_that_has_samples(rivals: Any) -> None:
    results = Path("rivals.json")
    written(Path("first"), {"vae-0": row("vae"), "wgan-gp-1": row("wgan-gp", 1)})
    rivals.keep("digits", Path("first"), results)
    assert shades("rivals_digits.png") == [0, 0]
    # Without the picture, of what is there; one that tells no rows is none.
    for spoilt in (False, True):
        Path("rivals_digits.png").unlink()
        if spoilt:
            Image.fromarray(np.full((20, 80), 5, np.uint8)).save("rivals_digits.png")
        written(Path("second"), {"vae-1": row("vae", 1)}, shade=9)
        rivals.keep("digits", Path("second"), results)
        assert shades("rivals_digits.png") == [9]


def test_samples_without_colour_stand_among_those_with_it(rivals: Any) -> None:
    """Those of a row that diverged are black; of 40 samples a picture has five lines."""
    written(Path("rows"), {"vae-0": row("vae"), "vaebm-0": {**row("vaebm"), "quality": []}})
    for key, colour in (("vae-0", (0, 200, 0)), ("vaebm-0", (0, 0, 0))):
        found = np.full((50, 80, 3), colour, np.uint8) if any(colour) else np.zeros((50, 80), np.uint8)
        Image.fromarray(found).save(f"rows/{key}.png")
    rows = json.loads(Path("rows/benchmark.json").read_text())
    for one in rows["rows"].values():
        one["num_samples"] = 40
    Path("rows/benchmark.json").write_text(json.dumps(rows))
    rivals.keep("digits", Path("rows"), Path("rivals.json"))
    with Image.open("rivals_digits.png") as picture:
        assert (picture.size, picture.info["rows"]) == ((80, 20), "vae-0 vaebm-0")
        assert np.asarray(picture)[::10, 0].tolist() == [[0, 200, 0], [0, 0, 0]]
    assert Path("rivals_digits_curves.png").stat().st_size > 1000


def test_rows_of_another_comparison_are_refused_or_replace_those_that_are_kept(rivals: Any) -> None:
    results = Path("rivals.json")
    written(Path("first"), {"vaebm-0": row("vaebm", 0, {0: 8.0})})
    rivals.keep("digits", Path("first"), results)
    rivals.keep("others", Path("first"), results)
    before = results.read_text()
    for changes in ({"budget": 90.0}, {"vae_time": 0.0}, {"num_samples": 9}, {"model_sha256": "d"},
                    {"precision": "bf16"}, {"judges": {}}):  # fmt: skip
        written(Path("second"), {"vaebm-1": row("vaebm", 1, {0: 8.0})}, **changes)
        with pytest.raises(rivals.Other, match=f"{next(iter(changes))}.*--replace drops them"):
            rivals.keep("digits", Path("second"), results)
    assert results.read_text() == before
    rivals.keep("digits", Path("second"), results, is_replaced=True)
    kept = json.loads(results.read_text())
    assert list(kept["digits"]["rows"]) == ["vaebm-1"]
    assert kept["digits"]["identity"]["judges"] == {}
    assert list(kept["others"]["rows"]) == ["vaebm-0"]


class Trained:
    """Stands for ``vaebm benchmark``: what it was asked for, and the settings by which it makes rows."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.planned: list[list[str]] = []
        self.settings: dict[str, Any] = {"lengths": [1]}

    def plan(self, words: list[str]) -> dict[str, Any]:
        self.planned.append(words)
        seed = int(words[words.index("--seed") + 1])
        return {**IDENTITY, "rows": {f"vaebm-{seed}": {"name": "vaebm", "seed": seed, "settings": self.settings}}}

    def run(self, words: list[str]) -> None:
        self.asked.append(words)
        seed = int(words[words.index("--seed") + 1])
        written(Path("runs/digits"), {f"vaebm-{seed}": {**row("vaebm", seed, {0: 8}), "settings": self.settings}})


WORDS = ["run", "digits", "--runs", "runs", "--results", "rivals.json", "--budget", "1m", "--seeds", "0", "1"]


@pytest.fixture
def trained(rivals: Any, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Two seeds that are kept."""
    found = Trained()
    monkeypatch.setattr(rivals, "planned", found.plan)
    monkeypatch.setattr(rivals, "run_vaebm", found.run)
    assert rivals.main(WORDS) == 0
    assert [words[-2:] for words in found.asked] == [["--seed", "0"], ["--seed", "1"]]
    assert all("--budget" in words for words in [*found.asked, *found.planned])
    assert found.asked[0] == ["benchmark", *found.planned[0]]
    found.asked.clear()
    return found


def test_another_comparison_is_told_before_anything_is_trained(
    rivals: Any, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    known = json.loads(Path("rivals.json").read_text())
    known["digits"]["identity"]["budget"] = 3.0
    Path("rivals.json").write_text(json.dumps(known))
    assert rivals.main(WORDS) == 2
    assert not trained.asked
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "keeps rows of another comparison (budget 3.0 instead of 60.0)" in told
    assert rivals.main([*WORDS, "--replace"]) == 0


def test_what_is_kept_stays_until_all_there_is_instead_of_it_is_there(
    rivals: Any, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path("rivals.json").read_text()
    monkeypatch.setattr(rivals, "run_vaebm", lambda words: refuse(words) if words[-1] == "1" else trained.run(words))
    assert rivals.main([*WORDS, "--replace"]) == 2
    assert len(trained.asked) == 1
    assert Path("rivals.json").read_text() == before


def test_other_settings_are_told_before_anything_is_trained(
    rivals: Any, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    # Those of a seed that is in the folder, but not among the results.
    path = Path("runs/digits/benchmark.json")
    stored = json.loads(path.read_text())
    stored["rows"]["vaebm-3"] = {**row("vaebm", 3, {0: 8}), "settings": {"lengths": [9]}}
    path.write_text(json.dumps(stored))
    assert rivals.main([*WORDS, "--replace"]) == 2
    assert f"{path} holds rows of other settings than those of" in capsys.readouterr().err
    # Those of a seed that is kept.
    path.unlink()
    trained.settings = {"lengths": [2]}
    assert rivals.main([*WORDS[:-2], "2"]) == 2
    assert "keeps rows of other settings than those of vaebm-2: --replace drops them" in capsys.readouterr().err
    assert not trained.asked


def refuse(words: list[str]) -> None:
    raise subprocess.CalledProcessError(2, words)


def test_what_vaebm_benchmark_refuses_is_an_error(rivals: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "planned", lambda words: {**IDENTITY, "rows": {}})
    monkeypatch.setattr(rivals, "run_vaebm", refuse)
    assert rivals.main(["run", "digits", "--rows", "vaebm"]) == 2


def test_rows_of_before_a_setting_was_there_are_joined(rivals: Any) -> None:
    settings = to_dict(RIVALS["vaebm"].settings(mnist()))
    older = {name: value for name, value in settings.items() if name != "guarded"}
    older = {**older, "energy": {name: value for name, value in settings["energy"].items() if name != "persistence"}}
    written(Path("first"), {"vaebm-0": {**row("vaebm", 0, {0: 8.0}), "settings": older}})
    rivals.keep("digits", Path("first"), Path("rivals.json"))
    written(Path("second"), {"vaebm-1": {**row("vaebm", 1, {0: 8.0}), "settings": settings}})
    found = json.loads(Path("second/benchmark.json").read_text())
    kept = rivals.joined("digits", found, Path("rivals.json"), False)["digits"]
    assert set(kept["rows"]) == {"vaebm-0", "vaebm-1"}
    other = {**settings, "energy": {**settings["energy"], "num_steps": 99}}
    written(Path("second"), {"vaebm-1": {**row("vaebm", 1, {0: 8.0}), "settings": other}})
    with pytest.raises(rivals.Other, match="other settings"):
        rivals.keep("digits", Path("second"), Path("rivals.json"))


def test_tables_of_rows_that_all_diverged_are_empty(rivals: Any) -> None:
    lost = {"vaebm-0": {**row("vaebm"), "quality": []}}
    assert len(rivals.by_steps(lost, "")) == 2
    near = {"a": row("vaebm", 0, {0: 8.0, 15: 4.0, 30: 1.0})}
    assert rivals.by_steps(near, "apart")[2].endswith("| 4.00 (∞) |")


def test_a_model_is_trained_once_by_settings_that_can_be_built(rivals: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez("images.npz", images=np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8))
    # What work costs is of no interest here.
    for name, value in (("SECONDS", 0), ("NUM_IMAGES", 4), ("NUM_JUDGED", 4), ("NUM_EXACT", 4)):
        monkeypatch.setattr(f"vaebm.cli.costs.{name}", value)
    asked: list[list[str]] = []
    monkeypatch.setattr("forked.run_vaebm", asked.append)
    words = ["train", "run", "--data", "images.npz"]
    assert rivals.main(words) == 0
    assert vaebm([*asked[0], "--dry-run"]) == 0
    Path("run").mkdir()
    Path("run/config.yaml").touch()
    assert rivals.main(words) == 0
    assert asked[1] == ["train", "--resume", "run"]


def test_curves_are_those_of_the_last_judge_where_all_seeds_are_finite(rivals: Any) -> None:
    rows = {
        "a": row("vaebm", 0, {0: 8.0, 15: 4.0, 30: 2.0}),
        "b": row("vaebm", 1, {0: 8.0, 30: 4.0}),
        # It diverged altogether.
        "c": {**row("vaebm", 2), "quality": []},
        "d": row("pixels-short-run", 0, {0: 9.0, 15: 8.0}),
    }
    assert rivals.last_judge(rows) == "apart"
    assert rivals.curve_of(rows, "vaebm", "apart") == {0: 4.0, 30: 1.5}
    lines = rivals.by_steps(rows, "apart")
    assert lines[0].endswith("| 15 over the best (above the floor of 1) |")
    assert lines[2] == "| VAEBM | 4 |  | 1.5 | not finite |"
    assert lines[3] == "| PIXELS-SHORT-RUN | 4.5 | 4 |  | 1.00 (1.00) |"
    assert rivals.by_steps({"a": row("vaebm", 0, {0: 8.0, 15: 4.0, 30: 3.0})}, "apart")[2].endswith("| 1.33 (2.00) |")
    # Without a distance at 15 steps there is none to be reached.
    assert rivals.by_time(rows, "apart")[2].endswith("| 60.0 |  |")
    assert rivals.last_judge({"c": rows["c"]}) == ""


def test_when_pixels_are_as_near_is_told(rivals: Any) -> None:
    rows = {
        "a": row("vaebm", 0, {0: 8.0, 15: 4.0, 30: 2.0}),
        "b": row("pixels-short-run", 0, {0: 9.0, 60: 4.03, 100: 3.0}, pace=1.0),
        "c": row("pixels-persistent", 0, {0: 9.0, 60: 6.0, 200: 4.05}, pace=3.0),
    }
    ours, reached, missed = rivals.by_time(rows, "apart")[2:]
    assert ours.endswith("| 30.0 |")
    assert reached.endswith("| 60.0 |")
    assert missed.endswith("| not reached in 600.0 s |")


def test_candidates_after_the_guard_went_back_stand_apart(rivals: Any) -> None:
    looks = [{"iteration": 20, "seconds": 60.0, "distance": 5.0}, {"iteration": 20, "seconds": 120.0, "distance": 3.0}]
    (line,) = rivals.by_iterations({"a": {**row("vaebm"), "candidates": looks}})[2:]
    assert line == "| VAEBM, seed 0 | 5 (20 iterations, 1.0 min) | 3 (20 iterations, 2.0 min) |  |"


def test_the_results_that_are_committed_say_what_they_have_in_common(rivals: Any) -> None:
    for entry in json.loads(rivals.RESULTS.read_text()).values():
        assert set(entry["identity"]) == set(rivals.IDENTITY)
