"""``vaebm sample``: pictures, arrays, chains at work."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import Cli, FinishedRun, assert_user_error
from PIL import Image

import vaebm
from vaebm.data import to_uint8
from vaebm.recipes import read_model, save


def test_a_picture_of_64_images(finished: FinishedRun, cli: Cli) -> None:
    outcome = cli("sample", finished.folder, "--output", "grid.png")
    assert (outcome.code, outcome.errors) == (0, "")
    assert outcome.output == "grid.png: 64 images, 10 Langevin steps of size 0.1, seed 0\n"
    with Image.open("grid.png") as picture:
        assert picture.size == (8 * (8 * 7 + 2) + 2,) * 2


def test_without_output_the_picture_is_named_after_the_model(finished: FinishedRun, cli: Cli) -> None:
    assert cli("sample", finished.folder, "-n", 5).code == 0
    with Image.open(f"{finished.folder.name}.png") as picture:
        assert picture.size == (3 * (8 * 7 + 2) + 2, 2 * (8 * 7 + 2) + 2)


def test_an_array_holds_what_generate_returns(finished: FinishedRun, cli: Cli) -> None:
    words = ("-n", 6, "--num-steps", 3, "--step-size", 0.02, "--seed", 9)
    assert cli("sample", finished.folder / "model", *words, "--output", "samples.NPZ").code == 0
    with np.load("samples.NPZ") as file:
        images = file["images"]
    generator = torch.Generator().manual_seed(9)
    expected = vaebm.generate(vaebm.load(finished.folder), 6, num_steps=3, step_size=0.02, generator=generator)
    assert images.dtype == np.uint8
    assert np.array_equal(images, to_uint8(expected))


def test_chains_may_keep_their_momentum(finished: FinishedRun, cli: Cli) -> None:
    words = ("-n", 3, "--num-steps", 4, "--persistence", 0.7, "--output", "samples.npz")
    told = cli("sample", finished.folder, *words).output
    assert told == "samples.npz: 3 images, 4 Langevin steps of size 0.1 that keep 0.7 of the momentum, seed 0\n"
    with np.load("samples.npz") as file:
        images = file["images"]
    generator, model = torch.Generator().manual_seed(0), vaebm.load(finished.folder)
    expected = vaebm.generate(model, 3, num_steps=4, persistence=0.7, generator=generator)
    assert np.array_equal(images, to_uint8(expected))
    assert cli("sample", finished.folder, "--chain", "chain.gif", *words[:-2]).code == 0
    assert_user_error(cli("sample", finished.folder, "--persistence", 1), "--persistence", "below 1")


def test_no_steps_are_the_vae_and_seeds_matter(finished: FinishedRun, cli: Cli) -> None:
    def sample(*words: object) -> np.ndarray:
        assert cli("sample", finished.folder, "-n", 4, "--output", "s.npz", *words).code == 0
        with np.load("s.npz") as file:
            return np.asarray(file["images"])

    vae, chained = sample("--num-steps", 0), sample("--num-steps", 2)
    assert not np.array_equal(vae, chained)
    assert np.array_equal(vae, sample("--num-steps", 0, "--seed", 0))
    assert not np.array_equal(vae, sample("--num-steps", 0, "--seed", 1))


@pytest.mark.parametrize(("num_steps", "frames"), [(4, 5), (0, 1), (300, 151)])
def test_a_chain_is_an_animation_with_a_frame_for_each_step(
    finished: FinishedRun, cli: Cli, num_steps: int, frames: int
) -> None:
    outcome = cli("sample", finished.folder, "--chain", "chain.gif", "-n", 2, "--num-steps", num_steps)
    assert (outcome.code, outcome.errors) == (0, "")
    with Image.open("chain.gif") as animation:
        assert getattr(animation, "n_frames", 1) == frames
        assert animation.width > animation.height >= 200


def test_chains_are_25_unless_said_otherwise(finished: FinishedRun, cli: Cli) -> None:
    assert "25 images" in cli("sample", finished.folder, "--chain", "a.gif", "--num-steps", 1).output
    assert "64 images" in cli("sample", finished.folder, "--chain", "b.gif", "--num-steps", 1, "-n", 64).output


def test_a_model_without_defaults_asks_for_them(finished: FinishedRun, cli: Cli) -> None:
    loaded = read_model(finished.folder)
    loaded.model.sampling.clear()
    save(loaded.model, Path("bare"))
    assert_user_error(cli("sample", "bare"), "give --num-steps and --step-size")
    assert cli("sample", "bare", "--num-steps", 1, "--step-size", 0.1, "-n", 1).code == 0


def test_a_run_without_a_model_says_how_to_go_on(finished: FinishedRun, cli: Cli) -> None:
    shutil.copytree(finished.folder, "half")
    shutil.rmtree("half/model")
    assert_user_error(cli("sample", "half"), "has no model yet", "vaebm train --resume half")
