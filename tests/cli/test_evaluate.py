"""``vaebm evaluate``: the figures of the report, from the saved model alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Cli, FinishedRun, assert_user_error

from vaebm.checkpoint import model_folders
from vaebm.data import load_splits
from vaebm.recipes import load_judges, read_model, save


def read(path: str | Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(Path(path).read_text())
    return figures


def close(left: Any, right: Any) -> bool:
    """Compares nested figures, numbers to seven digits."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(close(left[name], right[name]) for name in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(close, left, right))
    return bool(left == pytest.approx(right, rel=1e-7)) if isinstance(left, float) else bool(left == right)


def test_it_recomputes_the_table_of_the_report(finished: FinishedRun, cli: Cli) -> None:
    outcome = cli("evaluate", finished.folder, "--output", "again.json")
    assert (outcome.code, outcome.errors) == (0, "")
    measured = read(finished.folder / "evaluation.json")
    # How the run ended is the run's alone.
    assert measured.pop("guard")["condition"] == "healthy"
    assert close(read("again.json"), measured)
    shown = finished.output[finished.output.index("Sample quality") : finished.output.index("report:")]
    assert outcome.output.endswith(shown)


def test_fewer_samples_and_further_outliers(finished: FinishedRun, cli: Cli) -> None:
    bright = np.random.default_rng(0).integers(200, 256, (30, 1, 8, 8), dtype=np.uint8)
    np.savez("bright.npz", images=bright)
    outcome = cli("evaluate", finished.folder, "-n", 50, "--outliers", "bright=bright.npz", "--output", "more.json")
    assert outcome.code == 0
    assert "covariances of 50 images aren't of full rank, expected more than 64" in outcome.output
    figures = read("more.json")
    assert figures["n"] == 50
    assert {row["n"] for row in figures["quality"]} == {50}
    rows = [row for row in figures["outliers"] if row["set"] == "bright"]
    assert [row["num_outliers"] for row in rows] == [30, 30, 30]
    assert next(row for row in rows if row["score"] == "elbo")["auroc"]["value"] > 0.99
    assert "\nbright (n = 30)\n" in outcome.output
    (title,) = [line for line in outcome.output.splitlines() if "FPR95" in line]
    assert title.split() == ["score", "AUROC", "↑", "AUPR", "↑", "FPR95", "↓"]


def test_another_seed_draws_other_chains_and_scores_alike(finished: FinishedRun, cli: Cli) -> None:
    for name, seed in (("one", 1), ("two", 2), ("again", 1)):
        assert cli("evaluate", finished.folder, "-n", 50, "--seed", seed, "--output", f"{name}.json").code == 0
    one, two = read("one.json"), read("two.json")
    assert close(one, read("again.json"))
    assert one["seed"] == 1
    assert {row["seed"] for row in one["quality"] + one["steps_curve"] + one["outliers"]} == {1}
    samples = [next(row for row in figures["quality"] if row["what"] == "VAEBM") for figures in (one, two)]
    assert samples[0]["frechet"] != samples[1]["frechet"]
    assert one["p_values"] == two["p_values"]
    assert_user_error(cli("evaluate", finished.folder, "--seed", -1), "--seed")


def test_other_numbers_of_steps(finished: FinishedRun, cli: Cli) -> None:
    assert cli("evaluate", finished.folder, "-n", 50, "--steps", "0,3,12", "--output", "steps.json").code == 0
    curve = read("steps.json")["steps_curve"]
    # Those of the samples' rows are always among them.
    assert [row["num_steps"] for row in curve] == [0, 3, 10, 12]


def test_chains_may_run_in_another_way(finished: FinishedRun, cli: Cli) -> None:
    words = ("-n", 50, "--num-steps", 6, "--step-size", 0.05, "--persistence", 0.5, "--output", "other.json")
    assert cli("evaluate", finished.folder, *words).code == 0
    found = read("other.json")
    assert found["num_steps"] == 6
    assert found["sampling"] == {"num_steps": 6, "step_size": 0.05, "persistence": 0.5}
    assert cli("evaluate", finished.folder, *words[:-4], "--persistence", 0, "--output", "plain.json").code == 0
    plain = read("plain.json")
    moved = [next(row["frechet"] for row in one["quality"] if row["what"] == "VAEBM") for one in (found, plain)]
    assert moved[0] != moved[1]
    assert found["outliers"] == plain["outliers"]
    assert_user_error(cli("evaluate", finished.folder, "--num-steps", 0), "--num-steps 0 is the VAE")
    assert cli("evaluate", finished.folder, "--modes", 100, *words[2:]).code == 0
    assert read("other.json")["sampling"] == found["sampling"]


