"""``vaebm score``: a row for each image, a p-value that means something."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Cli, FinishedRun, assert_user_error
from PIL import Image

import vaebm
from vaebm.data import load_splits
from vaebm.recipes import read_model, save


def rows(path: str = "scores.csv") -> list[dict[str, Any]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_columns_and_values(finished: FinishedRun, cli: Cli) -> None:
    test = load_splits("digits").test.images
    np.savez("images.npz", images=test[:40])
    outcome = cli("score", finished.folder, "images.npz", "--output", "scores.csv")
    assert (outcome.code, outcome.errors) == (0, "")
    scored = rows()
    assert list(scored[0]) == ["path", "energy", "elbo", "joint", "outlier_score", "p_value", "outlier"]
    assert [row["path"] for row in scored] == [f"images.npz[{index}]" for index in range(40)]
    calibration = read_model(finished.folder).calibration
    assert calibration is not None
    expected = vaebm.outlier_scores(
        vaebm.load(finished.folder),
        torch.from_numpy(test[:40]).float() / 127.5 - 1,
        num_posterior_samples=calibration["num_posterior_samples"],
        generator=torch.Generator().manual_seed(calibration["seed"]),
    )
    scores = np.array(calibration["outlier_scores"])
    for index, row in enumerate(scored):
        assert float(row["energy"]) == pytest.approx(float(expected.energy[index]), abs=1e-4)
        assert float(row["elbo"]) == pytest.approx(float(expected.elbo[index]), abs=1e-4)
        assert float(row["outlier_score"]) == pytest.approx(float(row["energy"]) - float(row["elbo"]), abs=2e-4)
        assert float(row["joint"]) == -float(row["outlier_score"])
        p_value = (1 + (scores >= float(expected.outlier_score[index])).sum()) / (len(scores) + 1)
        assert float(row["p_value"]) == pytest.approx(p_value, abs=1e-6)
        assert row["outlier"] == str(int(p_value <= 0.05))


def test_test_images_are_flagged_as_often_as_promised_and_noise_always(finished: FinishedRun, cli: Cli) -> None:
    outcome = cli("score", finished.folder, "digits", "--false-positive-rate", 0.1)
    assert outcome.output.startswith("scores.csv: 300 images, ")
    flagged = sum(int(row["outlier"]) for row in rows())
    assert f" {flagged} outliers at a false-positive rate of 0.1\n" in outcome.output
    # Four standard deviations around α, of 300 test and 200 calibration images.
    assert abs(flagged / 300 - 0.1) < 4 * (0.1 * 0.9 * (1 / 300 + 1 / 200)) ** 0.5
    p_values = np.array([float(row["p_value"]) for row in rows()])
    assert 1 / 201 - 1e-6 <= p_values.min() < p_values.max() <= 1
    assert abs(np.median(p_values) - 0.5) < 0.2
    np.save("noise.npy", np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    assert cli("score", finished.folder, "noise.npy", "--output", "noise.csv").code == 0
    assert [row["outlier"] for row in rows("noise.csv")] == ["1"] * 20


def test_files_of_a_folder_are_named(finished: FinishedRun, cli: Cli) -> None:
    Path("photos").mkdir()
    for index, image in enumerate(load_splits("digits").test.images[:3, 0]):
        Image.fromarray(image).save(f"photos/{index}.png")
    assert cli("score", finished.folder, "photos").code == 0
    assert [Path(row["path"]).name for row in rows()] == ["0.png", "1.png", "2.png"]
    whole = rows()
    assert cli("score", finished.folder, "photos/1.png").code == 0
    assert [row["outlier_score"] for row in rows()] == [whole[1]["outlier_score"]]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 9, 9), np.uint8), ["images.npy", "8"]),
        (np.zeros((3, 3, 8, 8), np.uint8), ["images.npy"]),
        (np.full((3, 8, 8), np.nan), ["images.npy"]),
        (np.zeros((0, 8, 8), np.uint8), ["images.npy"]),
        (np.zeros(5), ["images.npy"]),
    ],
)
def test_images_that_do_not_fit_get_one_line(finished: FinishedRun, cli: Cli, array: Any, words: list[str]) -> None:
    np.save("images.npy", array)
    assert_user_error(cli("score", finished.folder, "images.npy"), *words)
    assert not Path("scores.csv").exists()


def test_what_can_not_be_scored_gets_one_line(finished: FinishedRun, cli: Cli) -> None:
    assert_user_error(cli("score", finished.folder, "nowhere.npz"), "nowhere.npz")
    assert_user_error(cli("score", finished.folder, "digits", "--false-positive-rate", 0.001), "no rate below 0.005")
    save(read_model(finished.folder).model, Path("bare"))
    assert_user_error(cli("score", "bare", "digits"), "calibration.json", "vaebm train")
    Path("taken.csv").mkdir()
    assert_user_error(cli("score", finished.folder, "digits", "--output", "taken.csv"), "taken.csv is a folder")


def test_the_output_cannot_be_the_images(finished: FinishedRun, cli: Cli) -> None:
    np.savez("images.npz", images=np.zeros((3, 8, 8), np.uint8))
    before = Path("images.npz").read_bytes()
    assert_user_error(cli("score", finished.folder, "images.npz", "--output", "images.npz"), "images.npz", "csv")
    assert Path("images.npz").read_bytes() == before


def test_scores_do_not_depend_on_company_or_order(finished: FinishedRun, cli: Cli) -> None:
    test = load_splits("digits").test.images[:90]
    order = np.random.default_rng(0).permutation(90)
    for name, images in (("whole", test), ("mixed", test[order]), ("few", test[:7])):
        np.savez(f"{name}.npz", images=images)
        assert cli("score", finished.folder, f"{name}.npz", "--output", f"{name}.csv").code == 0
    whole = [list(row.values())[1:] for row in rows("whole.csv")]
    # To the last printed digit: networks run in float64.
    assert [list(row.values())[1:] for row in rows("mixed.csv")] == [whole[index] for index in order]
    assert [list(row.values())[1:] for row in rows("few.csv")] == whole[:7]


def test_an_unreadable_file_is_left_out_and_told_or_refused(finished: FinishedRun, cli: Cli) -> None:
    Path("photos").mkdir()
    for index, image in enumerate(load_splits("digits").test.images[:3, 0]):
        Image.fromarray(image).save(f"photos/{index}.png")
    Path("photos/1.png").write_text("no picture")
    outcome = cli("score", finished.folder, "photos")
    assert outcome.code == 0
    assert "left out" in outcome.output
    assert "1.png" in outcome.output
    assert [Path(row["path"]).name for row in rows()] == ["0.png", "2.png"]
    Path("scores.csv").unlink()
    assert_user_error(cli("score", finished.folder, "photos", "--strict"), "1.png")
    assert not Path("scores.csv").exists()


def test_a_page_or_table_that_can_not_be_written_is_refused_first(finished: FinishedRun, cli: Cli) -> None:
    for words in (
        ["--html", "page.png"],
        ["--html", "nowhere/page.html"],
        ["--html", "/proc/page.html"],
        ["--output", "nowhere/scores.csv"],
    ):
        assert_user_error(cli("score", finished.folder, "digits", *words), words[1].rsplit("/", 1)[0])
    assert_user_error(cli("score", finished.folder, "digits", "--reference", "digits"), "--html")
    assert_user_error(cli("score", finished.folder, "digits", "--html", "page.html", "--reference", "gone.npz"), "gone")
    assert not Path("page.html").exists()
