"""Which commit a run comes from: a checkout's, that of the tree pip installed from, or none."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from vaebm.cli import provenance

SOURCE = Path(provenance.__file__).parent.parent


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, str]:
    """An installed copy of the package outside any checkout, the tree that it was installed from, and its commit."""
    package, tree = tmp_path / "site-packages" / "vaebm", tmp_path / "tree"
    for target in (package, tree / "src" / "vaebm"):
        shutil.copytree(SOURCE, target, ignore=lambda _, names: [n for n in names if n in ("bundled", "__pycache__")])
    git(tmp_path, "init", "--quiet", str(tree))
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "x")
    monkeypatch.setattr(provenance, "__file__", str(package / "cli" / "provenance.py"))
    return package, tree, git(tree, "rev-parse", "HEAD")


def record(monkeypatch: pytest.MonkeyPatch, told: dict[str, object] | None) -> None:
    class Distribution:
        @staticmethod
        def read_text(name: str) -> str | None:
            return None if told is None else json.dumps(told)

    monkeypatch.setattr(provenance, "distribution", lambda name: Distribution)


def test_the_tree_that_pip_installed_from(installed: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    package, tree, commit = installed
    record(monkeypatch, {"url": tree.as_uri(), "dir_info": {}})
    assert provenance._commit() == commit
    (package / "cli" / "extra.py").write_text("")
    assert provenance._commit() == f"{commit}-dirty"
    (tree / "src" / "vaebm" / "cli" / "main.py").write_text("")
    assert provenance._commit() == f"{commit}-dirty"


def test_a_commit_that_pip_fetched(installed: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    record(monkeypatch, {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "a" * 40}})
    assert provenance._commit() == "a" * 40


@pytest.mark.parametrize("told", [None, {}, {"url": "file:///nowhere", "dir_info": {}}, {"url": "https://x/y.whl"}])
def test_from_an_index_there_is_none(
    installed: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch, told: dict[str, object] | None
) -> None:
    record(monkeypatch, told)
    assert provenance._commit() is None
