"""Damaged models, images that don't fit them, places that can't be written: one line each, and nothing lost."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Cli, assert_user_error, command, tiny

import vaebm
from forking import Outcome, Process, environment
from vaebm.checkpoint import RunFolder
from vaebm.cli.running import CHECKPOINT
from vaebm.cli.stages import train_stages
from vaebm.cli.stop import Interrupted, StopRequest
from vaebm.cli.train import begin, parse
from vaebm.metrics.calibration import threshold
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork

SCORES = [float(score) for score in range(39)]
CALIBRATION = {
    "score": "joint",
    "seed": 3,
    "num_posterior_samples": 1,
    "false_positive_rate": 0.1,
    "threshold": threshold(torch.tensor(SCORES), 0.1),
    "outlier_scores": SCORES,
}
SEALED = ("config.json", "model.safetensors", "calibration.json", "manifest.json")
SHORT = tiny(
    vae__num_iterations="2", energy__num_iterations="2", selection__num_candidates="1", report_every="1",
    evaluation__num_samples="10", sample_every="1000", checkpoint_every="1",
)  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An untrained model of 8×8 images in a model folder that can be used."""
    network = VAEBM(ConvVAE((1, 8, 8), (4,), widths=(8,)), EnergyNetwork((1, 8, 8), widths=(4,)))
    vaebm.save(network, tmp_path / "model", calibration=CALIBRATION)
    np.savez(tmp_path / "images.npz", images=np.zeros((3, 8, 8), np.uint8))
    return tmp_path / "model"


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def altered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


COMMANDS = [["score", "model", "images.npz"], ["export", "model", "--onnx", "scorer.onnx"]]


