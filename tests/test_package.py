"""The face of the package: few names, handed on only when they are used."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

import vaebm
from vaebm import applications
from vaebm.recipes import build


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "accelerate", "matplotlib", "sklearn", "huggingface_hub", "vaebm.recipes"}
    assert run(f"import sys, vaebm; dir(vaebm); vaebm.__version__; print({heavy} & set(sys.modules))") == "set()"


def test_first_use_brings_torch() -> None:
    assert run("import sys, vaebm; vaebm.generate; print('torch' in sys.modules)") == "True"


def test_public_names_are_those_of_their_homes() -> None:
    assert vaebm.load is build.load
    assert vaebm.save is build.save
    assert vaebm.generate is applications.generate
    assert vaebm.outlier_scores is applications.outlier_scores
    assert vaebm.__version__ == importlib.metadata.version("vaebm")


def test_names_can_be_listed_and_star_imported() -> None:
    assert set(vaebm.__all__) <= set(dir(vaebm))
    names: dict[str, object] = {}
    exec("from vaebm import *", names)
    assert names["load"] is build.load


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="'vaebm' has no attribute 'train_me'"):
        vaebm.train_me  # noqa: B018
    assert not hasattr(vaebm, "utils")


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "vaebm", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "train" in result.stdout
