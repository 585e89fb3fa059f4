"""Runs with NVAE: the paper's recipes cut down, from images to a scored folder, and what a dry run tells."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commandline import Cli

import vaebm
from vaebm.cli import dry_run
from vaebm.cli.stages import train_stages
from vaebm.cli.stop import StopRequest
from vaebm.cli.train import begin, parse
from vaebm.models import NVAE
from vaebm.recipes import NOTES, NVAEConfig, config_class, from_dict

SMALL = {
    "vae_network.groups": "[1,1]", "vae_network.encoder_width": "4", "vae_network.decoder_width": "4",
    "vae_network.latents": "2", "vae_network.num_flows": "1", "vae_network.encoder_cells": "1",
    "vae_network.decoder_cells": "1", "vae_network.outer_cells": "1", "vae.num_iterations": "6", "vae.batch_size": "8",
    "energy_network.widths": "[4,4]", "energy_network.halvings": "[1,0]", "energy.num_iterations": "4",
    "energy.batch_size": "4", "energy.num_steps": "2", "sampling.num_steps": "2", "evaluation.num_samples": "10",
    "evaluation.steps_curve": "[0,2]", "evaluation.num_posterior_samples": "1", "selection.num_samples": "10",
    "selection.num_candidates": "1", "sample_every": "4", "precision": "fp32",
}  # fmt: skip


def write_images(path: Path, count: int = 60) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    np.savez(path, images=images)


def small() -> list[str]:
    return [word for name, value in SMALL.items() for word in (f"--{name}", value)]


def test_a_recipe_of_the_paper_trains_resumes_and_serves_every_verb(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaebm.cli.rival_runs.STEPS", (0, 1, 2))
    write_images(Path("images.npz"), 144)
    arguments = ("cifar10", "--data.source", "images.npz", "--output", "run", *small())
    assert cli("train", *arguments).code == 0
    values = yaml.safe_load(Path("run/config.yaml").read_text())
    config = from_dict(config_class(values), values)
    assert isinstance(config, NVAEConfig)
    assert config.vae.objective == "balanced"
    model = vaebm.load("run")
    assert isinstance(model.vae, NVAE)
    assert model.vae.arguments["num_flows"] == 1
    Path("run/report.html").unlink()
    assert cli("train", "--resume", "run").code == 0
    assert Path("run/report.html").stat().st_size
    assert cli("sample", "run", "-n", "4", "--output", "grid.png").code == 0
    assert cli("evaluate", "run", "-n", "10").code == 0
    assert cli("score", "run", "images.npz", "--output", "scores.csv").code == 0
    assert len(Path("scores.csv").read_text().splitlines()) == 145
    assert cli("export", "run", "--onnx", "scorer.onnx").code == 0
    assert cli("likelihood", "run", "--num-draws", 100, "--num-chains", 10, "--temperatures", 3).code == 0
    Path("few.yaml").write_text("vaebm: {lengths: [2], energy: {num_steps: 2, batch_size: 4}}")
    rows = ("--rows", "vae,vaebm", "--config", "few.yaml", "--budget", "1s", "-n", 50)
    assert cli("benchmark", "run", *rows, "--output", "rivals").code == 0
    assert set(json.loads(Path("rivals/benchmark.json").read_text())["rows"]) == {"vae-0", "vaebm-0"}
    evaluation = json.loads(Path("run/evaluation.json").read_text())
    assert evaluation["trained_steps"] == 2


def test_the_same_seed_gives_the_same_model(cli: Cli) -> None:
    write_images(Path("images.npz"))
    models = []
    for name in ("one", "two"):
        arguments = ["cifar10", "--data.source", "images.npz", "--output", name, *small()]
        request = parse(arguments)
        assert request is not None
        run = begin(request, StopRequest(), arguments)
        train_stages(run)
        run.close()
        models.append(run.model.state_dict())
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())


def test_a_dry_run_tells_configuration_and_cost_and_makes_nothing(cli: Cli) -> None:
    found = cli("train", "cifar10", "--dry-run", *small())
    assert found.code == 0
    values = yaml.safe_load(found.output)
    assert values["vae_network"]["groups"] == [1, 1]
    assert "# parameters: VAE " in found.output
    assert "# noise: 640 latent, 3,712 with the image's" in found.output
    assert "FID 12.26" in found.output
    assert re.search(r"\n# checkpoints: up to \d+\.\d MiB each, 3 of them at a time\n", found.output)
    assert not list(Path().iterdir())


def test_more_than_this_machine_holds_is_a_warning(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "total_memory", lambda device: 1e-5)
    found = cli("train", "cifar10", "--dry-run", *small())
    assert "GiB, this machine has 0.0: lower --energy.batch_size or the networks' widths" in found.output
    write_images(Path("images.npz"))
    trained = cli("train", "cifar10", "--data.source", "images.npz", "--output", "run", *small())
    assert trained.code == 0
    told = trained.output
    assert 0 < told.index("warning: stage energy will hold") < told.index("stage vae: 6 iterations")


@pytest.mark.parametrize("name", ["celeba64", "lsun_church64", "celebahq256", "cifar10-small"])
def test_a_recipe_without_images_says_how_to_get_them(name: str, cli: Cli) -> None:
    found = cli("train", name)
    assert found.code == 2
    assert found.errors.count("\n") == 1
    assert f"{name} brings no images: {NOTES[name].images}" in found.errors


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "cifar10 brings no images: CIFAR-10: --data.source PATH"),
        (("--vae_network.groups", "[1,1,1,1,1,1]"), "images of 32x32 can't be halved 6 times"),
        (("--vae_network.groups", "[]"), "vae_network.groups"),
        (("--vae.optimizer", "sgd"), "vae.optimizer is 'sgd': expected one of adam, adamax"),
        (("--energy_network.halvings", "[1,0]"), "halvings has 2 entries"),
    ],
)
def test_what_can_not_be_built_or_found_gets_one_line(cli: Cli, words: tuple[str, ...], expected: str) -> None:
    more = ("--dry-run",) if "groups" in str(words) or "halvings" in str(words) else ()
    found = cli("train", "cifar10", *words, *more)
    assert found.code == 2
    assert expected in found.errors
    assert "Traceback" not in found.errors
    assert not list(Path().iterdir())