def test_judges_can_be_exchanged(finished: FinishedRun, cli: Cli) -> None:
    shutil.copytree(next(path for path in model_folders() if path.name == "digits8_plain"), "judges/mine")
    assert cli("evaluate", finished.folder, "-n", 50, "--judges", "judges", "--output", "mine.json").code == 0
    assert {row["judge"] for row in read("mine.json")["quality"]} == {"mine"}
    assert_user_error(cli("evaluate", finished.folder, "--judges", "nowhere"), "nowhere")
    shutil.copytree(finished.folder / "model", "models/vaebm")
    assert_user_error(
        cli("evaluate", finished.folder, "--judges", "models"), "--judges models", "takes images of 1 × 8 × 8"
    )


def test_modes_are_counted(finished: FinishedRun, cli: Cli) -> None:
    found = cli("evaluate", finished.folder, "--modes", 60, "--output", "modes.json")
    assert found.code == 0, found.errors
    assert "Classes that samples reach" in found.output
    evaluation = read("modes.json")
    assert [row["what"] for row in evaluation["modes"]] == ["test images", "VAE", "VAEBM"]
    for row in evaluation["modes"]:
        assert (row["num_classes"], row["n"]) == (10, 60)
        assert 3 <= row["num_modes"] <= 10
        assert 0 < row["kl"] < 2
        assert row["kl_by_chance"] == pytest.approx(9 / 120)
    assert evaluation["modes"][0]["num_modes"] == 10
    assert not evaluation.get("quality")


