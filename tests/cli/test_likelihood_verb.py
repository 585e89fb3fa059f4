"""``vaebm likelihood``: log Z of a trained model, from draws and from annealed chains."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import Cli, FinishedRun, assert_user_error
from torch import nn

from vaebm.models import VAEBM, ImageFields
from vaebm.recipes import read_model, save

FEW = ("--num-draws", 300, "--num-chains", 20, "--temperatures", "3,12")


def test_figures_of_a_trained_model(finished: FinishedRun, cli: Cli) -> None:
    outcome = cli("likelihood", finished.folder, *FEW, "--output", "figures.json")
    assert (outcome.code, outcome.errors) == (0, "")
    figures = json.loads(Path("figures.json").read_text())
    assert figures["data"] == "digits"
    noisy, clean = figures["images"]
    assert (noisy["what"], clean["what"]) == ("with pixel noise", "clean")
    assert noisy["elbo"] < clean["elbo"]
    assert math.isfinite(noisy["energy"] + clean["energy"])
    assert figures["importance"]["num_weights"] == 300
    assert [row["temperatures"] for row in figures["annealed"]] == [3, 12]
    assert all(row["forward_bound"]["value"] <= row["log_z"]["value"] for row in figures["annealed"])
    assert "log Z by" in outcome.output
    assert "gain at most" in outcome.output
    assert cli("likelihood", finished.folder, *FEW, "--output", "again.json").code == 0
    assert json.loads(Path("again.json").read_text()) == figures


class Level(nn.Module):
    """The same energy for every image, with the weights and the name of a real network around it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images),), 2.5)


def test_a_level_is_its_own_log_normaliser(finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaebm.models.EnergyNetwork.forward", Level.forward)
    assert cli("likelihood", finished.folder, *FEW, "--output", "level.json").code == 0
    figures = json.loads(Path("level.json").read_text())
    for row in (figures["importance"], *figures["annealed"]):
        assert row["log_z"]["value"] == pytest.approx(-2.5, abs=1e-6)
        assert row["ess"] == pytest.approx(row["num_weights"])
    assert [row["energy"] for row in figures["images"]] == pytest.approx([2.5, 2.5])


def test_what_has_no_likelihood(finished: FinishedRun, cli: Cli) -> None:
    loaded = read_model(finished.folder)
    onto_mean = VAEBM(loaded.model.vae, loaded.model.energy, ImageFields("mean", "mean", "mean"), loaded.model.sampling)
    save(onto_mean, Path("mean"), details=loaded.details)
    assert_user_error(cli("likelihood", "mean"), "has no likelihood: train with --images.chain_image sampled")
    save(loaded.model, Path("bare"))
    assert_user_error(cli("likelihood", "bare"), "doesn't say what it was trained on")
    save(loaded.model, Path("points"), details={"config": {"density": "ring"}})
    assert_user_error(cli("likelihood", "points"), "a model of points")
    np.savez("other.npz", images=np.zeros((60, 9, 9), np.uint8))
    other = {"config": {**loaded.details["config"], "data": {"source": "other.npz"}}}
    save(loaded.model, Path("other"), details=other)
    assert_user_error(cli("likelihood", "other", *FEW), "other.npz has images of (1, 9, 9), but other takes (1, 8, 8)")
    gone = {"config": {**loaded.details["config"], "data": {"source": "gone.npz"}}}
    save(loaded.model, Path("gone"), details=gone)
    assert_user_error(cli("likelihood", "gone"), "the model names them as they were from where it was trained")
    with torch.no_grad():
        next(loaded.model.energy.parameters()).fill_(torch.nan)
    save(loaded.model, Path("broken"), details=loaded.details)
    assert_user_error(cli("likelihood", "broken", *FEW), "broken can't be measured: a log-weight is not a number")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--temperatures", "1"), "a ladder of 1 temperature: expected two or more"),
        (("--temperatures", "10,5"), "does not ascend"),
        (("--temperatures", "10,1000000000"), "a ladder of more than 100000 temperatures"),
        (("--num-chains", "3"), "--num-chains 3: intervals need 10 or more"),
        (("--num-draws", "5"), "--num-draws 5: intervals need 100 or more"),
        (("--output", "figures.csv"), "expected a .json file"),
    ],
)
def test_mistakes(finished: FinishedRun, cli: Cli, words: tuple[str, ...], message: str) -> None:
    assert_user_error(cli("likelihood", finished.folder, *words), message)
