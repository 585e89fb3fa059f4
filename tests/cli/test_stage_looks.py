"""Looks at a model in training: what isn't finite is told and counts for nothing, and a look that is left is undone."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import Cli, assert_user_error, tiny

import vaebm
from vaebm.applications import snapshots
from vaebm.checkpoint import RunFolder
from vaebm.cli import stages
from vaebm.cli.running import CHECKPOINT
from vaebm.cli.stages import agreed, train_stages
from vaebm.cli.stop import Interrupted, StopRequest
from vaebm.cli.train import begin, parse
from vaebm.training import Progress, energy_step, vae_step

SHORT = tiny(
    vae__num_iterations="3", energy__num_iterations="4", report_every="1", evaluation__num_samples="10",
    selection__num_candidates="2", sample_every="4",
)  # fmt: skip


def selected(run: str) -> list[dict[str, Any]]:
    return [row for row in RunFolder(Path(run)).read_metrics() if row["stage"] == "selection"]


@pytest.mark.parametrize("broken", [1, 2])
def test_a_candidate_whose_samples_are_not_finite_is_infinitely_far(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    """The last candidate is broken, or both; with it the grid, which is drawn behind it."""
    seen = []

    def spoilt(model: Any, noise: Any, *arguments: Any, **settings: Any) -> Any:
        looks = snapshots(model, noise, *arguments, **settings)
        seen.append(len(noise))
        # One grid of the VAE, then two candidates, then one grid of the energy network.
        if len(seen) > 3 - broken:
            for look in looks:
                look.images[0] = math.nan
        return looks

    monkeypatch.setattr("vaebm.cli.candidates.snapshots", spoilt)
    found = cli("train", "digits", "--output", "run", *SHORT)
    assert found.code == 0, found.errors
    distances = [float(row["frechet"] if "frechet" in row else row["kernel"]) for row in selected("run")]
    assert [math.isfinite(distance) for distance in distances] == [True] * (2 - broken) + [False] * broken
    assert found.output.count("infinite after 10 steps (its samples aren't finite") == broken
    assert "no grid energy_000004: 1 of 64 samples aren't finite" in found.output
    assert [path.name for path in sorted(Path("run/samples").iterdir())] == ["vae_000003.png"]
    assert vaebm.load("run").energy is not None


def test_a_model_that_cannot_be_measured_ends_with_a_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(run: Any) -> None:
        raise ValueError("features holds NaN or infinite values, expected finite features")

    monkeypatch.setattr("vaebm.cli.train.finish", fails)
    found = cli("train", "digits", "--output", "run", *SHORT)
    assert_user_error(found, "samples of the trained model can't be measured", "--sampling.step_size")


def changing(
    step: Callable[..., Any], change: Callable[[int, dict[str, float]], dict[str, float]]
) -> Callable[..., Any]:
    """Makes steps whose figures are others."""

    def make(*arguments: Any, **settings: Any) -> Any:
        honest = step(*arguments, **settings)

        def changed(state: Any, images: Any) -> Any:
            progress = honest(state, images)
            return Progress(progress.state, progress.figures | change(progress.state.iteration, progress.figures))

        return changed

    return make


def test_a_gradient_that_is_no_number_ends_stage_1_before_anything_is_saved(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = changing(vae_step, lambda iteration, figures: {"grad_norm": math.nan} if iteration == 3 else {})
    monkeypatch.setattr("vaebm.cli.stages.vae_step", broken)
    found = cli("train", "digits", "--output", "run", *SHORT, "--checkpoint_every", "1")
    words = ("stage vae diverged at iteration 3 (grad_norm is nan)", "last.pt and previous.pt hold what was before")
    assert_user_error(found, *words, "start anew with a lower --vae.learning_rate")
    stored = RunFolder(Path("run")).load_checkpoint(CHECKPOINT)
    assert stored is not None
    assert stored["state"]["iteration"] == 2
    # The iteration isn't hidden.
    assert math.isnan(float(RunFolder(Path("run")).read_metrics()[-1]["grad_norm"]))


def test_a_run_that_gives_up_early_keeps_the_best_of_its_healthy_states(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The gradient breaks each time, long before the first candidate.
    broken = changing(energy_step, lambda iteration, figures: {"grad_norm": math.inf} if iteration == 8 else {})
    monkeypatch.setattr("vaebm.cli.stages.energy_step", broken)
    options = [*SHORT, "--energy.num_iterations", "40", "--guard.window", "2", "--guard.snapshot_every", "2",
               "--guard.num_attempts", "1", "--guard.largest_overshoot", "100", "--guard.largest_separation", "100",
               "--guard.largest_noise_norm", "100", "--guard.least_acceptance", "0"]  # fmt: skip
    found = cli("train", "digits", "--output", "run", *options)
    assert found.code == 3, found.errors
    rows, metrics = selected("run"), RunFolder(Path("run")).read_metrics()
    iterations = [row["iteration"] for row in rows]
    assert iterations == [0, 2, 4, 6]
    assert f"the guard gave up: {len(iterations)} healthy states are compared with the candidates" in found.output
    best = min(rows, key=lambda row: row["frechet"] if "frechet" in row else row["kernel"])["iteration"]
    assert f"the energy network of iteration {best} is kept" in found.output
    # Neither iteration with a broken gradient is hidden, though its loss is finite.
    undone = [row for row in metrics if row.get("is_undone")]
    assert [(row["iteration"], math.isfinite(row["loss"]), float(row["grad_norm"])) for row in undone] == [
        (8, True, math.inf)
    ] * 2
    # A run that is killed while it chooses, chooses the same.
    weights = Path("run/model/model.safetensors").read_bytes()
    shutil.rmtree("run/model")
    for name in ("report.html", "evaluation.json"):
        (Path("run") / name).unlink()
    # At the end the stage is trained; the checkpoint before is of the act that gave up.
    (Path("run") / "checkpoints/previous.pt").replace(Path("run") / "checkpoints/last.pt")
    assert cli("train", "--resume", "run").code == 3
    assert Path("run/model/model.safetensors").read_bytes() == weights
    assert RunFolder(Path("run")).read_metrics() == metrics


def test_a_look_that_is_left_does_not_count(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    short = tiny(vae__num_iterations="12", report_every="1", selection__num_samples="0", selection__vae_every="4")
    arguments = ["digits", "--output", "run", *short, "--selection.vae_patience", "5"]
    request, stop, keep, counts = parse(arguments), StopRequest(), stages._keep_better, []
    assert request is not None

    def keep_and_stop(run: Any, averaged: Any, iteration: int, elbo: float) -> bool:
        is_ended = keep(run, averaged, iteration, -float(iteration))
        counts.append(run.best_vae["num_since"])
        if iteration == 8:
            stop.name = "SIGTERM"
        return is_ended

    monkeypatch.setattr(stages, "_keep_better", keep_and_stop)
    run = begin(request, stop, arguments)
    with pytest.raises(Interrupted):
        train_stages(run)
    run.close()
    stored = RunFolder(Path("run")).load_checkpoint(CHECKPOINT)
    assert stored is not None
    assert (counts, stored["is_look_due"], stored["best_vae"]["num_since"]) == ([0, 1], True, 0)


def test_all_processes_decide_by_the_figures_of_the_main_one() -> None:
    class Other:
        num_processes = 2

        def from_main(self, values: list[float]) -> list[float]:
            return [value + 1 for value in values]

    def step(state: Any, images: Any) -> Progress[Any]:
        return Progress(state, {"loss": 1.0, "grad_norm": 2.0})

    shared = agreed(step, Other())  # type: ignore[arg-type]  # a stand-in
    assert shared("state", torch.zeros(1)) == Progress("state", {"loss": 2.0, "grad_norm": 3.0})
    Other.num_processes = 1
    assert agreed(step, Other()) is step  # type: ignore[arg-type]  # a stand-in
