"""Where a benchmark's table goes: between two marks of a document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def put_table(document: Path, name: str, lines: Sequence[str]) -> None:
    """Replaces what stands between ``<!-- table:NAME -->`` and ``<!-- /table:NAME -->`` in a document.

    Raises:
        ValueError: If the document doesn't have these marks, once each.
    """
    start, end = f"<!-- table:{name} -->", f"<!-- /table:{name} -->"
    before, rest = document.read_text(encoding="utf-8").split(start)
    _, after = rest.split(end)
    text = "\n".join(lines)
    document.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")
