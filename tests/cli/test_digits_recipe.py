"""``vaebm train digits`` as it is: the VAEBM beats its VAE, and the same seed gives the same weights."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from commandline import command, environment


def train(folder: Path, *options: str) -> subprocess.Popen[str]:
    arguments = command("train", "digits", "--output", folder, *options)
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())


def test_digits_recipe(tmp_path: Path) -> None:
    # What is measured at the end doesn't change the weights, so the second training measures little.
    brief = ("--evaluation.num_samples", "10", "--evaluation.steps_curve", "[0]")
    processes = [train(tmp_path / "first"), train(tmp_path / "second", *brief)]
    outputs = [process.communicate(timeout=540)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    quality = {row["what"]: row for row in json.loads((tmp_path / "first" / "evaluation.json").read_text())["quality"]}
    assert quality["VAEBM"]["frechet"] < quality["VAE"]["frechet"]
    assert quality["VAEBM"]["closed"] > 0.75
    assert quality["VAEBM"]["n"] == 700
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]
    assert (tmp_path / "first" / "metrics.jsonl").read_bytes() == (tmp_path / "second" / "metrics.jsonl").read_bytes()
