"""Rows from whatever a person names: a table, a file, a named data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def of_split(split: str) -> str | None:
    """The SQL condition for a table's rows of one split; none for all."""
    return "split = '" + split.replace("'", "''") + "'" if split else None


def rows_of(
    source: str,
    *,
    where: str | None = None,
    columns: list[str] | None = None,
    version: int | str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table (with an optional SQL filter, columns and version), a file or folder, or a data set.

    Raises:
        ConfigError: a filter was given for something that is not a table.
        UnknownNameError, DataError, TableError: as the data layer says.
    """
    from deepseek.data import Table, open_source
    from deepseek.errors import ConfigError

    if "://" in source or (Path(source) / "_versions").is_dir():
        yield from Table.open(source, version).rows(columns, where=where)
        return
    if where or columns or version is not None:
        raise ConfigError(
            f"--where, --columns, --version and --split need a table; {source!r} is not one (`deepseek data import` "
            f"makes one)"
        )
    yield from open_source(source).rows()
