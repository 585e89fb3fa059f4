"""``vaebm score --html``: the page has what it promises, of the run's own images, of others, or without any."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import Cli, FinishedRun, assert_user_error

import vaebm.cli.scoring
from vaebm.data import load_splits, scratches
from vaebm.recipes import read_model, save


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features take 10 ms an image."""
    for name, most in (("MOST_REFERENCE", 60), ("MOST_CALIBRATION", 30), ("MOST_SPOILT", 12), ("MOST_SHOWN", 10)):
        monkeypatch.setattr(vaebm.cli.scoring, name, most)


def mixed() -> None:
    normal = torch.from_numpy(load_splits("digits").test.images[:12])
    odd = scratches(normal[:3], torch.Generator().manual_seed(0), 1.0)
    np.savez("mixed.npz", images=torch.cat([normal, odd]).numpy())


def test_the_page_of_a_run(finished: FinishedRun, cli: Cli) -> None:
    mixed()
    outcome = cli("score", finished.folder, "mixed.npz", "--html", "page.html")
    assert (outcome.code, outcome.errors) == (0, "")
    page = Path("page.html").read_text(encoding="utf-8")
    # Self-contained: every source is data.
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,|#)', page) == []
    assert page.count("<article") == 10
    assert page.count("<img") == 30
    assert "the other 5 are in the csv" in page
    chances = [float(text) for text in re.findall(r"p = ([0-9.]+)</h3>", page)]
    assert chances == sorted(chances)
    baselines = ("complexity", "pixel statistics", "kNN, pixels", "kNN, features", "Mahalanobis, features")
    for name in ("joint", "energy", "ELBO", *baselines):
        # Once in the comparison, once in the explanations, and in every card.
        assert page.count(f">{name}<") + page.count(f"</i>{name}<") >= 12, name
    assert re.search(r"Trust [^:]+: over 4 kinds of defects of 12 normal images", page)
    assert "training images for the baselines" in page
    assert cli("score", finished.folder, "mixed.npz", "--html", "again.html").code == 0
    assert Path("again.html").read_text(encoding="utf-8") == page


def test_without_its_images_the_page_says_so_or_takes_a_reference(finished: FinishedRun, cli: Cli) -> None:
    mixed()
    loaded = read_model(finished.folder)
    config = loaded.details["config"]
    moved = {**loaded.details, "config": {**config, "data": {**config["data"], "source": "gone/away"}}}
    loaded = replace(loaded, details=moved)
    save(loaded.model, "moved", calibration=loaded.calibration, details=moved)
    assert cli("score", "moved", "mixed.npz", "--html", "page.html").code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "can&#x27;t be found" in page
    assert "Mahalanobis" not in page
    np.savez("normal.npz", images=load_splits("digits").training.images[:80])
    assert cli("score", "moved", "mixed.npz", "--html", "page.html", "--reference", "normal.npz").code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "Mahalanobis" in page
    assert "normal.npz, at random" in page
    np.savez("few.npz", images=load_splits("digits").training.images[:9])
    Path("page.html").unlink()
    outcome = cli("score", "moved", "mixed.npz", "--html", "page.html", "--reference", "few.npz")
    assert_user_error(outcome, "few.npz", "at least 30")
    assert not Path("page.html").exists()


def test_without_the_extractor_the_page_says_so(
    finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed()
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    assert cli("score", finished.folder, "mixed.npz", "--html", "page.html").code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "vaebm[features]" in page
    assert "kNN, pixels" in page
    assert "kNN, features" not in page
