"""``vaebm benchmark``: rivals of a trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import Cli, FinishedRun, assert_user_error
from PIL import Image

from vaebm.recipes.rivals import RIVALS

TINY = """
vaebm: {lengths: [2, 4], energy: {num_steps: 2, batch_size: 8}}
vaebm-no-buffer: {lengths: [2], energy: {num_steps: 2, batch_size: 8}}
vaebm-official: {lengths: [2], energy: {num_steps: 2, batch_size: 8}}
pixels-short-run: {lengths: [2, 3], energy: {num_steps: 2, batch_size: 8}}
pixels-persistent: {lengths: [2], energy: {num_steps: 2, batch_size: 8}}
pixels-from-vae: {lengths: [0, 2], energy: {num_steps: 2, batch_size: 8}}
wgan-gp: {adversarial: {batch_size: 8, num_critic_steps: 1}}
"""


def rows(folder: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "benchmark.json").read_text())["rows"]
    return found


def test_every_row_is_trained_measured_and_shown(finished: FinishedRun, cli: Cli) -> None:
    Path("tiny.yaml").write_text(TINY)
    words = ("benchmark", finished.folder, "--config", "tiny.yaml", "--budget", "1s", "-n", 50, "--output", "out")
    outcome = cli(*words)
    assert (outcome.code, outcome.errors) == (0, "")
    found = rows("out")
    assert [row["name"] for row in found.values()] == list(RIVALS)
    for key, row in found.items():
        assert np.isfinite([entry["frechet"] for entry in row["quality"]]).all()
        assert np.asarray(Image.open(f"out/{key}.png")).std() > 0
        assert row["title"] in outcome.output
    trained = {key: row for key, row in found.items() if key != "vae-0"}
    assert all(row["num_iterations"] >= 2 and row["seconds"] > 0 for row in trained.values())
    # The length is one of those that were asked for, and the nearest of what was seen.
    for row in trained.values():
        best = min(row["candidates"], key=lambda look: look["distance"])
        assert row["chosen"]["num_steps"] == best["num_steps"]
        assert row["chosen"]["distance"] == best["distance"]
    # The VAE of the run took its time; rows that don't use it get it on top.
    times = {row["name"]: row["asked"]["budget"] for row in found.values()}
    assert times["pixels-short-run"] > times["pixels-from-vae"] == times["vaebm"] == 1
    # Rows that are there are shown, not made.
    again = cli(*words, "--rows", "vae,wgan-gp")
    assert again.code == 0
    assert again.output.count("measured before") == 2
    assert rows("out") == found


def test_zero_steps_from_the_vae_are_its_samples(finished: FinishedRun, cli: Cli) -> None:
    Path("tiny.yaml").write_text("pixels-from-vae: {lengths: [0], energy: {num_steps: 2, batch_size: 8}}\n")
    words = ("--config", "tiny.yaml", "--budget", "1s", "-n", 300, "--output", "out")
    assert cli("benchmark", finished.folder, "--rows", "vae,pixels-from-vae", *words).code == 0
    vae, start = (rows("out")[key]["quality"][0]["frechet"] for key in ("vae-0", "pixels-from-vae-0"))
    assert start == pytest.approx(vae, rel=0.1)


def test_the_rows_are_listed(cli: Cli) -> None:
    outcome = cli("benchmark", "mnist", "--rows", "list", "--output", "out")
    assert outcome.code == 0
    assert all(name in outcome.output for name in RIVALS)
    assert not Path("out").exists()


def test_what_cant_be_compared_is_refused(finished: FinishedRun, cli: Cli) -> None:
    def refused(*words: object) -> str:
        outcome = cli("benchmark", finished.folder, "--budget", "1s", "-n", 50, "--output", "out", *words)
        assert_user_error(outcome)
        return outcome.errors

    assert "did you mean wgan-gp?" in refused("--rows", "wgan")
    Path("bad.yaml").write_text("vaebn: {}\n")
    assert "bad.yaml: unknown row vaebn (did you mean vaebm?)" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("pixels-short-run: {temperature: 0.0}\n")
    assert "expected a positive number" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("pixels-short-run: {temprature: 1.0}\n")
    assert "did you mean temperature?" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("pixels-short-run: {lengths: [3, 2]}\n")
    assert "expected ascending numbers" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("vaebm: 3\n")
    assert "vaebm is 3: expected settings" in refused("--config", "bad.yaml")
    Path("out").mkdir()
    (Path("out") / "benchmark.json").write_text('{"model": "other", "rows": {}}')
    assert "of another model (other)" in refused("--rows", "vae")
    (Path("out") / "benchmark.json").write_text("{")
    assert "benchmark.json" in refused("--rows", "vae")


def test_other_settings_dont_take_a_rows_place(finished: FinishedRun, cli: Cli) -> None:
    words = ("benchmark", finished.folder, "--rows", "vae", "--budget", "1s", "--output", "out")
    assert cli(*words, "-n", 50).code == 0
    before = (Path("out") / "benchmark.json").read_bytes()
    outcome = cli(*words, "-n", 60)
    assert_user_error(outcome)
    assert "holds a row vae-0 of other settings" in outcome.errors
    assert (Path("out") / "benchmark.json").read_bytes() == before
