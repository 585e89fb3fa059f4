"""``vaebm train digits`` as it is beats its VAE."""

from __future__ import annotations

import json
from pathlib import Path

from commandline import in_process_of_its_own


def test_the_recipe_closes_most_of_the_distance(tmp_path: Path) -> None:
    outcome = in_process_of_its_own("train", "digits", "--output", tmp_path / "run")
    assert outcome.code == 0, outcome.errors
    quality = {row["what"]: row for row in json.loads((tmp_path / "run" / "evaluation.json").read_text())["quality"]}
    assert quality["VAEBM"]["frechet"] < quality["VAE"]["frechet"]
    assert quality["VAEBM"]["closed"] > 0.75
    assert quality["VAEBM"]["n"] == 700
