"""The command as a whole: help, unknown words, light imports, models that can't be read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Cli, FinishedRun, assert_user_error, command, in_process_of_its_own

from forking import environment
from vaebm.checkpoint import load_model_folder
from vaebm.cli.main import VERBS

MODEL_FILES = ("config.json", "model.safetensors", "calibration.json", "README.md", "manifest.json")


def test_help_lists_the_verbs(cli: Cli) -> None:
    outcome = cli("--help")
    assert (outcome.code, outcome.errors) == (0, "")
    for verb in ("train", "sample", "evaluate", "score"):
        assert f"\n  {verb} " in outcome.output
    assert cli().output == cli("-h").output == outcome.output


@pytest.mark.parametrize("verb", list(VERBS))
def test_each_verb_has_help_that_fits_a_terminal(cli: Cli, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = cli(verb, "--help")
    assert (outcome.code, outcome.errors) == (0, "")
    assert outcome.output.startswith(f"usage: vaebm {verb} ")
    assert max(map(len, outcome.output.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["sample", "-h"], ["score", "-h"], ["evaluate", "-h"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = {"torch", "numpy", "accelerate", "matplotlib", "sklearn", "jsonargparse", "yaml"}
    code = f"import sys; from vaebm.cli.main import run; run({arguments}); print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.endswith("set()\n")


def test_help_survives_terminals_without_greek() -> None:
    outcome = in_process_of_its_own("sample", "--help", PYTHONIOENCODING="ascii")
    assert (outcome.code, outcome.errors) == (0, "")
    assert "--step-size ?" in outcome.output


def test_a_closed_pipe_is_no_traceback() -> None:
    with subprocess.Popen(
        command("--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (1, "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("trian mnist", ["unknown verb 'trian'", "did you mean train?"]),
        ("--hepl", ["unknown option '--hepl'"]),
        ("sample", ["required: model"]),
        ("sample x --num-im 3", ["unknown option --num-im", "did you mean --num-images?"]),
        ("sample x -n 0", ["'0' is not a whole number of at least 1"]),
        ("sample x --num-steps -1", ["--num-steps"]),
        ("sample x --step-size 0", ["'0' is not a number above 0"]),
        ("sample x --seed 99999999999", ["from 0 to 4294967295"]),
        ("sample x --output a.jpg", ["'.jpg'", ".png or .npz"]),
        ("sample x --output none/a.png", ["there is no folder none"]),
        ("sample x --chain a.gif --output a.png", ["--chain and --output"]),
        ("sample x --chain a.png", ["expected .gif"]),
        ("sample here", ["no model 'here'"]),
        ("sample x y", ["unexpected y"]),
        ("score here", ["required: images"]),
        ("score here images.npz --output none/a.csv", ["there is no folder none"]),
        ("score here images.npz --false-positive-rate 1.5", ["'1.5' is not a number between 0 and 1"]),
        ("score here images.npz", ["no model 'here'"]),
        ("evaluate here --precision fp64", ["fp64"]),
        ("evaluate here --seed -1", ["--seed", "from 0 to 4294967295"]),
        ("evaluate here --steps 0,30,10", ["'0,30,10' does not ascend"]),
        ("evaluate here --steps 0,x", ["'x' is not a whole number"]),
        ("sample ~nobody-by-this-name/run", ["no model '~nobody-by-this-name/run'"]),
        (f"sample {'x' * 300} --output a.png", ["File name too long"]),
        (f"sample x --output {'x' * 300}.png", ["File name too long"]),
        ("sample mnist -n 100000000000000000000", ["-n", "is not a whole number"]),
        ("sample mnist -n 100000000000000 --num-steps 0", ["memory of this machine is not enough"]),
        ("evaluate here", ["no model 'here'"]),
    ],
)
def test_bad_command_lines_get_one_line(cli: Cli, line: str, words: list[str]) -> None:
    outcome = cli(*line.split())
    assert_user_error(outcome, *words)
    assert outcome.output == ""
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in MODEL_FILES
        for damage in ("altered", "truncated", "missing")
        if name != "README.md" or damage == "missing"
    ],
)
def test_damaged_models_are_named_in_one_line(finished: FinishedRun, cli: Cli, name: str, damage: str) -> None:
    folder = Path("damaged")
    shutil.copytree(finished.folder / "model", folder)
    path = folder / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    for arguments in (("sample", folder, "--num-steps", 0), ("evaluate", folder), ("score", folder, "digits")):
        assert_user_error(cli(*arguments), name)
    assert [entry.name for entry in Path.cwd().iterdir()] == ["damaged"]


def test_a_folder_that_is_no_vaebm_is_refused(finished: FinishedRun, cli: Cli) -> None:
    assert_user_error(cli("sample", finished.folder / "samples"), "neither a model folder", "nor a run folder")
    assert load_model_folder(finished.folder / "model").config["kind"] == "vaebm"
