"""``make reproduce``: each claim names scripts that exist and words that they take."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vaebm.cli.benchmark import _parser as rivals_parser

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
CLAIMS = (
    "mnist", "cifar10", "stacked-mnist", "rivals", "rivals-cifar10", "rivals-nvae", "standard", "own-images",
    "short-chains", "short-chains-mnist", "modes-plane", "modes-stacked", "density", "outliers-mnist",
    "outliers-cifar10", "defects", "false-alarms", "export", "survival", "step", "scaling",
)  # fmt: skip


class Parsed(Exception):
    """A script has read its command line; the words that it leaves to others."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script of benchmarks by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def parse(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[str]], Any]:
    """Runs a script until it has read its command line; returns the words that it leaves to others."""
    original, depth = argparse.ArgumentParser.parse_known_args, [0]

    def read(self: argparse.ArgumentParser, *arguments: Any, **named: Any) -> Any:
        # Parsers of sub-commands read within it.
        depth[0] += 1
        try:
            found = original(self, *arguments, **named)
        finally:
            depth[0] -= 1
        if depth[0]:
            return found
        raise Parsed(found[1])

    def run(name: str, words: list[str]) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(argparse.ArgumentParser, "parse_known_args", read)
            patched.setattr(sys, "argv", [name, *words])
            with pytest.raises(Parsed) as parsed:
                script(name.removesuffix(".py")).main()  # type: ignore[attr-defined]
        return parsed.value.args[0]

    return run


def test_every_claim_is_tested(script: Callable[[str], Any]) -> None:
    assert tuple(script("reproduce").CLAIMS) == CLAIMS


@pytest.mark.parametrize("claim", CLAIMS)
def test_its_commands_are_shown_and_parse(
    claim: str, script: Callable[[str], Any], parse: Callable[[str, list[str]], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce = script("reproduce")
    assert reproduce.main([claim, "--images", "nowhere", "--dry-run"]) == 0
    shown = [line.removeprefix("$ python ") for line in capsys.readouterr().out.splitlines()]
    commands = reproduce.CLAIMS[claim].commands
    assert len(shown) == len(commands)
    for command, line in zip(commands, shown, strict=True):
        name, *words = shlex.split(command)
        assert line.startswith(str(BENCHMARKS / name))
        assert (BENCHMARKS / name).is_file()
        rest = parse(name, words)
        if name == "rivals.py" and rest:
            judges = rivals_parser().parse_args(["mnist", "--output", "out", *rest]).judges
            assert judges is None or judges.is_dir()
            rest = []
        assert rest == []


def test_claims_with_a_row_end_with_the_table_of_claims(script: Callable[[str], Any]) -> None:
    reproduce, evidence = script("reproduce"), script("evidence")
    shown = {name for _, _, name, _ in evidence.CLAIMS}
    ending = {name for name, claim in reproduce.CLAIMS.items() if claim.commands[-1] == reproduce.EVIDENCE}
    assert shown == ending


def test_what_is_missing_is_told(
    script: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce = script("reproduce")
    monkeypatch.setattr(reproduce, "ROOT", tmp_path / "benchmarks")
    monkeypatch.setattr(reproduce.subprocess, "run", lambda *arguments, **named: pytest.fail("it ran"))

    def told(*words: str) -> str:
        assert reproduce.main([*words, "--images", str(tmp_path)]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.count("\n") == 1
        return shown.err

    assert "expected one of mnist, cifar10" in told("mnsit")
    assert "fashion.npz missing" in told("mnist")
    for name in ("mnist", "fashion"):
        (tmp_path / f"{name}.npz").write_bytes(b"")
    assert "cifar10.npz missing" in told("outliers-cifar10")
    (tmp_path / "cifar10.npz").write_bytes(b"")
    assert "make reproduce CLAIM=modes-stacked first" in told("short-chains")
    monkeypatch.setattr(reproduce, "find_spec", lambda name: None)
    assert "needs the extra 'features': pip install" in told("cifar10")
    assert "needs the extra 'export': pip install" in told("export")


def test_a_claim_ends_where_a_command_fails(
    script: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reproduce, ran = script("reproduce"), []

    def run(words: list[str], **named: Any) -> argparse.Namespace:
        ran.append(Path(words[1]).name)
        return argparse.Namespace(returncode=3)

    monkeypatch.setattr(reproduce, "ROOT", tmp_path / "benchmarks")
    monkeypatch.setattr(reproduce.subprocess, "run", run)
    assert reproduce.main(["modes-stacked"]) == 3
    assert ran == ["modes.py"]


def test_folders_of_images_that_arent_there_are_left_out(
    script: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, trained = script("images"), []
    monkeypatch.setattr(images, "train", lambda name, *further: trained.append(name))
    monkeypatch.setattr(images, "measured", lambda name, folder: {})
    monkeypatch.setattr(images, "num_training", lambda data, name: 1)
    monkeypatch.setattr(images, "record", lambda *arguments: None)
    own = tmp_path / "own"
    monkeypatch.setattr(sys, "argv", ["images.py", "folders", "--photographs", "nowhere", "--every", "200",
                                      "--output", str(own)])  # fmt: skip
    images.main()
    assert "no folder nowhere: left out" in capsys.readouterr().out
    assert [path.name for path in own.iterdir()] == ["elevations"]
    monkeypatch.setattr(sys, "argv", ["images.py", "run", "--data", str(own), "--runs", str(tmp_path / "runs")])
    images.main()
    assert trained == ["elevations"]
    assert capsys.readouterr().out.count("left out") == 2
