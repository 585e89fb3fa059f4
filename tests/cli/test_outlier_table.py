"""``vaebm evaluate --scores``: scores by name, and what they know of normal images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Cli, FinishedRun, assert_user_error

from vaebm.applications import OutlierScores
from vaebm.cli import evaluation
from vaebm.cli.evaluation import ranked_rows
from vaebm.cli.outlier_table import OF_FEATURES, SCORES, Known, know_normal, named_scores, rank_named, score_names
from vaebm.data import load_splits, to_float
from vaebm.evaluation import png_bits
from vaebm.recipes import ExtraError, load_judges, read_model


def rows_of(path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(path).read_text())["outliers"]
    return found


def test_every_score_ranks_every_set(finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    # Features that take no half minute; ImageNet's are those of other tests.
    monkeypatch.setattr("vaebm.cli.outlier_table.load_extractor", lambda: load_judges((1, 8, 8))[0])
    drawn = np.random.default_rng(0)
    # Of another size and in colour: brought to the form of the model's own images.
    np.savez("colours.npz", images=drawn.integers(0, 256, (30, 12, 12, 3), dtype=np.uint8))
    words = ("--scores", "all", "-n", 40, "--regret-steps", 2, "--outliers", "colours=colours.npz")
    outcome = cli("evaluate", finished.folder, *words, "--output", "x.json")
    assert (outcome.code, outcome.errors) == (0, "")
    assert "outliers of colours: brought to 1 × 8 × 8" in outcome.output
    rows = rows_of("x.json")
    assert {row["score"] for row in rows} == set(SCORES)
    sets = {row["set"] for row in rows}
    assert {"colours", "gaussian noise", "uniform noise", "grey levels", "averaged pairs"} <= sets
    assert len(rows) == len(SCORES) * len(sets)
    assert {(row["num_normal"], row["num_outliers"]) for row in rows if row["set"] == "colours"} == {(40, 30)}
    assert next(row for row in rows if (row["set"], row["score"]) == ("uniform noise", "elbo"))["auroc"]["value"] > 0.99
    # The usual table has the same figures of the model's own scores.
    assert cli("evaluate", finished.folder, "--scores", "elbo", "--output", "few.json").code == 0
    assert cli("evaluate", finished.folder, "-n", 50, "--output", "usual.json").code == 0
    few, usual = rows_of("few.json"), [row for row in rows_of("usual.json") if row["score"] == "elbo"]
    assert [row["set"] for row in few] == [row["set"] for row in usual]
    # There outliers are scored in half of the digits.
    assert [row["auroc"]["value"] for row in few] == pytest.approx([row["auroc"]["value"] for row in usual], abs=2e-3)


def test_scores_are_what_their_formulas_say_and_each_images_own(finished: FinishedRun) -> None:
    loaded, splits = read_model(finished.folder), load_splits("digits", 0)
    assert loaded.calibration is not None
    wanted = tuple(name for name in SCORES if name not in OF_FEATURES)
    known = know_normal(loaded.model, loaded.calibration, splits.training.images, wanted, print, regret_steps=3)
    images = torch.from_numpy(splits.test.images[:12])
    found = named_scores(known, images)
    assert tuple(found) == wanted
    # The median of an even number of images is the lower one of the two in the middle.
    joint = sorted(-score for score in loaded.calibration["outlier_scores"])
    typical = joint[(len(joint) - 1) // 2]
    assert found["typicality"].tolist() == [abs(-score - typical) for score in found["joint"].tolist()]
    corrected = found["joint"] - math.log(2) * png_bits(images)
    assert found["complexity_corrected"].tolist() == pytest.approx(corrected.tolist())
    assert found["joint"].tolist() == pytest.approx((found["elbo"] + found["energy"]).tolist())
    # What is normal is known beforehand: outliers in the same set change nothing.
    odd = torch.randint(256, (12, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mixed = named_scores(known, torch.cat([odd, images]))
    for name, values in found.items():
        assert mixed[name][12:].tolist() == pytest.approx(values.tolist(), rel=1e-4), name
        assert (mixed[name][:12].mean() > values.mean()) or name in ("energy", "likelihood_regret"), name


def test_a_score_that_is_no_number_is_left_out_and_told() -> None:
    def rows(normal: dict[str, Any], outliers: dict[str, Any]) -> tuple[list[Any], list[str]]:
        told: list[str] = []
        tensors = {name: {score: torch.tensor(values) for score, values in found.items()}
                   for name, found in outliers.items()}  # fmt: skip
        known = {score: torch.tensor(values) for score, values in normal.items()}
        found = ranked_rows(known, tensors, torch.Generator().manual_seed(0), told.append)
        return [(row["set"], row["score"], row["auroc"]["value"]) for row in found], told

    fine, odd, lost = [0.0, 1.0, 2.0], [5.0, 6.0], [5.0, math.nan]
    found, told = rows({"a": fine, "b": fine}, {"x": {"a": odd, "b": lost}, "y": {"a": odd, "b": odd}})
    assert found == [("x", "a", 1.0), ("y", "a", 1.0), ("y", "b", 1.0)]
    assert told == ["b of x is left out: it is NaN for 1 of 2 images"]
    found, told = rows({"a": [0.0, math.nan], "b": [0.0, 1.0]}, {"x": {"a": odd, "b": odd}})
    assert found == [("x", "b", 1.0)]
    assert told == ["a is left out: it is NaN for 1 of 2 normal images"]


def test_figures_are_there_though_a_normal_image_has_no_score(
    finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = evaluation.scores_of

    def broken(*arguments: Any) -> OutlierScores:
        found = original(*arguments)
        found.energy[3], found.joint[3] = math.nan, math.nan
        return found

    monkeypatch.setattr(evaluation, "scores_of", broken)
    outcome = cli("evaluate", finished.folder, "-n", 50, "--output", "x.json")
    assert outcome.code == 0, outcome.errors
    assert "energy is left out: it is NaN for 1 of" in outcome.output
    assert "false alarms are left out" in outcome.output
    measured = json.loads(Path("x.json").read_text())
    assert {row["score"] for row in measured["outliers"]} == {"elbo"}
    assert "p_values" not in measured
    # The floor's classes are those of as many training images, not of the test images.
    (floor,) = (row for row in measured["quality"] if row["what"] == "floor")
    assert all(50 * share == pytest.approx(round(50 * share)) for share in floor["shares"])


def test_of_sorted_sets_all_classes_are_scored(finished: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, splits = read_model(finished.folder), load_splits("digits", 0)
    assert loaded.calibration is not None
    assert splits.test.labels is not None
    by_class = splits._replace(test=splits.test.take(splits.test.labels.argsort(kind="stable")))
    known = know_normal(loaded.model, loaded.calibration, splits.training.images, ("complexity",), print)
    scored: list[torch.Tensor] = []

    def named(_: Known, images: torch.Tensor) -> dict[str, torch.Tensor]:
        scored.append(images)
        return named_scores(known, images)

    monkeypatch.setattr("vaebm.cli.outlier_table.named_scores", named)
    further = {"sorted": to_float(by_class.test.images)}
    rank_named(known, by_class, further, 30, 0, print)
    expected = by_class.test.images[np.linspace(0, len(by_class.test) - 1, 30).round().astype(int)]
    for images in (scored[0], scored[-1]):
        assert np.array_equal(images.numpy(), expected)


def test_without_the_extra_scores_of_features_are_left_out(
    finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ExtraError("features", "ImageNet features")

    monkeypatch.setattr("vaebm.cli.outlier_table.load_extractor", missing)
    outcome = cli("evaluate", finished.folder, "--scores", "joint,knn_features", "-n", 20, "--output", "x.json")
    assert outcome.code == 0
    assert "left out: ImageNet features need the extra 'features'" in outcome.output
    assert {row["score"] for row in rows_of("x.json")} == {"joint"}
    refused = cli("evaluate", finished.folder, "--scores", "knn_features,mahalanobis_features", "-n", 20)
    assert_user_error(refused, "none is left")


def test_what_cant_be_asked_for(finished: FinishedRun, cli: Cli) -> None:
    assert score_names("joint, energy,joint") == ("joint", "energy")
    for words, told in (
        (("--scores", "regret"), "--scores regret: expected all, or some of joint"),
        (("--scores", "energie"), "did you mean energy?"),
        (("--scores", "all", "--fid", "classifiers"), "measure one thing each"),
        (("--scores", "all", "--steps", "0,5"), "expected no --steps beside it"),
        (("--scores", "all", "--num-steps", 5), "expected no --num-steps beside it"),
        (("--regret-steps", 5), "--regret-steps is for --scores"),
        (("--scores", ""), "--scores: '' is empty: expected all, or names such as joint,energy"),
        (("--scores", " ,"), "--scores: ' ,' is empty"),
        (("--scores", "joint", "-n", 1), "vaebm: -n/--num-samples is 1: expected a number of at least 10"),
    ):
        assert_user_error(cli("evaluate", finished.folder, *words), told)
    known = load_splits("digits", 0).training.images[:20]
    np.savez("known.npz", images=known)
    assert_user_error(
        cli("evaluate", finished.folder, "--scores", "joint", "--outliers", "known=known.npz"),
        "all of its images are of the data set that the model was trained on",
    )


def test_names_of_sets_that_are_taken_are_refused(finished: FinishedRun, cli: Cli) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        np.savez(f"{folder}/odd.npz", images=np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8))
    for first, second, told in (
        (
            "odd=a/odd.npz",
            "uniform noise=b/odd.npz",
            "--outliers uniform noise=b/odd.npz: a set uniform noise is built",
        ),
        ("odd=a/odd.npz", "Flat  Colours=b/odd.npz", "a set flat colours is built in: expected another name"),
        ("odd=a/odd.npz", "odd=b/odd.npz", "--outliers odd=b/odd.npz: a set odd is given twice: expected another name"),
        ("odd=a/odd.npz", " Odd =b/odd.npz", "a set odd is given twice"),
        ("odd=a/odd.npz", " =b/odd.npz", "expected NAME=PATH"),
    ):
        words = ("--outliers", first, "--outliers", second)
        assert_user_error(cli("evaluate", finished.folder, *words), told)
        assert_user_error(cli("evaluate", finished.folder, "--scores", "joint", *words), told)
