"""Runs know their images: others in their place are told from them, whatever they are called."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from commandline import Cli, assert_user_error, tiny
from PIL import Image

from forking import run_forked
from vaebm.checkpoint import RunFolder
from vaebm.cli.main import run
from vaebm.cli.train import parse
from vaebm.recipes import read_model

COUNT = 60


def write_pictures(folder: Path, count: int = COUNT, size: int = 8) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (size, size), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with pictures, a finished run of them and the last checkpoint of its stage 2; and a copy of it."""
    place = tmp_path_factory.mktemp("known") / "place"
    save = RunFolder.save_checkpoint

    def keeping(folder: RunFolder, name: str, state: dict[str, Any], earlier: str | None = None) -> Path:
        path = save(folder, name, state, earlier)
        if state["stage"] == "energy":
            shutil.copy(path, place / "energy.pt")
        return path

    write_pictures(place / "pictures")
    options = ["--data.source", "pictures", "--output", "run", *tiny(evaluation__num_samples="10")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(RunFolder, "save_checkpoint", keeping)
        assert run(["train", "digits", *options]) == 0
    copy = place.parent / "copy"
    shutil.copytree(place, copy)
    return place, copy


@pytest.fixture
def trained(cli: Cli, original: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished run, as it was, in the working directory."""
    place, copy = original
    shutil.rmtree(place)
    shutil.copytree(copy, place)
    monkeypatch.chdir(place)
    return Path("run")


def test_a_model_keeps_where_its_images_lay_and_what_they_were(trained: Path) -> None:
    known = read_model(trained).details["images"]
    assert known["path"] == str(Path("pictures").resolve())
    assert set(known["sha256"]) == {"training", "selection", "calibration", "test"}


@pytest.mark.parametrize("change", ["one more", "another"])
def test_other_images_are_refused(cli: Cli, trained: Path, change: str) -> None:
    assert cli("evaluate", str(trained), "-n", "10").code == 0
    if change == "one more":
        shutil.copy("pictures/005.png", "pictures/000a.png")
    else:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save("pictures/030.png")
    words = ("pictures", "doesn't hold the images of the training any more", "put them back")
    assert_user_error(cli("evaluate", str(trained), "-n", "10"), *words)
    (trained / "report.html").unlink()
    assert_user_error(cli("train", "--resume", str(trained)), *words)
    assert cli("score", str(trained), "pictures", "--html", "page.html").code == 0
    assert "images of the training any more" in Path("page.html").read_text(encoding="utf-8").replace("&#x27;", "'")


@pytest.mark.parametrize("stage", ["energy", "trained"])
def test_other_images_are_taken_if_that_is_said(cli: Cli, trained: Path, stage: str) -> None:
    before = json.loads((trained / "provenance.json").read_text())["images"]
    # One more, so that the order that stage 2 stood in is of no use.
    shutil.copy("pictures/005.png", "pictures/000a.png")
    (trained / "report.html").unlink()
    if stage == "energy":
        Path("energy.pt").replace(trained / "checkpoints/last.pt")
    assert_user_error(cli("train", "--resume", trained), "--accept-changed-images")
    found = cli("train", "--resume", trained, "--accept-changed-images")
    assert found.code == 0, found.errors
    assert "the images aren't those that the run began with" in found.output
    assert (trained / "earlier_evaluation.json").exists()
    assert "The images were exchanged on the way" in (trained / "report.html").read_text()
    provenance = json.loads((trained / "provenance.json").read_text())
    assert provenance["earlier_images"] == [before]
    assert provenance["images"]["sha256"] != before["sha256"]
    assert cli("evaluate", trained, "-n", 10).code == 0


def test_changed_images_are_a_matter_of_a_run_that_goes_on(cli: Cli, trained: Path) -> None:
    assert_user_error(cli("train", "digits", "--accept-changed-images"), "--accept-changed-images", "--resume RUN")
    words = ("train", "--resume", trained, "--accept-changed-images")
    (trained / "report.html").unlink()
    assert_user_error(cli(*words, "--seed", 1), "--resume takes no other option")
    found = cli(*words)
    assert found.code == 0, found.errors
    # They are those that it began with.
    assert "warning" not in found.output
    assert "earlier_images" not in json.loads((trained / "provenance.json").read_text())


def test_a_folder_of_the_same_name_elsewhere_is_not_taken_for_them(cli: Cli, trained: Path) -> None:
    elsewhere = Path("elsewhere")
    write_pictures(elsewhere / "pictures", 40)
    folder = trained.resolve()
    os.chdir(elsewhere)
    found = cli("evaluate", str(folder), "-n", "10")
    os.chdir("..")
    assert found.code == 0


def test_scoring_the_images_of_the_training_says_so(cli: Cli, trained: Path) -> None:
    assert cli("score", str(trained), "pictures", "--html", "page.html").code == 0
    assert "of the scored images are among these normal images" in Path("page.html").read_text(encoding="utf-8")


def test_copies_of_one_image_are_no_reference(cli: Cli, trained: Path) -> None:
    Path("copies").mkdir()
    for index in range(40):
        shutil.copy("pictures/000.png", f"copies/{index}.png")
    found = cli("score", str(trained), "pictures", "--html", "page.html", "--reference", "copies")
    assert_user_error(found, "--reference copies: holds copies of one image")
    assert not Path("scores.csv").exists()


def test_a_name_that_is_not_utf_8_is_scored(trained: Path) -> None:
    folder = Path("names")
    folder.mkdir()
    shutil.copy("pictures/000.png", os.fsdecode(b"names/caf\xe9.png"))
    Path(os.fsdecode(b"names/bad\xe9.png")).write_text("no picture")
    assert run_forked("score", trained, "names", "--html", "page.html").code == 0
    assert "caf\\udce9.png" in Path("scores.csv").read_text(encoding="utf-8")


def test_the_command_line_states_the_images_whatever_a_file_says(cli: Cli) -> None:
    write_pictures(Path("first"))
    write_pictures(Path("second"), size=12)
    values = {"data": {"source": "first", "image_size": [10, 10]}, "vae": {"num_iterations": 7}}
    Path("old.yaml").write_text(yaml.safe_dump(values))
    found = parse(["--data", "second", "--image-size", "9", "--budget", "20m", "--config", "old.yaml"])
    assert found is not None
    assert (found.config.data.source, found.config.data.image_size) == ("second", (9, 9))
    assert found.config.vae.num_iterations == 7
    assert any("changed by a file or the command line" in reason for reason in found.reasons)
    assert "vae.num_iterations" in found.reasons[-1]


def test_resuming_takes_no_images(cli: Cli, trained: Path) -> None:
    found = cli("train", "--resume", str(trained), "--data", "pictures", "--budget", "5h")
    assert_user_error(found, "--resume takes no other option")


def test_an_array_with_values_beyond_the_models_range_is_scored(cli: Cli) -> None:
    rng = np.random.default_rng(0)
    np.save("levels.npy", rng.integers(300, 3000, (COUNT, 8, 8)).astype(np.uint16))
    options = tiny(evaluation__num_samples="10")
    ranged = ("--data.source", "levels.npy", "--data.value_range", "[300,3000]")
    assert cli("train", "digits", *ranged, "--output", "run", *options).code == 0
    np.save("new.npy", np.full((2, 8, 8), 4000, np.uint16))
    assert cli("score", "run", "new.npy").code == 0
    assert_user_error(
        cli("train", "digits", "--data.source", "levels.npy", "--data.value_range", "[300,2000]", "--output", "b"),
        "outside of the stated value range [300, 2000]",
    )


def test_a_run_within_its_images_is_refused(cli: Cli) -> None:
    write_pictures(Path("pictures"))
    words = ("lies within the images", "--output")
    assert_user_error(cli("train", "--data", "pictures", "--output", "pictures/run"), *words)
    assert_user_error(cli("train", "digits", "--data.source", "pictures", "--output", "pictures/run"), *words)
    os.chdir("pictures")
    found = cli("train", "--data", ".")
    os.chdir("..")
    assert_user_error(found, *words)
    assert len(list(Path("pictures").iterdir())) == COUNT


def test_copies_are_told(cli: Cli) -> None:
    write_pictures(Path("pictures"))
    for index in range(3):
        shutil.copy("pictures/000.png", f"pictures/copy{index}.png")
    found = parse(["--data", "pictures", "--budget", "20m"])
    assert found is not None
    assert "3 images are copies of others" in found.reasons[0]
