"""``vaebm train``: what a run folder holds, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from commandline import FINISHED, Cli, FinishedRun, assert_user_error, tiny
from PIL import Image

import vaebm
from vaebm.checkpoint import RunFolder
from vaebm.cli.train import parse
from vaebm.data import load_splits
from vaebm.recipes import to_dict


def rows_of(finished: FinishedRun, stage: str) -> list[dict[str, Any]]:
    return [row for row in RunFolder(finished.folder).read_metrics() if row["stage"] == stage]


def copy_of(finished: FinishedRun) -> Path:
    return Path(shutil.copytree(finished.folder, "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_run_folder_is_complete(finished: FinishedRun) -> None:
    names = {str(path.relative_to(finished.folder)) for path in finished.folder.rglob("*") if path.is_file()}
    model = {f"model/{name}" for name in ("config.json", "model.safetensors", "calibration.json", "README.md")}
    samples = {f"samples/{name}.png" for name in ("vae_000100", "vae_000200", "energy_000020")}
    files = {"config.yaml", "provenance.json", "metrics.jsonl", "log.txt", "evaluation.json", "report.html"}
    checkpoints = {"checkpoints/last.pt", "checkpoints/previous.pt"}
    # Whether the file of a lock that was let go stays hangs on filelock's version.
    assert names - {".lock"} == files | model | samples | checkpoints | {"model/manifest.json"}


def test_the_configuration_is_complete_and_reloadable(finished: FinishedRun) -> None:
    file = finished.folder / "config.yaml"
    request = parse(["mnist", "--config", str(file)])
    assert request is not None
    expected = parse(["digits", "--seed", "3", *tiny(**FINISHED)])
    assert expected is not None
    assert request.config == expected.config
    assert yaml.safe_load(file.read_text()) == to_dict(expected.config)


def test_provenance_says_what_is_needed_to_repeat_it(finished: FinishedRun) -> None:
    provenance = json.loads((finished.folder / "provenance.json").read_text())
    assert provenance["command"][:3] == ["vaebm", "train", "digits"]
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["versions"]["vaebm"] == vaebm.__version__
    assert (provenance["seed"], provenance["threads"]) == (3, 1)
    assert {"cpu", "cores", "memory_gib", "device"} <= provenance["hardware"].keys()
    assert set(provenance["seconds"]) == {"vae", "energy", "evaluation"}
    assert all(0 < seconds < 300 for seconds in provenance["seconds"].values())
    assert provenance["commit"] is None or len(provenance["commit"].removesuffix("-dirty")) == 40


def test_metrics_hold_the_figures_of_both_stages(finished: FinishedRun) -> None:
    vae, energy = rows_of(finished, "vae"), rows_of(finished, "energy")
    assert [row["iteration"] for row in vae] == list(range(5, 201, 5))
    assert [row["iteration"] for row in energy] == [5, 10, 15, 20]
    for row in vae:
        assert row["elbo"] == pytest.approx(row["log_likelihood"] - row["kl"], abs=0.01)
        # bits_per_dim counts grey levels of 2/255.
        assert row["bits_per_dim"] == pytest.approx((-row["elbo"] / 64 + math.log(127.5)) / math.log(2), abs=1e-3)
    for row in energy:
        assert row["gap"] == pytest.approx(row["data_energy"] - row["sample_energy"], abs=1e-4)
        assert row["noise_norm"] > 0
        assert row["displacement"] > 0
    assert vae[-1]["elbo"] > vae[0]["elbo"] + 100
    assert [row["iteration"] for row in rows_of(finished, "vae_selection")] == [100, 200]
    assert [row["iteration"] for row in rows_of(finished, "selection")] == [10, 20]


def test_the_elbo_of_the_selection_split_is_recorded(finished: FinishedRun) -> None:
    last = rows_of(finished, "vae_selection")[-1]["elbo"]
    images = load_splits("digits").selection.images
    noise = torch.randn(len(images), 16, generator=torch.Generator().manual_seed(0))
    vae = vaebm.load(finished.folder).vae
    with torch.no_grad():
        again = vae.elbo_terms(torch.from_numpy(images).float() / 127.5 - 1, noise).elbo.mean()
    assert last == pytest.approx(float(again), rel=0.03)


def test_the_model_is_the_best_candidate(finished: FinishedRun) -> None:
    details = json.loads((finished.folder / "model" / "config.json").read_text())["details"]
    # 50 samples are fewer than the judge's 128 features.
    best = min(rows_of(finished, "selection"), key=lambda row: row["kernel"])
    chosen = {"kernel": best["kernel"], "iteration": best["iteration"], "num_steps": 10, "step_size": 0.1}
    assert details["selection"] == chosen


def test_sample_grids_are_pictures_of_64_images(finished: FinishedRun) -> None:
    for path in (finished.folder / "samples").iterdir():
        with Image.open(path) as picture:
            assert picture.size == (8 * (8 * 7 + 2) + 2,) * 2
            assert np.asarray(picture).std() > 10


def test_the_model_can_be_used(finished: FinishedRun) -> None:
    model = vaebm.load(finished.folder)
    images = vaebm.generate(model, 4, generator=torch.Generator().manual_seed(0))
    assert images.shape == (4, 1, 8, 8)
    assert -1 <= float(images.min()) < float(images.max()) <= 1
    assert model.sampling == {"num_steps": 10, "step_size": 0.1, "persistence": 0.0}
    test = torch.from_numpy(load_splits("digits").test.images[:50]).float() / 127.5 - 1
    scores = vaebm.outlier_scores(model, test, generator=torch.Generator().manual_seed(0))
    assert scores.energy.isfinite().all()


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        loaded = [
            value or "" for name, value in attrs if name in ("src", "srcset", "data") or (tag, name) == ("link", "href")
        ]
        self.outside += [value for value in loaded if not value.startswith("data:")]


def test_the_report_is_one_self_contained_file(finished: FinishedRun) -> None:
    text = (finished.folder / "report.html").read_text()
    page = _Links()
    page.feed(text)
    assert page.outside == []
    assert page.tags.count("img") >= 4
    assert {"svg", "table"} <= set(page.tags)
    assert "url(http" not in text
    frechet = json.loads((finished.folder / "evaluation.json").read_text())["quality"][2]["frechet"]
    assert f"{frechet:.1f}" in text


def test_the_evaluation_has_every_table(finished: FinishedRun) -> None:
    evaluation = json.loads((finished.folder / "evaluation.json").read_text())
    assert [row["what"] for row in evaluation["quality"]] == ["floor", "VAE", "VAEBM"]
    assert [row["num_steps"] for row in evaluation["steps_curve"]] == [0, 10]
    assert {row["score"] for row in evaluation["outliers"]} == {"energy", "elbo", "joint"}
    assert [row["level"] for row in evaluation["p_values"]] == [0.01, 0.05, 0.1]
    for row in evaluation["quality"]:
        assert (row["n"], row["judge"], len(row["judge_sha256"])) == (100, "digits8_plain", 64)
        assert sum(row["shares"]) == pytest.approx(1)
    floor, vae, energy = (row["frechet"] for row in evaluation["quality"])
    assert evaluation["quality"][2]["closed"] == pytest.approx((vae - energy) / (vae - floor))


def test_what_is_shown_without_a_terminal_are_plain_lines(finished: FinishedRun) -> None:
    assert "\x1b" not in finished.output
    assert "\r" not in finished.output
    for words in (
        "stage vae: 200 iterations",
        "vae 200/200",
        "bits/dim",
        "energy 20/20",
        "|noise|²/D",
        "selection split",
        "peak memory 0.",
    ):
        assert words in finished.output
    assert 0.1 < RunFolder(finished.folder).read_provenance()["peak_memory_gib"] < 1
    assert finished.output.endswith(f"report: {finished.folder}/report.html\n")
    assert finished.output == (finished.folder / "log.txt").read_text()
    assert max(map(len, finished.output.split("Sample quality")[1].splitlines()[1:-1])) <= 80


def test_the_same_seed_gives_the_same_weights_to_the_bit(finished: FinishedRun, cli: Cli) -> None:
    same = cli("train", "digits", "--output", "same", "--seed", 3, *tiny(**FINISHED, evaluation__num_samples="10"))
    assert (same.code, same.errors) == (0, "")
    weights = Path("same/model/model.safetensors").read_bytes()
    assert weights == (finished.folder / "model" / "model.safetensors").read_bytes()
    assert Path("same/metrics.jsonl").read_bytes() == (finished.folder / "metrics.jsonl").read_bytes()
    short = tiny(vae__num_iterations="5", energy__num_iterations="2", evaluation__num_samples="10")
    assert cli("train", "digits", "--output", "other", "--seed", 4, *short).code == 0
    first, other = (RunFolder(folder).read_metrics()[0] for folder in (finished.folder, Path("other")))
    assert first["iteration"] == other["iteration"] == 5
    assert first["elbo"] != other["elbo"]


def test_a_folder_that_is_not_empty_is_left_alone(finished: FinishedRun, cli: Cli) -> None:
    before = contents(finished.folder)
    outcome = cli("train", "digits", "--output", finished.folder, *tiny())
    assert_user_error(outcome, "is not empty", f"--resume {finished.folder}")
    assert outcome.output == ""
    assert contents(finished.folder) == before
    Path("file").write_text("")
    assert_user_error(cli("train", "digits", "--output", "file"), "file")


def test_resuming_a_finished_run_says_where_its_report_is(finished: FinishedRun, cli: Cli) -> None:
    before = contents(finished.folder)
    outcome = cli("train", "--resume", finished.folder)
    assert (outcome.code, outcome.errors) == (0, "")
    assert outcome.output == f"the run {finished.folder} is finished; report: {finished.folder}/report.html\n"
    assert contents(finished.folder) == before


@pytest.mark.parametrize("missing", ["report.html", "model", "evaluation.json"])
def test_resuming_makes_what_is_missing_at_the_end(finished: FinishedRun, cli: Cli, missing: str) -> None:
    folder = copy_of(finished)
    before = contents(folder)
    shutil.rmtree(folder / missing) if missing == "model" else (folder / missing).unlink()
    outcome = cli("train", f"--resume={folder}")
    assert (outcome.code, outcome.errors) == (0, "")
    assert "stage" not in outcome.output
    assert ("drawing 100 samples" in outcome.output) == (missing == "evaluation.json")
    after = contents(folder)
    assert after.keys() == before.keys()
    for name in ("evaluation.json", "metrics.jsonl", "model/model.safetensors", "model/calibration.json"):
        assert after[name] == before[name]
    provenance = json.loads(after["provenance.json"])
    assert len(provenance["resumed"]) == 1
    assert provenance["seconds"]["vae"] == json.loads(before["provenance.json"])["seconds"]["vae"]


@pytest.mark.parametrize("name", ["checkpoints/last.pt", "config.yaml", "metrics.jsonl", "provenance.json"])
@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_damaged_runs_are_named_in_one_line(finished: FinishedRun, cli: Cli, name: str, damage: str) -> None:
    folder = copy_of(finished)
    (folder / "report.html").unlink()
    path = folder / name
    content = path.read_bytes()
    middle = content.index(b"\n", len(content) // 2) + 1
    path.write_bytes(content[:middle] + (b"\x00" + content[middle + 1 :] if damage == "altered" else b""))
    outcome = cli("train", "--resume", folder)
    if (name, damage) == ("metrics.jsonl", "truncated"):
        # Rows may be missing after a crash, and the checkpoint counts them.
        assert outcome.code == 0
    else:
        assert_user_error(outcome, path.name)


@pytest.mark.parametrize("text", ["[]", "{}"])
def test_an_evaluation_without_figures_is_not_taken_for_one(finished: FinishedRun, cli: Cli, text: str) -> None:
    folder = copy_of(finished)
    (folder / "report.html").unlink()
    (folder / "evaluation.json").write_text(text)
    assert_user_error(cli("train", "--resume", folder), "evaluation.json is damaged: remove it")


def test_other_images_are_told_that_the_judges_are_of_digits(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the extra `features`, the bundled classifiers are all there is.
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8), dtype=np.uint8)
    np.savez("noise.npz", images=pixels)
    outcome = cli(
        "train", "digits", "--data.source", "noise.npz", *tiny(vae__num_iterations="2", energy__num_iterations="2")
    )
    assert outcome.code == 0
    assert outcome.output.count("the judges are classifiers of digits: their distances say little about") == 1


def test_a_run_goes_on_with_all_of_its_configuration_or_not_at_all(finished: FinishedRun, cli: Cli) -> None:
    folder = copy_of(finished)
    (folder / "report.html").unlink()
    lines = (folder / "config.yaml").read_text().splitlines(keepends=True)
    (folder / "config.yaml").write_text("".join(line for line in lines if "step_size" not in line))
    outcome = cli("train", "--resume", folder)
    assert_user_error(outcome, "config.yaml lacks energy.step_size, sampling.step_size: restore it")


def test_another_number_of_threads_is_told(finished: FinishedRun, cli: Cli) -> None:
    folder = copy_of(finished)
    (folder / "report.html").unlink()
    text = (folder / "provenance.json").read_text()
    (folder / "provenance.json").write_text(text.replace('"threads": 1', '"threads": 64'))
    assert "the run began with 64 threads" in cli("train", "--resume", folder).output


def test_a_checkpoint_of_another_network_is_refused(finished: FinishedRun, cli: Cli) -> None:
    folder = copy_of(finished)
    (folder / "report.html").unlink()
    values = yaml.safe_load((folder / "config.yaml").read_text())
    values["vae_network"]["widths"] = [16]
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    assert_user_error(cli("train", "--resume", folder), "of another run", "or config.yaml was changed")
    # A checkpoint of an older vaebm doesn't say of which run it is.
    run = RunFolder(folder)
    state = run.load_checkpoint("last")
    assert state is not None
    run.save_checkpoint("last", {name: value for name, value in state.items() if name != "identity"})
    (run.checkpoints / "previous.pt").unlink()
    assert_user_error(cli("train", "--resume", folder), "doesn't fit its config.yaml", "size mismatch")


def test_divergence_is_said_in_one_line(cli: Cli) -> None:
    words = tiny(vae__learning_rate="1e30", vae__clip_norm="1e30", energy__num_iterations="1")
    outcome = cli("train", "digits", "--output", "run", *words)
    assert_user_error(outcome, "stage vae diverged at iteration", "--vae.learning_rate")


@pytest.mark.parametrize(("count", "shape"), [(40, (3, 12, 10)), (12, (1, 8, 8))])
def test_images_of_ones_own(cli: Cli, count: int, shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    np.savez("own.npz", images=images)
    words = tiny(vae__num_iterations="2", energy__num_iterations="2", data__source="own.npz")
    outcome = cli("train", "digits", "--output", "run", *words)
    assert (outcome.code, outcome.errors) == (0, "")
    assert "the quality of samples is not measured" in outcome.output
    assert "quality" not in json.loads(Path("run/evaluation.json").read_text())
    assert Path("run/report.html").is_file()
    assert cli("sample", "run", "-n", 2, "--output", "own.npz").code == 0
    with np.load("own.npz") as file:
        assert file["images"].shape == (2, *shape)


def test_a_run_whose_checkpoint_is_gone_is_not_started_anew(finished: FinishedRun, cli: Cli) -> None:
    folder = copy_of(finished)
    (folder / "report.html").unlink()
    for name in ("last.pt", "previous.pt"):
        (folder / "checkpoints" / name).unlink()
    before = contents(folder)
    assert_user_error(cli("train", "--resume", folder), "no checkpoint", "start a new run")
    assert contents(folder) == before


def test_too_few_calibration_images_are_told(cli: Cli) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez("few.npz", images)
    short = tiny(vae__num_iterations="1", energy__num_iterations="1", evaluation__num_samples="10")
    outcome = cli("train", "digits", "--output", "few", *short, "--data.source", "few.npz")
    assert outcome.code == 0
    assert "6 calibration images: no p-value will be below 0.14" in outcome.output


def test_the_best_number_of_steps_becomes_the_models_and_stays_with_a_run_that_goes_on(cli: Cli) -> None:
    options = ["--selection.num_steps", "[1,12]", "--energy.num_iterations", "40", "--sampling.persistence", "0.4"]
    assert cli("train", "digits", "--output", "run", *tiny(), *options).code == 0
    rows = [row for row in RunFolder(Path("run")).read_metrics() if row["stage"] == "selection"]
    assert {row["num_steps"] for row in rows} == {1, 12}
    best = min(rows, key=lambda row: row["kernel"])["num_steps"]
    assert vaebm.load("run").sampling == {"num_steps": best, "step_size": 0.1, "persistence": 0.4}
    assert "persistence=0.4" in Path("run/model/README.md").read_text()
    evaluation = json.loads(Path("run/evaluation.json").read_text())
    assert evaluation["num_steps"] == best
    for name in ("report.html", "evaluation.json"):
        Path("run", name).unlink()
    assert cli("train", "--resume", "run").code == 0
    assert json.loads(Path("run/evaluation.json").read_text())["quality"] == evaluation["quality"]
    assert vaebm.load("run").sampling == {"num_steps": best, "step_size": 0.1, "persistence": 0.4}


def test_the_best_vae_is_kept_and_the_stage_ends_when_patience_does(cli: Cli) -> None:
    # Far too high a rate: the ELBO falls again soon.
    options = ["--selection.vae_every", "20", "--selection.vae_patience", "2", "--vae.learning_rate", "0.05"]
    assert cli("train", "digits", "--output", "run", *tiny(**FINISHED), *options).code == 0
    folder = RunFolder(Path("run"))
    looks = [row for row in folder.read_metrics() if row["stage"] == "vae_selection"]
    best = max(looks, key=lambda row: row["elbo"])
    behind = [row for row in looks if row["iteration"] > best["iteration"]]
    assert all(row["iteration"] % 20 == 0 for row in looks)
    if looks[-1]["iteration"] < 200:
        assert len(behind) == 2
    log = folder.log.read_text()
    assert f"the VAE of iteration {best['iteration']} is kept" in log
    held_out = load_splits("digits").selection.images
    size = vaebm.load("run").noise_layout.latent_size
    noise = torch.randn(len(held_out), size, generator=torch.Generator().manual_seed(0 * 1000 + 10))
    with torch.no_grad():
        again = vaebm.load("run").vae.elbo_terms(torch.from_numpy(held_out).float() / 127.5 - 1, noise).elbo.mean()
    assert best["elbo"] == pytest.approx(float(again), rel=1e-4)
