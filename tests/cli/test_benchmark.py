"""``vaebm benchmark``: rivals of a trained model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Cli, FinishedRun, assert_user_error
from PIL import Image

from vaebm.checkpoint import load_model_folder, model_folders, save_model_folder
from vaebm.cli import rival_runs
from vaebm.cli.benchmark import planned
from vaebm.cli.rival_players import Course, _decay, _scaled, make_player
from vaebm.data import load_splits, to_float
from vaebm.distributed import make_engine
from vaebm.models import VAEBM, EnergyNetwork, GaussianReference, ImageFields, TemperedEnergy
from vaebm.objectives import contrastive_loss
from vaebm.recipes import Config, from_dict, load_judges, read_model
from vaebm.recipes.mnist import mnist
from vaebm.recipes.rivals import RIVALS, RivalConfig
from vaebm.training import EnergySettings

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


def test_every_row_is_trained_measured_and_shown(
    finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The curve as far as chains go here; others run all of it.
    monkeypatch.setattr(rival_runs, "STEPS", (0, 1, 2, 4))
    Path("tiny.yaml").write_text(TINY)
    words = ("benchmark", finished.folder, "--config", "tiny.yaml", "--budget", "1s", "-n", 50, "--output", "out")
    outcome = cli(*words)
    assert (outcome.code, outcome.errors) == (0, "")
    assert "covariances of 50 images aren't of full rank, expected more than 64" in outcome.output
    found = rows("out")
    assert [row["name"] for row in found.values()] == list(RIVALS)
    for key, row in found.items():
        assert np.isfinite([entry["frechet"] for entry in row["quality"]]).all()
        assert np.asarray(Image.open(f"out/{key}.png")).std() > 0
        assert row["title"] in outcome.output
    trained = {key: row for key, row in found.items() if key not in ("vae-0", "reconstructions-0")}
    for row in trained.values():
        # It ends with the first iteration after its time.
        assert row["time"] <= row["seconds"] < row["time"] + max(0.5, 5 * row["seconds"] / row["num_iterations"])
        shares = sorted({look["seconds"] / row["time"] for look in row["candidates"]})
        assert shares[-1] == row["seconds"] / row["time"]
        assert len(shares) <= 3
        assert all(seen >= share for seen, share in zip(shares[::-1], (1.0, 0.75, 0.5), strict=False))
    # The length is one of those that were asked for, and the nearest of what was seen.
    for row in trained.values():
        best = min(row["candidates"], key=lambda look: look["distance"])
        assert row["chosen"]["num_steps"] == best["num_steps"]
        assert row["chosen"]["distance"] == best["distance"]
    # Rows that don't use the VAE get on top what it took.
    times = {row["name"]: row["time"] for row in found.values()}
    took = json.loads((finished.folder / "provenance.json").read_text())["seconds"]["vae"]
    assert times["pixels-short-run"] == times["pixels-persistent"] == 1 + took
    assert times["pixels-from-vae"] == times["wgan-gp"] == times["vaebm"] == 1
    # Rows that are there are shown, not made.
    again = cli(*words, "--rows", "vae,wgan-gp")
    assert again.code == 0
    assert again.output.count("measured before") == 2
    assert rows("out") == found


def test_the_model_says_how_long_its_vae_took(finished: FinishedRun, cli: Cli) -> None:
    def vae_time(model: Path, *words: object) -> float:
        name = f"out-{model}-{len(words)}".replace("/", "_")
        asked = ("benchmark", model, "--rows", "vae", "--budget", "1s", "-n", 50, "--output", name, *words)
        assert cli(*asked).code == 0
        found: float = json.loads((Path(name) / "benchmark.json").read_text())["vae_time"]
        return found

    seconds = json.loads((finished.folder / "provenance.json").read_text())["seconds"]
    details = load_model_folder(finished.folder / "model").config["details"]
    assert details["seconds"]["vae"] == seconds["vae"]
    assert details["seconds"]["energy"] == seconds["energy"]
    shutil.copytree(finished.folder / "model", "alone")
    assert vae_time(Path("alone")) == seconds["vae"]
    assert vae_time(Path("alone"), "--vae-time", "90s") == 90
    # A model of before doesn't know it; its run does.
    for place in (Path("old"), Path("run/model")):
        copied = load_model_folder(finished.folder / "model")
        copied.config["details"].pop("seconds")
        save_model_folder(place, copied)
    (Path("run") / "provenance.json").write_text(json.dumps({"seconds": {"vae": 7.5}}))
    assert vae_time(Path("run")) == vae_time(Path("run/model")) == 7.5
    assert vae_time(Path("old")) == 0


def test_judges_of_a_folder_measure_and_choose_nothing(finished: FinishedRun, cli: Cli) -> None:
    (bundled,) = load_judges((1, 8, 8))
    torch.manual_seed(0)
    source = next(path for path in model_folders() if path.name == bundled.name)
    other = load_model_folder(source)
    for tensor in other.tensors.values():
        if tensor.is_floating_point():
            tensor.add_(0.01 * torch.randn_like(tensor))
    save_model_folder(Path("judges/apart"), other)
    shutil.copytree(source, "judges/same")
    Path("tiny.yaml").write_text(TINY)
    words = ("benchmark", finished.folder, "--config", "tiny.yaml", "--budget", "1s", "-n", 50, "--rows", "vaebm")
    assert cli(*words, "--output", "out", "--judges", "judges").code == 0
    stored = json.loads((Path("out") / "benchmark.json").read_text())
    assert list(stored["judges"]) == [bundled.name, "apart"]
    assert [entry["judge"] for entry in stored["rows"]["vaebm-0"]["quality"]] == [bundled.name, "apart"]
    # Rows that it hasn't seen are of another comparison.
    assert_user_error(cli(*words, "--output", "out"), "holds rows of another comparison (judges")
    save_model_folder(Path("taken") / bundled.name, other)
    assert_user_error(cli(*words, "--output", "new", "--judges", "taken"), f"another judge {bundled.name} is bundled")
    Path("none").mkdir()
    assert_user_error(
        cli(*words, "--output", "new", "--judges", "none"), "none of its classifiers takes images of 1 × 8"
    )
    assert_user_error(cli(*words, "--output", "new", "--judges", "nowhere"), "nowhere")


def test_as_many_test_images_as_the_model_asks_for(finished: FinishedRun, cli: Cli) -> None:
    shutil.copytree(finished.folder / "model", "all")
    few = load_model_folder(finished.folder / "model")
    few.config["details"]["config"]["evaluation"]["num_test"] = 60
    save_model_folder(Path("few"), few)
    words = ("--rows", "vae", "--budget", "1s", "-n", 50)
    for name in ("all", "few"):
        assert cli("benchmark", name, *words, "--output", f"of {name}").code == 0
    whole, part = (rows(f"of {name}")["vae-0"]["quality"][0]["frechet"] for name in ("all", "few"))
    assert part != pytest.approx(whole, rel=1e-3)
    assert json.loads(Path("of few/benchmark.json").read_text())["num_test"] == 60


def test_zero_steps_from_the_vae_are_its_samples(finished: FinishedRun, cli: Cli) -> None:
    Path("tiny.yaml").write_text("pixels-from-vae: {lengths: [0], energy: {num_steps: 2, batch_size: 8}}\n")
    words = ("--config", "tiny.yaml", "--budget", "1s", "-n", 300, "--output", "out")
    assert cli("benchmark", finished.folder, "--rows", "vae,pixels-from-vae", *words).code == 0
    vae, start = (rows("out")[key]["quality"][0]["frechet"] for key in ("vae-0", "pixels-from-vae-0"))
    assert start == pytest.approx(vae, rel=0.1)


def test_reconstructions_are_those_of_training_images(finished: FinishedRun, cli: Cli) -> None:
    words = ("--rows", "vae,reconstructions", "--budget", "1s", "-n", 300, "--output", "out")
    assert cli("benchmark", finished.folder, *words).code == 0
    distances = {row["name"]: row["quality"][0]["frechet"] for row in rows("out").values()}
    assert distances["reconstructions"] < 0.8 * distances["vae"]
    loaded, splits = read_model(finished.folder), load_splits("digits", 0)
    model, config = loaded.model, from_dict(Config, loaded.details["config"])
    course = Course(model, config, splits, [], make_engine("fp32", "cpu"), 50, 0, print)
    player = make_player(RIVALS["reconstructions"].settings(config), course)
    images, size = to_float(splits.training.images), model.noise_layout.latent_size
    with torch.no_grad():
        drawn = model.transport(player.fresh((20, model.noise_layout.size), course.generator(0))).mean
        expected = model.vae.elbo_terms(images, torch.zeros(len(images), size)).reconstruction
    assert float(torch.cdist(drawn.double().flatten(1), expected.double().flatten(1)).min(1).values.max()) < 1e-4


def test_the_rows_are_listed(cli: Cli) -> None:
    outcome = cli("benchmark", "mnist", "--rows", "list")
    assert outcome.code == 0
    assert all(name in outcome.output for name in RIVALS)
    assert_user_error(cli("benchmark", "mnist"), "expected --output FOLDER")


@pytest.fixture
def refused(finished: FinishedRun, cli: Cli) -> Callable[..., str]:
    def told(*words: object) -> str:
        outcome = cli("benchmark", finished.folder, "--budget", "1s", "-n", 50, "--output", "out", *words)
        assert_user_error(outcome)
        return outcome.errors

    return told


def test_what_cant_be_compared_is_refused(refused: Callable[..., str]) -> None:
    assert "did you mean wgan-gp?" in refused("--rows", "wgan")
    for nothing in ("", " ", ","):
        told = f"--rows: {nothing!r} is empty: expected rows such as vae,vaebm, or list"
        assert told in refused("--rows", nothing)
    Path("bad.yaml").write_text("vaebn: {}\n")
    assert "bad.yaml: unknown row vaebn (did you mean vaebm?)" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("pixels-short-run: {temperature: 0.0}\n")
    assert "temperature is 0.0: expected a number above 0" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("pixels-short-run: {temprature: 1.0}\n")
    assert "did you mean temperature?" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("pixels-short-run: {lengths: [3, 2]}\n")
    assert "expected ascending numbers" in refused("--config", "bad.yaml")
    for row, key, value in (("vaebm", "step_size", -1), ("vaebm", "num_steps", 0), ("vaebm", "batch_size", 0)):
        Path("bad.yaml").write_text(f"{row}: {{energy: {{{key}: {value}}}}}\n")
        assert f"energy.{key} is {value}" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("wgan-gp: {adversarial: {num_critic_steps: 0}}\n")
    assert "adversarial.num_critic_steps is 0" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("wgan-gp: {lengths: [0, 5]}\n")
    assert "generator has no chains" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("pixels-short-run: {energy: {objective: importance_sampled}}\n")
    assert "rows are trained by chains" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("vaebm: {start: images}\n")
    assert "start is 'images' with space 'noise': expected none" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("vaebm: {energy: {persistence: 0.5}}\n")
    assert "energy.persistence is 0.5: chains of rows keep no momentum" in refused("--config", "bad.yaml")
    for row, change in (("vaebm", "temperature: 0.5"), ("vaebm", "data_noise: 0.3"), ("vaebm", "start: vae")):
        Path("bad.yaml").write_text(f"{row}: {{{change}}}\n")
        assert "space is 'noise': expected start noise, temperature 1 and data_noise 0" in refused(
            "--config", "bad.yaml"
        )
    Path("bad.yaml").write_text("pixels-short-run: {input_pooling: 100}\n")
    assert "input_pooling is 100" in refused("--config", "bad.yaml")
    Path("bad.yaml").write_text("1: {}\n")
    assert "unknown row 1" in refused("--config", "bad.yaml")
    assert not Path("out").exists()


def test_files_that_cant_be_read_as_settings_or_rows_are_refused(refused: Callable[..., str]) -> None:
    Path("bad.yaml").write_text("vaebm: 3\n")
    assert "vaebm is 3: expected settings" in refused("--config", "bad.yaml")
    Path("out").mkdir()
    (Path("out") / "benchmark.json").write_text('{"model": "other", "rows": {}}')
    assert "holds rows of another comparison (model other" in refused("--rows", "vae")
    (Path("out") / "benchmark.json").write_text("{")
    assert "benchmark.json" in refused("--rows", "vae")


def test_a_row_is_what_its_title_says(refused: Callable[..., str]) -> None:
    for row, change in (("vaebm", "space: none, lengths: [0]"), ("wgan-gp", "space: noise"), ("vae", "space: pixels")):
        Path("bad.yaml").write_text(f"{row}: {{{change}}}\n")
        assert f"{row}: space is '{change[7:].split(',')[0]}': expected that of the row" in refused(
            "--config", "bad.yaml"
        )
    for row, change, told in (
        ("vae", "start: images", "start is 'images': expected that of the row, noise"),
        ("pixels-from-vae", "start: noise", "start is 'noise': expected that of the row, vae"),
        ("vaebm", "energy: {potential: official}", "energy.potential is 'official': expected that of the row, exact"),
        ("pixels-persistent", "energy: {replay_probability: 0}", "replay_probability is 0: expected above 0"),
        ("vaebm-no-buffer", "energy: {replay_probability: 0.8}", "replay_probability is 0.8: expected 0"),
    ):
        Path("bad.yaml").write_text(f"{row}: {{{change}}}\n")
        assert f"{row}: {told}" in refused("--config", "bad.yaml").replace("energy.replay", "replay")
    Path("bad.yaml").write_text("pixels-short-run: {guarded: false}\n")
    assert "guarded is false with space 'pixels': the guard acts in noise space alone" in refused(
        "--config", "bad.yaml"
    )
    for change in ("kernel: mala", "jump_probability: 0.3"):
        Path("bad.yaml").write_text(f"vaebm: {{energy: {{{change}}}}}\n")
        assert "those of rows are Langevin's" in refused("--config", "bad.yaml")
    assert not Path("out").exists()


def test_other_settings_dont_take_a_rows_place(finished: FinishedRun, cli: Cli) -> None:
    words = ("benchmark", finished.folder, "--rows", "vae", "--budget", "1s", "--output", "out")
    assert cli(*words, "-n", 50).code == 0
    before = (Path("out") / "benchmark.json").read_bytes()
    # Of another number of samples, distances can't be compared.
    assert_user_error(cli(*words, "-n", 60), "holds rows of another comparison (num_samples 50)")
    Path("other.yaml").write_text("vae: {input_pooling: 1}\n")
    assert_user_error(cli(*words, "-n", 50, "--config", "other.yaml"), "holds a row vae-0 of other settings")
    assert (Path("out") / "benchmark.json").read_bytes() == before
    # Nothing is trained for a folder that can't be one.
    Path("file").write_text("")
    assert_user_error(cli("benchmark", finished.folder, "--rows", "vaebm", "--output", "file", "-n", 50), "file")


def test_a_row_whose_images_are_not_finite_is_kept_as_diverged(
    finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tiny.yaml").write_text(TINY)
    original = rival_runs._images

    def broken(*arguments: Any) -> torch.Tensor:
        return torch.full_like(original(*arguments), torch.nan)

    monkeypatch.setattr(rival_runs, "_images", broken)
    words = ("--config", "tiny.yaml", "--budget", "1s", "-n", 70, "--output", "out", "--rows", "vaebm")
    outcome = cli("benchmark", finished.folder, *words)
    assert outcome.code == 0, outcome.errors
    assert "VAEBM (1 of 1 diverged)" in outcome.output
    assert rows("out")["vaebm-0"]["quality"] == []
    # Its picture is as large as that of any row.
    width, height = Image.open("out/vaebm-0.png").size
    assert width == height > 8 * 50


def test_the_official_row_is_sampled_by_its_own_potential(
    finished: FinishedRun, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    for name in ("log_density", "official_log_density"):
        original = getattr(VAEBM, name)

        def spy(self: VAEBM, noise: torch.Tensor, name: str = name, original: Any = original) -> torch.Tensor:
            called.append(name)
            found: torch.Tensor = original(self, noise)
            return found

        monkeypatch.setattr(VAEBM, name, spy)
    Path("tiny.yaml").write_text(TINY)
    for row, expected in (("vaebm", "log_density"), ("vaebm-official", "official_log_density")):
        called.clear()
        words = ("--config", "tiny.yaml", "--budget", "1s", "-n", 50, "--output", "out", "--rows", row)
        assert cli("benchmark", finished.folder, *words).code == 0
        assert set(called) == {expected}


def test_samples_of_pixels_end_without_the_noise_of_data() -> None:
    class Bowl(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            # With the reference N(0, 1) the precision is 1 + 4: that of N(0, 0.1) data with noise N(0, 0.1).
            return 2 * images.square().sum((1, 2, 3))

    model = VAEBM(GaussianReference((1, 8, 8)), Bowl(), ImageFields("mean", "mean", "mean"))
    noise, rival = (0.3 * torch.randn(4, 64)).clamp(-0.9, 0.9), RivalConfig("pixels", data_noise=0.1**0.5)
    images = rival_runs._images(model, noise, rival, 1)
    # Half of it is noise.
    torch.testing.assert_close(images.flatten(1), 0.5 * noise)
    torch.testing.assert_close(rival_runs._images(model, noise, rival, 0).flatten(1), noise)


@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_weights_of_the_loss_hold_for_the_networks_output(temperature: float) -> None:
    torch.manual_seed(0)
    energy = EnergyNetwork((1, 8, 8), widths=(4,))
    settings = EnergySettings(l2=0.3, centring=0.2, weight_decay=0.1)
    scaled = _scaled(settings, temperature)
    images = torch.rand(6, 1, 8, 8) * 2 - 1
    energies = TemperedEnergy(energy, temperature)(images)
    loss = contrastive_loss(energies[:3], energies[3:], scaled.centring, scaled.l2).loss
    plain = energy(images)
    expected = contrastive_loss(plain[:3], plain[3:], settings.centring, settings.l2).loss
    torch.testing.assert_close(loss * temperature, expected, rtol=1e-5, atol=1e-6)
    assert scaled.weight_decay * temperature == pytest.approx(settings.weight_decay)


@pytest.mark.parametrize("change", [{"persistence": 0.5}, {"kernel": "mala"}, {"jump_probability": 0.3}])
def test_chains_of_rows_are_langevins_without_momentum_whatever_the_recipe_says(change: dict[str, Any]) -> None:
    recipe = mnist()
    config = replace(recipe, energy=replace(recipe.energy, **change))
    for rival in RIVALS.values():
        assert rival.settings(config) == rival.settings(recipe)


def test_what_is_planned_is_what_rows_are_made_by(finished: FinishedRun, cli: Cli) -> None:
    Path("tiny.yaml").write_text("vae: {input_pooling: 1}\n")
    words = [
        str(finished.folder),
        "--rows",
        "vae,reconstructions",
        "--config",
        "tiny.yaml",
        "--budget",
        "1s",
        "-n",
        "50",
    ]
    words += ["--output", "out", "--seed", "3"]
    plan = planned(words)
    assert not Path("out").exists()
    assert cli("benchmark", *words).code == 0
    stored = json.loads(Path("out/benchmark.json").read_text())
    assert {key: stored[key] for key in plan if key != "rows"} == {key: plan[key] for key in plan if key != "rows"}
    assert {key: {part: row[part] for part in plan["rows"][key]} for key, row in stored["rows"].items()} == json.loads(
        json.dumps(plan["rows"])
    )


def test_a_moving_average_remembers_a_tenth_of_the_training() -> None:
    assert [_decay(0.998, count) for count in (5, 20, 100, 10_000)] == pytest.approx([0.0, 0.5, 0.9, 0.998])
