"""A name means one model folder, or is refused with a line that helps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vaebm.checkpoint import (
    CheckpointError,
    RunFolder,
    StoredModel,
    bundled_models,
    load_model_folder,
    resolve_model,
    save_model_folder,
)
from vaebm.checkpoint.model_folder import previous_folder
from vaebm.checkpoint.resolve import BUNDLED

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def make_folder(path: Path) -> Path:
    return save_model_folder(path, StoredModel({"where": path.name}, {"weight": torch.ones(2)}))


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    for name in ("mnist", "digits"):
        make_folder(tmp_path / "bundled" / name)
    (tmp_path / "bundled" / "unfinished").mkdir()
    return tmp_path / "bundled"


def assert_refused(name: str | Path, bundled: Path, *words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_model(name, bundled)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_bundled_names_win_and_are_listed(bundled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundled.parent)
    make_folder(Path("mnist"))
    assert bundled_models(bundled) == ("digits", "mnist")
    assert resolve_model("mnist", bundled) == bundled / "mnist"
    assert resolve_model("./mnist", bundled).resolve() == bundled.parent / "mnist"


def test_whatever_is_bundled_with_the_package_can_be_loaded() -> None:
    for name in bundled_models():
        assert load_model_folder(resolve_model(name)).tensors
    for manifest in BUNDLED.rglob("manifest.json"):
        assert load_model_folder(manifest.parent).tensors


def test_model_folders_and_run_folders_are_found(bundled: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "somewhere" / "model")
    run = RunFolder(tmp_path / "run").create("", {})
    make_folder(run.model)
    assert resolve_model(folder, bundled) == folder
    assert resolve_model(str(run.path), bundled) == run.model
    assert load_model_folder(resolve_model(run.path, bundled)).config == {"where": "model"}


def test_a_home_folder_may_be_written_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = make_folder(tmp_path / "model")
    assert resolve_model("~/model", tmp_path / "none") == folder


def test_a_model_that_was_being_replaced_is_found(bundled: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run").create("", {})
    os.rename(make_folder(run.model), previous_folder(run.model))
    assert load_model_folder(resolve_model(run.path, bundled)).config == {"where": "model"}


def test_misspelt_names_get_the_nearest_bundled_one(bundled: Path, tmp_path: Path) -> None:
    assert_refused("mnits", bundled, "'mnits'", "nearest bundled model is 'mnist'")
    assert_refused("digit", bundled, "nearest bundled model is 'digits'")
    assert_refused("", bundled, "give")
    assert_refused("x" * 5000, bundled, "cannot read")
    assert_refused("mnist", tmp_path / "none", "no models are bundled here")
    assert bundled_models(tmp_path / "none") == ()


def test_refusals_say_what_is_there_instead(bundled: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run").create("", {})
    assert_refused(run.path, bundled, "has no model yet", f"vaebm train --resume {run.path}")
    assert_refused(run.samples, bundled, "neither a model folder", "nor a run folder")
    assert_refused(run.config, bundled, "is a file")
    folder = make_folder(tmp_path / "model")
    assert_refused(folder / "model.safetensors", bundled, "give the folder")
    (folder / "manifest.json").unlink()
    assert_refused(folder, bundled, "manifest.json is missing", "not a whole model folder")


def test_a_typing_error_in_a_local_path_does_not_ask_the_hub(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert_refused("runs/mnist-1", bundled, "no model 'runs/mnist-1'")
    assert_refused("/no/where", bundled, "no model")


def run_offline(code: str, cache: Path, *arguments: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "HF_HOME": str(cache)}
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(
        command, env=environment, cwd=cache, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


RESOLVE = """
import sys
from vaebm.checkpoint import CheckpointError, resolve_model
try:
    print(resolve_model(sys.argv[1]))
except CheckpointError as error:
    print("refused:", error)
"""


def test_hub_ids_are_fetched_by_the_hub_client(tmp_path: Path) -> None:
    repository = tmp_path / "models--someone--digits"
    snapshot = make_folder(repository / "snapshots" / COMMIT)
    empty = tmp_path / "models--someone--other"
    (empty / "snapshots" / COMMIT).mkdir(parents=True)
    for place in (repository, empty):
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(COMMIT)
    assert run_offline(RESOLVE, tmp_path, "someone/digits") == str(snapshot)
    assert "'someone/other' is not a vaebm model" in run_offline(RESOLVE, tmp_path, "someone/other")
    shutil.rmtree(repository)
    answer = run_offline(RESOLVE, tmp_path, "someone/digits")
    assert answer.startswith("refused: no folder 'someone/digits', and it could not be fetched from the hub")
    assert "\n" not in answer


def test_finding_a_model_imports_neither_torch_nor_the_hub_client(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    check = RESOLVE + "print(sorted({'torch', 'huggingface_hub', 'safetensors', 'numpy'} & set(sys.modules)))"
    assert run_offline(check, tmp_path, str(folder)) == f"{folder}\n[]"
