"""The table of rejected rows that stands beside a table, so that nothing is lost silently."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from deepseek.data.table import location
from deepseek.data.table.rows import RowsLike
from deepseek.data.table.table import Table
from deepseek.data.table.transaction import table_exists

REJECTS_SUFFIX = ".rejects.lance"


def rejects_path(table_path: str | Path) -> str:
    """Where the rejects of the table at ``table_path`` go: ``reviews.lance`` → ``reviews.rejects.lance``."""
    return location.normalise(table_path).rstrip("/").removesuffix(".lance") + REJECTS_SUFFIX


def write_rejects(table_path: str | Path, rows: RowsLike, schema: pa.Schema, *, count: int) -> str | None:
    """Write the rejects of a table; returns their path, or ``None`` when there are none.

    An older rejects table gets a new, possibly empty, version: it must not speak for rows that it has not seen.
    """
    path = rejects_path(table_path)
    if count or table_exists(path):
        Table.create(path, rows, schema=schema, overwrite=True)
    return path if count else None