def test_the_model_can_be_used_as_long_as_it_is_whole(model: Path, cli: Cli) -> None:
    for words in COMMANDS:
        assert cli(*words).code == 0
    assert Path("scores.csv").is_file()
    assert Path("scorer.onnx").is_file()


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: str(words[0]))
@pytest.mark.parametrize("damage", [missing, empty, truncated, altered, replaced_by_a_folder])
@pytest.mark.parametrize("name", SEALED)
def test_a_damaged_file_is_named_and_nothing_written(
    model: Path, cli: Cli, name: str, damage: Callable[[Path], None], words: list[str]
) -> None:
    damage(model / name)
    before = content(model.parent)
    assert_user_error(cli(*words), name)
    assert content(model.parent) == before


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def reseal(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes a JSON file and its entry in the manifest, as somebody does who means to."""
    values = json.loads((folder / name).read_text())
    change(values)
    data = json.dumps(values).encode()
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


RESEALED = [
    ("calibration.json", {"threshold": 1.5}, "threshold 1.5"),
    ("calibration.json", {"false_positive_rate": 0.75}, "rate of 0.75"),
    ("calibration.json", {"false_positive_rate": 0.01}, "rate 0.01 is below 1 / 40"),
    ("calibration.json", {"false_positive_rate": "often"}, "calibration.json"),
    ("calibration.json", {"outlier_scores": []}, "calibration_scores has shape (0,)"),
    ("calibration.json", {"outlier_scores": ["low", 2.0]}, "calibration.json"),
    ("calibration.json", {"outlier_scores": [1.0, "nan"]}, "calibration_scores holds NaN"),
    ("calibration.json", {"num_posterior_samples": 0}, "calibration.json"),
    ("calibration.json", {"seed": -1}, "calibration.json"),
    ("config.json", {"kind": "cake"}, "'cake'"),
    ("config.json", {"preprocessing": {"image_size": [7, 7]}}, "image size 7x7"),
    ("config.json", {"preprocessing": {"sharpen": True}}, "unknown key 'sharpen'"),
    ("config.json", {"preprocessing": [3]}, "config.json"),
    ("config.json", {"vae": {"class": "DeepVAE"}}, "'DeepVAE'"),
]


@pytest.mark.parametrize(("name", "changes", "said"), RESEALED)
def test_values_that_can_not_be_used_are_named(
    model: Path, cli: Cli, name: str, changes: dict[str, Any], said: str
) -> None:
    reseal(model, name, lambda values: values.update(changes))
    for words in COMMANDS:
        assert_user_error(cli(*words), said)


def test_a_folder_of_before_decisions_and_preprocessing_were_stored_still_loads(model: Path, cli: Cli) -> None:
    for key in ("false_positive_rate", "threshold"):
        reseal(model, "calibration.json", lambda values, key=key: values.pop(key))
    reseal(model, "config.json", lambda values: values.pop("preprocessing"))
    assert cli("export", "model", "--onnx", "out").code == 0
    assert json.loads(Path("out/scorer.json").read_text())["decision"]["false_positive_rate"] == 0.05


@pytest.mark.parametrize("shape", [(9, 9), (8, 8, 3), (3, 8, 8), (8,), (0, 8, 8)])
def test_images_of_another_size_are_named(model: Path, cli: Cli, shape: tuple[int, ...]) -> None:
    np.save("others.npy", np.zeros((2, *shape) if 0 not in shape else shape, np.uint8))
    before = content(model.parent)
    assert_user_error(cli("score", "model", "others.npy"), "others.npy")
    assert content(model.parent) == before


def test_an_output_that_can_not_be_written_is_named(model: Path, cli: Cli) -> None:
    Path("file").write_text("mine")
    assert_user_error(cli("score", "model", "images.npz", "--output", "file/scores.csv"), "file")
    assert_user_error(cli("export", "model", "--onnx", "file/scorer"), "file")
    if Path("/proc/self").is_dir():
        assert_user_error(cli("score", "model", "images.npz", "--output", "/proc/self/scores.csv"), "/proc/self")
    assert Path("file").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions don't bind root")
def test_a_folder_without_rights_is_named(model: Path, cli: Cli) -> None:
    Path("closed").mkdir(mode=0o500)
    assert_user_error(cli("score", "model", "images.npz", "--output", "closed/scores.csv"), "closed/scores.csv")
    assert_user_error(cli("export", "model", "--onnx", "closed/scorer"), "closed/scorer")
    assert list(Path("closed").iterdir()) == []


def limited(words: list[object], size: int, folder: Path) -> Outcome:
    """Runs a command whose files may not grow beyond a size: the write that would fails as on a full disk."""

    return Process("vaebm", *words, folder=folder, file_size=size).outcome()


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run with a checkpoint after the first of its iterations."""
    monkeypatch.chdir(tmp_path)
    arguments = ["digits", "--output", "run", *SHORT]
    request, stop = parse(arguments), StopRequest()
    assert request is not None
    run = begin(request, stop, arguments)
    stop.name = "SIGTERM"
    with pytest.raises(Interrupted):
        train_stages(run)
    run.close()
    return RunFolder(Path("run"))


def test_a_write_that_fails_leaves_the_last_checkpoint_which_is_named(stopped: RunFolder, tmp_path: Path) -> None:
    before = (stopped.checkpoints / f"{CHECKPOINT}.pt").read_bytes()
    outcome = limited(["train", "--resume", "run"], len(before) // 2, tmp_path)
    assert_user_error(outcome, f"{CHECKPOINT}.pt", "File too large", "checkpoint is whole", "train --resume run")
    assert (stopped.checkpoints / f"{CHECKPOINT}.pt").read_bytes() == before
    assert {path.name for path in stopped.checkpoints.iterdir()} == {f"{CHECKPOINT}.pt"}
    loaded = stopped.load_checkpoint(CHECKPOINT)
    assert loaded is not None
    assert (loaded["stage"], loaded["state"]["iteration"]) == ("vae", 1)
    assert limited(["train", "--resume", "run"], resource.RLIM_INFINITY, tmp_path).code == 0
    assert vaebm.load("run").image_shape == (1, 8, 8)


def test_a_first_checkpoint_that_fails_is_said_to_be_none(tmp_path: Path) -> None:
    outcome = limited(["train", "digits", "--output", "run", *SHORT], 100_000, tmp_path)
    assert_user_error(outcome, "File too large", "no checkpoint was written yet")


@pytest.mark.parametrize("words", [*COMMANDS, ["export", "model", "--onnx", "folder"]], ids=lambda words: words[-1])
def test_an_output_that_does_not_fit_leaves_nothing(model: Path, words: list[str]) -> None:
    np.savez(model.parent / "images.npz", images=np.zeros((300, 8, 8), np.uint8))
    before = sorted(model.parent.rglob("*"))
    assert_user_error(limited([*words], 4000, model.parent), "File too large", "check space")
    assert sorted(model.parent.rglob("*")) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small disk can't be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_leaves_a_run_to_go_on_with(small_disk: Path, stopped: RunFolder) -> None:
    shutil.copytree(stopped.path, small_disk / "run")
    before = (small_disk / "run/checkpoints" / f"{CHECKPOINT}.pt").read_bytes()
    free = os.statvfs(small_disk)
    (small_disk / "filling").write_bytes(bytes(free.f_bavail * free.f_bsize - len(before) // 2))
    outcome = limited(["train", "--resume", "run"], resource.RLIM_INFINITY, small_disk)
    assert_user_error(outcome, "No space left on device", "checkpoint is whole", "train --resume run")
    assert RunFolder(small_disk / "run").load_checkpoint(CHECKPOINT) is not None


def test_a_full_terminal_or_pipe_is_one_line(model: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("score", "model", "images.npz"), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            cwd=model.parent, env=environment(),
        )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("vaebm: the disk is full")
