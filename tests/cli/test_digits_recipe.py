"""``vaebm train digits`` as it is beats its VAE."""

from __future__ import annotations

import json
from pathlib import Path

from forking import run_forked


def test_the_recipe_closes_most_of_the_distance(tmp_path: Path) -> None:
    outcome = run_forked("train", "digits", "--output", tmp_path / "run", "--evaluation.steps_curve", "[0, 60]")
    assert outcome.code == 0, outcome.errors
    quality = {row["what"]: row for row in json.loads((tmp_path / "run" / "evaluation.json").read_text())["quality"]}
    assert quality["VAEBM"]["frechet"] < quality["VAE"]["frechet"]
    assert quality["VAEBM"]["closed"] > 0.75
    assert quality["VAEBM"]["n"] == 700
