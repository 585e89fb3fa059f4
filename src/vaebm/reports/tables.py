"""Tables of figures for the terminal, for Markdown and for HTML, from the same rows.

A column says which key of a row it shows and how its values are written; a column without a single value is left out,
and so is a spread that is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any, Literal

import numpy as np

from vaebm.reports.content import number

Kind = Literal["text", "digits", "unit", "percent", "rate", "points", "margin", "count", "interval"]

EMPTY = "–"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Arguments:
        key: the key of a row whose value it shows.
        title: what stands above it.
        kind: how a value is written, see `format_value`.
        spread: the key of the value's spread, written as "value ± spread"; "" for none.
        better: "high" or "low", an arrow in the title for what is better; "" for neither.
        meaning: a few words that explain the column.
    """

    key: str
    title: str
    kind: Kind = "text"
    spread: str = ""
    better: Literal["", "high", "low"] = ""
    meaning: str = ""

    @property
    def heading(self) -> str:
        """The title with its arrow."""
        return self.title + {"": "", "high": " ↑", "low": " ↓"}[self.better]


@dataclass(frozen=True)
class Table:
    """Rows and how to show them.

    Arguments:
        caption: what the table shows.
        columns: its columns, left to right.
        rows: one mapping a row; a missing key is an empty place.
        group: the key of a heading that rows in sequence share; "" for none.
        tone: the key that says in whose colour a row is marked in HTML; "" for none.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    group: str = ""
    tone: str = ""

    def shown_columns(self) -> list[Column]:
        """Return the columns that hold at least one value."""
        return [column for column in self.columns if any(row.get(column.key) is not None for row in self.rows)]


def format_value(value: object, kind: Kind = "digits") -> str:
    """Write a value with as many digits as make sense.

    Arguments:
        value: the value; None gives a dash.
        kind: "text" as it is; "digits" three significant ones; "unit" three decimals, for values in [0, 1]; "percent"
            of a fraction, one decimal; "rate" the same with two; "points" a signed difference of fractions in
            percentage points, "margin" one without sign; "count" a whole number with separators; "interval" a value
            with its ends, from a mapping or an object.

    Returns:
        The text.

    Example:
        >>> [format_value(x) for x in (427.31, 27.13, 0.01234, 12345.6, None)]
        ['427', '27.1', '0.0123', '12,346', '–']
        >>> format_value(0.961, "percent"), format_value(-0.002, "points"), format_value(5000, "count")
        ('96.1 %', '-0.20', '5,000')
        >>> format_value({"value": 0.9981, "low": 0.997, "high": 0.999}, "interval")
        '0.998 [0.997, 0.999]'
    """
    if kind == "text":
        return EMPTY if value is None else str(value)
    if kind == "interval":
        return _format_interval(value)
    measured = number(value)
    if measured is None or not np.isfinite(measured):
        return EMPTY if measured is None else str(measured)
    return _WRITERS[kind](measured)


def _three_digits(value: float) -> str:
    size = float(f"{abs(value):.2e}")
    if size == 0:
        return "0"
    if 1e-4 <= size < 1e9:
        decimals = max(0, 2 - int(np.floor(np.log10(size))))
        return f"{value:,.{decimals}f}"
    return f"{value:.2e}"


_WRITERS: dict[str, Callable[[float], str]] = {
    "digits": _three_digits,
    "unit": "{:.3f}".format,
    "percent": lambda value: f"{100 * value:.1f} %",
    "rate": lambda value: f"{100 * value:.2f} %",
    "points": lambda value: f"{100 * value:+.2f}",
    "margin": lambda value: f"±{100 * value:.2f}",
    "count": lambda value: f"{round(value):,}",
}


def _format_interval(value: object) -> str:
    if value is None:
        return EMPTY
    ends = ("value", "low", "high")
    parts = [value.get(end) if isinstance(value, Mapping) else getattr(value, end, None) for end in ends]
    middle, low, high = (format_value(part, "unit") for part in parts)
    return middle if EMPTY in (low, high) else f"{middle} [{low}, {high}]"


def _cell(row: Mapping[str, Any], column: Column) -> str:
    text = format_value(row.get(column.key), column.kind)
    spread = row.get(column.spread) if column.spread else None
    if spread is None or text == EMPTY:
        return text
    if column.kind == "percent":
        return f"{text.removesuffix(' %')} ± {format_value(spread, 'percent')}"
    value, deviation = number(row.get(column.key)), number(spread)
    if value is None or not deviation or not np.isfinite([value, deviation]).all():
        return text
    decimals = max(0, min(_decimals(deviation), _decimals(value) + 2))
    return f"{value:,.{decimals}f} ± {deviation:,.{decimals}f}"


def _decimals(deviation: float) -> int:
    """Return the decimals that show one digit of a number, or two if the first is a one."""
    power = int(np.floor(np.log10(abs(deviation) or 1.0)))
    return 1 - power if abs(deviation) < 2 * 10.0**power else -power


def _cells(table: Table) -> tuple[list[str], list[list[str]], list[bool]]:
    """Return titles, rows of cells and which columns are text; the group, if any, is the first column."""
    columns = table.shown_columns()
    titles = [column.heading for column in columns]
    rows = [[_cell(row, column) for column in columns] for row in table.rows]
    words = [column.kind == "text" for column in columns]
    if table.group:
        titles, words = ["", *titles], [True, *words]
        rows = [[str(row.get(table.group, "")), *cells] for row, cells in zip(table.rows, rows, strict=True)]
    return titles, rows, words


def text_table(table: Table, width: int = 80) -> str:
    """Write a table for the terminal.

    Arguments:
        table: the table.
        width: the width of the terminal; a table that is wider gets narrow gaps, and its arrows a line of their own.

    Returns:
        Its caption, titles, a rule and its rows, in columns of even width; a group has a line above its rows.

    Example:
        >>> print(text_table(Table("Two", [Column("a", "name"), Column("b", "FD", "digits")], [{"a": "x", "b": 3.2}])))
        Two
        name    FD
        ----  ----
        x     3.20
    """
    columns = table.shown_columns()
    heads = [[column.heading for column in columns]]
    rows = [[_cell(row, column) for column in columns] for row in table.rows]
    gap = 2
    if sum(_widths([*heads, *rows])) + gap * (len(columns) - 1) > width:
        arrows = [column.heading.removeprefix(column.title).strip() for column in columns]
        heads = [[column.title for column in columns], *([arrows] if any(arrows) else [])]
        rows = [[cell.replace(", ", ",") if "[" in cell else cell for cell in cells] for cells in rows]
        gap = 1
    widths = _widths([*heads, *rows])

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, columns, strict=True)
        padded = (cell.ljust(size) if column.kind == "text" else cell.rjust(size) for cell, size, column in placed)
        return (" " * gap).join(padded).rstrip()

    lines = [table.caption] if table.caption else []
    lines += [*map(line, heads), (" " * gap).join("-" * size for size in widths)]
    group = ""
    for row, cells in zip(table.rows, rows, strict=True):
        if table.group and str(row.get(table.group, "")) != group:
            group = str(row.get(table.group, ""))
            lines.append(group)
        lines.append(line(cells))
    return "\n".join(lines)


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, cells)) for cells in zip(*lines, strict=True)]


def markdown_table(table: Table) -> str:
    """Write a table in Markdown, without its caption.

    Arguments:
        table: the table.

    Returns:
        The lines of the table.

    Example:
        >>> print(markdown_table(Table("", [Column("a", "name"), Column("b", "FD", "digits")], [{"a": "x|y", "b": 3}])))
        | name | FD |
        | :--- | ---: |
        | x\\|y | 3.00 |
    """
    titles, rows, words = _cells(table)

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(titles), line([":---" if word else "---:" for word in words]), *map(line, rows)])


def html_table(table: Table) -> str:
    """Write a table in HTML that scrolls inside of the page where the screen is small.

    Arguments:
        table: the table.

    Returns:
        One element; all text in it is escaped.

    Example:
        >>> "a &lt; b" in html_table(Table("a < b", [Column("a", "name")], [{"a": "x"}]))
        True
    """
    columns = table.shown_columns()
    titles = "".join(
        f'<th scope="col"{_kind_class(column)} title="{escape(column.meaning)}">{escape(column.heading)}</th>'
        for column in columns
    )
    bodies = []
    for heading, members in groupby(table.rows, key=lambda row: str(row.get(table.group, ""))):
        lines = "".join(_html_row(table, columns, row) for row in members)
        head = f'<tr><th class="group" colspan="{len(columns)}" scope="rowgroup">{escape(heading)}</th></tr>'
        bodies.append(f"<tbody>{head if table.group else ''}{lines}</tbody>")
    caption = f'<p class="caption">{escape(table.caption)}</p>' if table.caption else ""
    return (
        f'{caption}<div class="scroll" role="region" aria-label="{escape(table.caption)}" tabindex="0"><table>'
        f"<thead><tr>{titles}</tr></thead>{''.join(bodies)}</table></div>"
    )


def _kind_class(column: Column) -> str:
    return "" if column.kind == "text" else ' class="number"'


def _html_row(table: Table, columns: Sequence[Column], row: Mapping[str, Any]) -> str:
    cells = []
    for index, column in enumerate(columns):
        text = escape(_cell(row, column).replace("-", "−") if column.kind != "text" else _cell(row, column))
        dot = f'<i class="dot {escape(str(row.get(table.tone, "")))}"></i>' if table.tone and index == 0 else ""
        if index == 0 and column.kind == "text":
            cells.append(f'<th scope="row">{dot}{text}</th>')
        else:
            cells.append(f"<td{_kind_class(column)}>{text}</td>")
    return f"<tr>{''.join(cells)}</tr>"