def test_modes_need_classes_and_samples_enough(
    finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_user_error(cli("evaluate", finished.folder, "--modes", 9), "--modes 9: too few samples to meet 10 classes")
    monkeypatch.setattr("vaebm.cli.evaluation.load_judges", lambda shape: [])
    assert_user_error(
        cli("evaluate", finished.folder, "--modes", 60), "nothing at hand sees images of digits", "--judges FOLDER"
    )


def test_where_no_judge_knows_classes_a_probe_learns_the_labels(
    finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_judges((1, 8, 8))[0]

    class Features(torch.nn.Module):
        num_features = plain.classifier.num_features

        def features(self, images: torch.Tensor) -> torch.Tensor:
            return plain.classifier.features(images)

    blind = [replace(plain, name="blind", classifier=Features().eval())]
    monkeypatch.setattr("vaebm.cli.evaluation.load_judges", lambda shape: blind)
    outcome = cli("evaluate", finished.folder, "--modes", 60, "--output", "modes.json")
    assert outcome.code == 0, outcome.errors
    assert "probe on blind: 10 labels, " in outcome.output
    assert "Shares of classes" in outcome.output
    rows = read("modes.json")["modes"]
    assert [row["judge"] for row in rows] == ["probe on blind"] * 3
    assert rows[0]["labels"] == list(range(10))
    assert rows[0]["accuracy"] > 0.8
    assert "% of held-out images right" in outcome.output.split("Shares of classes")[1]
    splits = load_splits("digits", 0)
    # Those that are counted are evenly spaced.
    counted = splits.test.labels[np.linspace(0, len(splits.test) - 1, 60).round().astype(int)]
    real = np.bincount(counted, minlength=10) / 60
    assert np.abs(np.array(rows[0]["shares"]) - real).max() < 0.06
    # Without labels it can't.
    bare = splits._replace(training=replace(splits.training, labels=None))
    monkeypatch.setattr("vaebm.cli.known_images.load_splits_of", lambda config, details, source: bare)
    assert_user_error(cli("evaluate", finished.folder, "--modes", 60), "no judge of digits knows any", "has no labels")


def test_classifiers_of_other_data_count_no_classes_unless_they_are_asked_to(
    finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = [replace(judge, data="clothes") for judge in load_judges((1, 8, 8))]
    monkeypatch.setattr("vaebm.cli.evaluation.load_judges", lambda shape: foreign)
    outcome = cli("evaluate", finished.folder, "--modes", 60, "--output", "modes.json")
    assert outcome.code == 0, outcome.errors
    assert {row["judge"] for row in read("modes.json")["modes"]} == {f"probe on {foreign[0].name}"}
    splits = load_splits("digits", 0)
    bare = splits._replace(training=replace(splits.training, labels=None))
    monkeypatch.setattr("vaebm.cli.known_images.load_splits_of", lambda config, details, source: bare)
    assert_user_error(cli("evaluate", finished.folder, "--modes", 60), "no judge of digits knows any", "has no labels")
    shutil.copytree(next(path for path in model_folders() if path.name == "digits8_plain"), "judges/mine")
    monkeypatch.setattr("vaebm.recipes.load_judges", lambda shape, folder: foreign)
    assert cli("evaluate", finished.folder, "--modes", 60, "--judges", "judges", "--output", "modes.json").code == 0
    assert {row["judge"] for row in read("modes.json")["modes"]} == {foreign[0].name}


def test_outliers_that_the_model_learned_from_are_told(finished: FinishedRun, cli: Cli) -> None:
    known = load_splits("digits", 0).training.images[:20]
    np.savez("known.npz", images=known)
    refused = cli("evaluate", finished.folder, "-n", 50, "--outliers", "known=known.npz")
    assert_user_error(refused, "--outliers known: all of its images are of the data set that the model was trained on")
    # Test images are those that stand for normal.
    assert_user_error(
        cli("evaluate", finished.folder, "-n", 50, "--outliers", "same=digits"), "--outliers same: all of"
    )
    assert_user_error(cli("evaluate", finished.folder, "--modes", 60, "-n", 50), "--modes measures nothing else")
    assert_user_error(cli("evaluate", finished.folder, "--bootstrap", 5), "--bootstrap is for --fid EXTRACTOR")
    np.savez("mixed.npz", images=np.concatenate([known[:5], 255 - known]))
    outcome = cli("evaluate", finished.folder, "-n", 50, "--outliers", "mixed=mixed.npz")
    assert outcome.code == 0
    assert "among the 25 outliers of mixed are 5 images that the model learned from" in outcome.output


def test_images_may_have_moved(finished: FinishedRun, cli: Cli) -> None:
    loaded = read_model(finished.folder)
    config = {**loaded.details["config"], "data": {**loaded.details["config"]["data"], "source": "gone.npz"}}
    details = {**loaded.details, "config": config, "images": {**loaded.details["images"], "path": ""}}
    save(loaded.model, Path("elsewhere"), details=details, calibration=loaded.calibration)
    few = ("-n", 50, "--steps", "0,2")
    assert_user_error(cli("evaluate", "elsewhere", *few), "gone.npz", "say where they are by --source PATH")
    np.savez("others.npz", images=255 - load_splits("digits", 0).training.images)
    refused = cli("evaluate", "elsewhere", *few, "--source", "others.npz")
    assert_user_error(refused, "others.npz doesn't hold the images of the training any more")
    outcome = cli("evaluate", "elsewhere", *few, "--source", "digits", "--output", "elsewhere.json")
    assert outcome.code == 0, outcome.errors
    assert read("elsewhere.json")["data"] == "gone.npz"


def test_what_can_not_be_evaluated_gets_one_line(finished: FinishedRun, cli: Cli) -> None:
    loaded = read_model(finished.folder)
    save(loaded.model, Path("bare"))
    assert_user_error(cli("evaluate", "bare"), "doesn't say what it was trained on")
    details = {"config": {**loaded.details["config"], "later": 1}}
    save(loaded.model, Path("newer"), details=details)
    assert_user_error(cli("evaluate", "newer"), "later")
    assert_user_error(cli("evaluate", finished.folder, "--outliers", "bright"), "expected NAME=PATH")
    assert_user_error(cli("evaluate", finished.folder, "--outliers", "bright=no.npz"), "no.npz")
    assert_user_error(
        cli("evaluate", finished.folder, "-n", 5), "vaebm: -n/--num-samples is 5: expected a number of at least 10"
    )
