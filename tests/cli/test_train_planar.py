"""``vaebm train gaussians`` in a short form, and what other verbs do with such a run."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commandline import Cli, assert_user_error
from short_planar import short_planar

from vaebm.cli import planar, planar_stages
from vaebm.cli.main import run
from vaebm.cli.planar_run import PlanarRun
from vaebm.models import VAEBM
from vaebm.recipes import PLANAR_RECIPES, PlanarConfig, build_planar_model
from vaebm.sampling import Kernel, Langevin

SHORT = {
    "vae.num_iterations": 1500,
    "energy.num_iterations": 150,
    "energy.num_prior_samples": 1024,
    "evaluation.grid_size": 200,
    "evaluation.latent_grid_size": 200,
    "evaluation.num_samples": 500,
    "evaluation.num_steps": 20,
    "evaluation.num_draws": 20000,
    "evaluation.num_annealed": 100,
    "evaluation.temperatures": "[2,10]",
}
BRIEF = {"evaluation.num_draws": 1000, "evaluation.num_annealed": 10, "evaluation.temperatures": "[2]"}


def short(**overrides: object) -> list[str]:
    values = SHORT | {name.replace("__", "."): value for name, value in overrides.items()}
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``ring``."""
    folder, errors = tmp_path_factory.mktemp("planar") / "run", io.StringIO()
    with redirect_stderr(errors):
        code = run(["train", "ring", "--output", str(folder), "--seed", "1", *short()])
    assert (code, errors.getvalue()) == (0, "")
    return folder


@pytest.fixture
def finished_ring(cli: Cli, ring: Path) -> None:
    """A copy of it in the working directory."""
    shutil.copytree(ring, "run")


@pytest.mark.usefixtures("finished_ring")
def test_a_run_from_beginning_to_end(cli: Cli) -> None:
    names = {str(path.relative_to("run")) for path in Path("run").rglob("*") if path.is_file()}
    assert {"config.yaml", "provenance.json", "metrics.jsonl", "log.txt", "evaluation.json", "report.html"} <= names
    evaluation = json.loads(Path("run/evaluation.json").read_text())
    rows = {row["what"]: row for row in evaluation["rows"]}
    assert rows["truth"]["gap"] == pytest.approx(0, abs=1e-9)
    assert rows["VAEBM"]["gap"] < rows["VAE"]["gap"] - 0.3
    assert evaluation["importance"]["log_z"]["value"] == pytest.approx(evaluation["log_z"], abs=0.3)
    bounds = [row["forward_bound"]["value"] for row in evaluation["annealed"]]
    assert bounds == sorted(bounds)
    assert bounds[-1] < evaluation["log_z"]
    page = Path("run/report.html").read_text()
    assert page.count("<img") == 5
    assert "http://" not in page
    assert cli("evaluate", "run", "--output", "again.json").code == 0
    again = json.loads(Path("again.json").read_text())
    assert again["log_z"] == pytest.approx(evaluation["log_z"], rel=1e-6)
    assert_user_error(cli("sample", "run"), "a model of points")
    assert_user_error(cli("score", "run", "digits"), "a model of points")
    assert_user_error(cli("evaluate", "run", "--judges", "."), "--judges")
    assert_user_error(cli("evaluate", "run", "-n", 1), "-n/--num-samples is 1: expected a number of at least 10")


@pytest.mark.usefixtures("finished_ring")
def test_the_gain_is_that_of_the_exact_densities() -> None:
    evaluation = json.loads(Path("run/evaluation.json").read_text())
    likelihoods = {row["what"]: row.get("log_likelihood") for row in evaluation["rows"]}
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    gains = {row["iteration"]: row["density_gain"] for row in rows if "density_gain" in row}
    assert list(gains) == [50, 100, 150]
    # The best of them is the model, by 20,000 points and as many draws; the other is the exact one.
    assert max(gains.values()) == pytest.approx(likelihoods["VAEBM"] - likelihoods["VAE"], abs=0.05)


def test_chains_that_measure_keep_the_momentum_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = PLANAR_RECIPES["gaussians"]()
    chains = replace(recipe.energy, objective="contrastive", kernel="langevin", jump_probability=0.0, persistence=0.5)
    config = replace(recipe, energy=chains)
    model = build_planar_model(config)
    assert model.sampling["persistence"] == 0.5
    kernels: list[Kernel] = []

    def stop(_: VAEBM, __: PlanarConfig, kernel: Kernel, *___: object) -> None:
        kernels.append(kernel)
        raise InterruptedError

    monkeypatch.setattr(planar, "planar_model", lambda *_: None)
    monkeypatch.setattr(planar, "_end_images", stop)
    with pytest.raises(InterruptedError):
        planar.evaluate(model, config)
    assert kernels == [Langevin(config.energy.step_size, 0.5)]


