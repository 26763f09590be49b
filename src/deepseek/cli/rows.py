"""Rows from whatever a person names: a table, a file, a named data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def rows_of(source: str, *, where: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table folder (with an optional SQL filter), a CSV, TSV, JSONL or Parquet file, or a data set.

    Raises:
        ConfigError: a filter was given for something that is not a table.
        UnknownNameError, DataError, TableError: as the data layer says.
    """
    from deepseek.data import Table, open_source
    from deepseek.errors import ConfigError

    if Path(source).is_dir():
        yield from Table.open(source).rows(where=where)
        return
    if where:
        raise ConfigError(f"--where and --split need a table; {source!r} is not one (`deepseek data ingest` makes one)")
    yield from open_source(source).rows()
