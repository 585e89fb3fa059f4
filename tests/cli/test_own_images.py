"""``vaebm train --data``: a folder of images becomes a model, a report and scores; what can't be done is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from commandline import Cli, assert_user_error
from PIL import Image

from vaebm.cli.own_images import take_options
from vaebm.cli.parsing import UsageError
from vaebm.data import Preprocessing, load_images
from vaebm.recipes import read_model

SHORT = [
    "--vae.num_iterations", "60", "--vae.batch_size", "8", "--energy.num_iterations", "12", "--energy.batch_size", "4",
    "--energy.num_steps", "5", "--evaluation.num_samples", "45",
    "--evaluation.steps_curve", "[0,5]", "--sampling.num_steps", "5", "--selection.num_samples", "20",
    "--evaluation.num_posterior_samples", "1", "--selection.vae_every", "20", "--selection.num_steps", "[8]",
    "--vae_network.widths", "[16]", "--energy_network.widths", "[16,32]",
]  # fmt: skip


def write_pictures(folder: Path, count: int = 300, size: tuple[int, int] = (20, 30)) -> Path:
    """Writes MNIST's digits as colour pictures of another size."""
    folder.mkdir(parents=True)
    for index, image in enumerate(load_images("mnist").images[:count, 0]):
        Image.fromarray(image).convert("RGB").resize(size[::-1]).save(folder / f"{index:03d}.png")
    return folder


def test_a_folder_becomes_a_model_a_report_and_scores(cli: Cli) -> None:
    folder = write_pictures(Path("my pictures – ä"))
    (folder / "broken.jpg").write_bytes(b"no picture at all")
    options = ("--image-size", "16", "--channels", "1", "--budget", "30m", "--output", "run")
    outcome = cli("train", "--data", folder, *options, *SHORT)
    assert outcome.code == 0, outcome.errors
    assert "left out 1 unreadable file" in outcome.output
    assert "energy network:" in outcome.output
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["data"]["source"] == str(folder)
    assert config["data"]["image_size"] == [16, 16]
    assert config["vae"]["num_iterations"] == 60
    loaded = read_model("run")
    assert loaded.model.image_shape == (1, 16, 16)
    assert loaded.preprocessing == Preprocessing(image_size=(16, 16), channels=1)
    evaluation = json.loads(Path("run/evaluation.json").read_text())
    assert {row["judge"] for row in evaluation["quality"]} == {"efficientnet_lite0"}
    assert evaluation["quality"][1]["kernel_interval"]["low"] < evaluation["quality"][1]["kernel_interval"]["high"]
    assert Path("run/report.html").stat().st_size > 10_000
    again = cli("evaluate", "run", "-n", "45", "--steps", "0,5")
    assert again.code == 0, again.errors
    scored = cli("score", "run", folder, "--output", "scores.csv")
    assert scored.code == 0, scored.errors
    assert len(Path("scores.csv").read_text().splitlines()) == 1 + 300
    finished = cli("train", "--resume", "run")
    assert finished.code == 0
    assert "is finished" in finished.output


def test_the_same_options_stand_for_themselves_in_every_order() -> None:
    options, rest = take_options(["--seed", "3", "--data", "x", "--image-size", "32x48", "--energy.num_steps", "4"])
    assert (options.data, options.image_size, options.channels) == ("x", (32, 48), None)
    assert rest == ["--seed", "3", "--energy.num_steps", "4"]


def test_images_are_described_without_images() -> None:
    with pytest.raises(UsageError, match="--image-size goes with --data SOURCE"):
        take_options(["mnist", "--image-size", "32"])


def write_large(folder: Path) -> None:
    folder.mkdir()
    for index in range(20):
        Image.fromarray(np.full((200, 300), index, dtype=np.uint8)).save(folder / f"{index}.png")


Make = Callable[[Path], object]


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (write_pictures, ("--image-size", "7"), ("--image-size", "7", "8 to 128")),
        (write_pictures, ("--image-size", "wide"), ("--image-size", "wide")),
        (write_pictures, ("--channels", "2"), ("--channels",)),
        (write_pictures, ("--fit", "squeeze"), ("--fit", "stretch")),
        (write_pictures, ("--budget", "soon"), ("--budget", "10m")),
        (write_pictures, ("--budget", "0m"), ("--budget", "10m")),
        (write_pictures, ("--budget", "1s"), ("a budget of 1 s is not enough",)),
        (write_pictures, ("--value-range", "9,1"), ("value", "9")),
        (write_pictures, ("--energy.num_step", "3"), ("did you mean --energy.num_steps",)),
        (write_pictures, ("--energy.num_steps", "0"), ("energy.num_steps is 0",)),
        (write_large, (), ("200x300", "--image-size")),
        (lambda folder: write_pictures(folder, count=3), (), ("3 images",)),
        (lambda folder: folder.mkdir(), (), ("data",)),
        (lambda folder: None, (), ("data",)),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    cli: Cli, make: Make, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    make(Path("data"))
    outcome = cli("train", "--data", "data", *options)
    assert_user_error(outcome, *words)
    assert not Path("runs").exists()


def test_a_recipe_has_its_own_settings(cli: Cli) -> None:
    write_pictures(Path("data"), count=20)
    assert_user_error(cli("train", "mnist", "--data", "data"), "no recipe", "--data.source data")


def test_a_folder_that_is_not_empty_is_left_alone(cli: Cli) -> None:
    write_pictures(Path("data"), count=20)
    Path("run").mkdir()
    Path("run/precious.txt").write_text("precious")
    assert_user_error(cli("train", "--data", "data", "--output", "run"), "not empty")
    assert [path.name for path in Path("run").iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("stated", [(), ("--value-range", "1000,2000")])
def test_sixteen_bits_use_the_range_that_is_stated_or_used(cli: Cli, stated: tuple[str, ...]) -> None:
    levels = np.random.default_rng(0).integers(1000, 2000, (60, 16, 16)).astype(np.uint16)
    Path("scans").mkdir()
    for index, image in enumerate(levels):
        Image.fromarray(image).save(Path("scans") / f"{index}.png")
    brief = ("--vae.num_iterations", "20", "--energy.num_iterations", "2")
    outcome = cli("train", "--data", "scans", *stated, "--output", "run", *SHORT, *brief)
    assert outcome.code == 0, outcome.errors
    low, high = read_model("run").preprocessing.value_range or (0, 0)
    assert (low, high) == (1000.0, 2000.0) if stated else 1000 <= low < 1010 and 1990 < high <= 2000
    assert ("value range: black is 100" in outcome.output) == (not stated)