def test_chains_that_are_too_short_are_found_out_and_made_longer(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    chains = {"energy.objective": "contrastive", "energy.kernel": "langevin", "energy.jump_probability": 0,
              "energy.num_steps": 1, "energy.num_iterations": 250, "energy.batch_size": 128, **BRIEF}  # fmt: skip
    words = [word for name, value in (SHORT | chains).items() for word in (f"--{name}", str(value))]
    train_energy = planar_stages._train_energy

    def stopped(run: PlanarRun, *others: Any) -> None:
        run.stop.name = "SIGTERM"
        train_energy(run, *others)

    # Both have the same VAE.
    with monkeypatch.context() as patched:
        patched.setattr(planar_stages, "_train_energy", stopped)
        assert cli("train", "gaussians", "--output", "guarded", *words).code == 130
    shutil.copytree("guarded", "alone")
    config = Path("alone/config.yaml")
    before = config.read_text()
    assert before.count("rolls_back: true") == 1
    config.write_text(before.replace("rolls_back: true", "rolls_back: false"))
    assert cli("train", "--resume", "alone").code == 0
    alone = [json.loads(line) for line in Path("alone/metrics.jsonl").read_text().splitlines()]
    assert min(row.get("density_gain", 0.0) for row in alone) < -0.5
    assert not any(row["stage"] == "guard" for row in alone)
    outcome = cli("train", "--resume", "guarded")
    assert "nats less likely than under the VAE); back to iteration" in outcome.output
    assert "step size 0.02, 10 steps" in outcome.output
    rows = json.loads(Path("guarded/evaluation.json").read_text())["rows"]
    gaps = {row["what"]: row.get("gap") for row in rows}
    assert gaps["VAEBM"] <= gaps["VAE"] + 0.02


def test_a_guard_that_gives_up_at_once_leaves_a_model(cli: Cli) -> None:
    broken = short_planar(energy__learning_rate="1e30", checkpoint_every="250")
    outcome = cli("train", "ring", "--output", "run", *broken)
    assert outcome.code == 3
    assert "the guard gives up" in outcome.output
    assert cli("evaluate", "run").code == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("gaussians --evaluation.temperatures [1]", ["a ladder of one temperature: expected two or more"]),
        ("gaussians --energy.objective likelihood", ["expected one of contrastive, importance_sampled"]),
        ("gaussians --energy.potential best", ["expected one of exact, official"]),
        (
            "gaussians --energy.potential official",
            ["has no effect without chains: set energy.objective to contrastive"],
        ),
        ("gaussians --energy.kernel hmc", ["expected one of langevin, mala"]),
        ("gaussians --density square", ["density is 'square': expected one of gaussians"]),
        ("gaussians --data.source x", ["unknown option --data.source"]),
        ("gaussians --resume run", ["--resume takes no other option"]),
        ("--resume run", ["there is no run folder run"]),
        ("gaussians --accept-changed-images", ["is for images"]),
        ("ring --checkpoint_every 0", ["checkpoint_every is 0"]),
        ("ring --evaluation.num_steps 7", ["evaluation.num_steps is 7", "chains of 8 or more"]),
        ("ring --energy.spectral 0.1", ["energy.spectral has no effect"]),
        ("ring --energy.initial_spread 1", ["energy.initial_spread has no effect"]),
        ("ring --vae.batch_size 100000000000000000000", ["vae.batch_size", "up to"]),
        ("gausians", ["unknown recipe 'gausians'", "did you mean gaussians?"]),
        ("gaussians --vae.num_iterations 5 --evaluation.num_samples 3", ["evaluation.num_samples is 3", "at least 10"]),
    ],
)
def test_bad_options_get_one_line(cli: Cli, line: str, words: list[str]) -> None:
    assert_user_error(cli("train", *line.split()), *words)
    assert list(Path.cwd().iterdir()) == []


def test_a_vae_that_does_not_fit_the_grid_is_told(cli: Cli) -> None:
    few = short(vae__num_iterations=2, energy__num_iterations=2, energy__batch_size=1, vae__ema_decay=0.9)
    told = ("the VAE's density adds up to", "train it longer")
    assert_user_error(cli("train", "ring", "--output", "run", *few), *told)
    assert_user_error(cli("evaluate", "run"), *told)
    assert_user_error(cli("evaluate", "run", "--precision", "bf16"), "are for images")
    assert_user_error(cli("train", "--resume", "run"), *told)
    assert "--energy_network.input_scale" in cli("train", "--help", "ring").output
