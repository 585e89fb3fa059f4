"""``vaebm train digits`` as it is beats its VAE; two processes of one seed give the same weights."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from commandline import command, environment, tiny


def train(folder: Path, *options: str) -> subprocess.Popen[str]:
    arguments = command("train", "digits", "--output", folder, *options)
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())


def test_the_recipe_closes_most_of_the_distance(tmp_path: Path) -> None:
    process = train(tmp_path / "run")
    output = process.communicate(timeout=540)[0]
    assert process.returncode == 0, output
    quality = {row["what"]: row for row in json.loads((tmp_path / "run" / "evaluation.json").read_text())["quality"]}
    assert quality["VAEBM"]["frechet"] < quality["VAE"]["frechet"]
    assert quality["VAEBM"]["closed"] > 0.75
    assert quality["VAEBM"]["n"] == 700


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    processes = [train(tmp_path / name, *tiny()) for name in ("first", "second")]
    outputs = [process.communicate(timeout=540)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    for name in ("model/model.safetensors", "metrics.jsonl"):
        one, two = ((tmp_path / run / name).read_bytes() for run in ("first", "second"))
        assert one == two, name
