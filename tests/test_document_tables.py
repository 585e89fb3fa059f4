"""The tables of the documents are those that the scripts make of the committed results."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from vaebm.cli.parsing import UsageError

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
# Without those of processes, which reckon anew what all recipes cost, for a minute and a half.
TABLES = [
    ("evidence.py DOCUMENT", "docs/evidence.md", "claims"),
    ("short_chains.py table DOCUMENT", "docs/evidence.md", "short-chains"),
    ("modes.py table DOCUMENT", "docs/evidence.md", "modes"),
    ("standard_scores.py table DOCUMENT", "docs/evidence.md", "standard"),
    ("rivals.py table DOCUMENT", "docs/benchmark.md", "rivals rivals-steps rivals-time rivals-iterations"),
    ("outlier_scores.py table DOCUMENT", "docs/scores.md", "outliers"),
    ("defects.py table --document DOCUMENT", "docs/scores.md", "defects"),
    ("false_alarms.py table --document DOCUMENT", "docs/scores.md", "false_alarms"),
    ("images.py table --document DOCUMENT", "docs/images.md", "images"),
    ("stress.py table DOCUMENT", "docs/guard.md", "stress ablation seeds longer"),
    ("guard_cost.py table DOCUMENT", "docs/guard.md", "guard-cost"),
    ("kills.py --table DOCUMENT", "docs/guard.md", "kills"),
    ("small.py table DOCUMENT", "docs/nvae.md", "small small-costs"),
    ("step.py --table DOCUMENT", "docs/nvae.md", "step"),
    ("step_attempts.py --table DOCUMENT", "docs/nvae.md", "attempts-steps attempts-parts"),
    ("training.py table DOCUMENT", "docs/nvae.md", "stage1 stage2 buffer"),
    ("gaussians.py --table DOCUMENT", "docs/density.md", "gaussians official"),
    ("density.py --table DOCUMENT", "docs/density.md", "mnist-density"),
    ("vae.py --table DOCUMENT", "docs/training.md", "vae"),
    ("mnist.py table --readme DOCUMENT", "README.md", "mnist"),
]


@pytest.mark.parametrize(("command", "document", "names"), TABLES, ids=[command for command, _, _ in TABLES])
def test_documents_hold_what_was_measured(
    command: str, document: str, names: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = (ROOT / document).read_text(encoding="utf-8")
    empty = whole
    for name in names.split():
        empty, count = re.subn(f"(<!-- table:{name} -->).*?(<!-- /table:{name} -->)", r"\1\2", empty, flags=re.DOTALL)
        assert count == 1
    copy = tmp_path / "document.md"
    copy.write_text(empty, encoding="utf-8")
    script, *words = command.replace("DOCUMENT", str(copy)).split()
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [script, *words])
    importlib.import_module(script.removesuffix(".py")).main()
    assert copy.read_text(encoding="utf-8") == whole


def test_the_document_of_exported_scorers_holds_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    # Written as it is measured.
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    export: Any = importlib.import_module("export")
    table = export.table(json.loads(export.RESULTS.read_text()))
    assert f"<!-- table:export -->\n{table}\n<!-- /table:export -->" in export.DOCS.read_text(encoding="utf-8")


def test_every_table_is_looked_at() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    there = {name for path in documents for name in re.findall(r"<!-- table:(.+?) -->", path.read_text("utf-8"))}
    assert there - {name for _, _, names in TABLES for name in names.split()} == {"export", "processes", "recipe-costs"}


@pytest.mark.parametrize("text", ["", "<!-- table:claims -->", "<!-- /table:claims --> <!-- table:claims -->"])
def test_a_document_without_a_place_for_a_table_stays(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    tables: Any = importlib.import_module("tables")
    document = tmp_path / "document.md"
    document.write_text(text)
    with pytest.raises(UsageError, match=r"document\.md has no place for this table"):
        tables.put_table(document, "claims", ["| a |"])
    assert document.read_text() == text
