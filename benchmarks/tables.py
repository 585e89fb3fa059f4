"""Where a benchmark's table goes: between two marks of a document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vaebm.cli.parsing import UsageError


def put_table(document: Path, name: str, lines: Sequence[str]) -> None:
    """Replaces what stands between ``<!-- table:NAME -->`` and ``<!-- /table:NAME -->`` in a document.

    Raises:
        UsageError: If the document doesn't have these marks, once each.
    """
    start, end = f"<!-- table:{name} -->", f"<!-- /table:{name} -->"
    found = document.read_text(encoding="utf-8")
    if (found.count(start), found.count(end)) != (1, 1) or found.index(start) > found.index(end):
        raise UsageError(f"{document} has no place for this table: expected a line {start} and a line {end} behind it")
    before, after = found[: found.index(start)], found[found.index(end) + len(end) :]
    text = "\n".join(lines)
    document.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")
