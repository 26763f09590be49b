"""Tables and JSON on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PIPE_WIDTH = 200
"""Columns when the output goes to a file or a pipe, where nothing needs to be folded at 80."""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Print rows as an aligned table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0)  # names stay whole, to be copied
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table)


def print_text(text: str) -> None:
    """Print a line that may be long, folded at the terminal's width between words."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(text, markup=False, highlight=False)
    else:
        print(text)


def print_json_line(value: Any) -> None:
    """Print one JSON value on one line."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def print_rows(rows: Iterable[Mapping[str, Any]], *, json: bool = False) -> None:
    """Print rows as an aligned table with long values cut, or as one JSON object a line."""
    if json:
        for row in rows:
            print_json_line(row)
        return
    shown = list(rows)
    if shown:
        print_table(list(shown[0]), [[_cell(value) for value in row.values()] for row in shown])
    else:
        print("no rows")


def _cell(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."
