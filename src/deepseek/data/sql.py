"""SQL over tables, through DuckDB: read-only, in bounded memory, with columns and conditions pushed down into the scan.

A query sees the tables it is given and nothing else: no files, no network, no extensions, no settings. It must be one
``SELECT`` (or ``WITH ... SELECT``). What does not fit the memory limit is spilled to a temporary folder that only this
query has.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import duckdb
import pyarrow as pa

from deepseek.data.table import Table
from deepseek.data.table.lance_errors import brief
from deepseek.errors import ConfigError, DataError, DeepSeekError, UnknownNameError

TableLike: TypeAlias = "Table | str | Path | pa.Table"
MEMORY_LIMIT = "1GB"
_BATCH_ROWS = 65_536
_NO_COLUMN = re.compile(
    r"column \"?([^\"\s!]+)\"? (?:not found|does not exist|.*could not be found)"
    r"|does not have a column named \"([^\"]+)\"",
    re.IGNORECASE,
)
_NO_TABLE = re.compile(r"Table with name (\S+) does not exist", re.IGNORECASE)


@overload
def sql(
    query: str,
    tables: Mapping[str, TableLike] | TableLike | None = None,
    *,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    memory_limit: str = MEMORY_LIMIT,
    stream: Literal[False] = False,
) -> pa.Table: ...


@overload
def sql(
    query: str,
    tables: Mapping[str, TableLike] | TableLike | None = None,
    *,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    memory_limit: str = MEMORY_LIMIT,
    stream: Literal[True],
) -> pa.RecordBatchReader: ...


def sql(
    query: str,
    tables: Mapping[str, TableLike] | TableLike | None = None,
    *,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    memory_limit: str = MEMORY_LIMIT,
    stream: bool = False,
) -> pa.Table | pa.RecordBatchReader:
    """Run a query over tables.

    Args:
        query: one ``SELECT``, in DuckDB's dialect.
        tables: name to table: a :class:`Table`, a path to one, or an Arrow table. One alone is called ``data``.
        parameters: values for ``?`` or ``$name`` in the query.
        memory_limit: what DuckDB may use before it spills, such as ``"500MB"``.
        stream: return a reader that computes as it is read, instead of the whole result.

    Returns:
        The result as an Arrow table, or as a reader with ``stream``.

    Raises:
        UnknownNameError: there is no such table or column; the nearest names are in the message.
        DataError: the query is not valid SQL or fails on the data.
        ConfigError: it is not one ``SELECT``, or it asks for something outside the tables.
    """
    named = _named(tables)
    with ExitStack() as resources:
        connection = resources.enter_context(connect(memory_limit))
        columns: list[str] = []
        for name, table in named.items():
            source, names = _source(table)
            columns += names
            connection.register(name, source)
        try:
            _require_select(connection, query)
            reader: pa.RecordBatchReader = connection.sql(query, params=parameters).to_arrow_reader(_BATCH_ROWS)
            if not stream:
                return reader.read_all()
        except (duckdb.Error, OSError) as error:
            raise _translated(error, query, sorted(named), columns) from None
        keep = resources.pop_all()
    return pa.RecordBatchReader.from_batches(reader.schema, _streamed(reader, keep, query, sorted(named), columns))


@contextmanager
def connect(memory_limit: str = MEMORY_LIMIT) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection in memory that reaches nothing but what is registered, and spills to a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="deepseek-sql-") as folder:
        try:
            connection = duckdb.connect(
                config={
                    "memory_limit": memory_limit,
                    "temp_directory": folder,
                    "preserve_insertion_order": True,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "python_enable_replacements": False,
                }
            )
        except duckdb.Error as error:
            raise ConfigError(f"memory_limit: expected a size such as '500MB', received {memory_limit!r}") from error
        try:
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection
        finally:
            connection.close()


def _named(tables: Mapping[str, TableLike] | TableLike | None) -> Mapping[str, TableLike]:
    if tables is None:
        return {}
    return tables if isinstance(tables, Mapping) else {"data": tables}


def _source(table: TableLike) -> tuple[Any, list[str]]:
    if isinstance(table, str | Path):
        table = Table.open(table)
    if isinstance(table, Table):
        return table.arrow_dataset(), table.columns
    return table, list(table.column_names)


def _require_select(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    statements = connection.extract_statements(query)
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        raise ConfigError(
            f"sql: expected one SELECT, received {', '.join(kinds) or 'nothing'}; tables are read-only here"
        )


def _streamed(
    reader: pa.RecordBatchReader, resources: ExitStack, query: str, tables: list[str], columns: list[str]
) -> Iterator[pa.RecordBatch]:
    with resources:
        try:
            yield from reader
        except (duckdb.Error, OSError) as error:
            raise _translated(error, query, tables, columns) from None


def _translated(error: Exception, query: str, tables: list[str], columns: list[str]) -> DeepSeekError:
    text = brief(error)
    if match := _NO_TABLE.search(text):
        return UnknownNameError("table", match[1].rstrip("!"), tables, hint=f"Query: {query}")
    if match := _NO_COLUMN.search(text):
        return UnknownNameError("column", (match[1] or match[2]).rpartition(".")[2], columns, hint=f"Query: {query}")
    if isinstance(error, duckdb.PermissionException):
        return ConfigError(f"sql: a query may read the tables it is given and nothing else: {text}")
    return DataError(f"sql: {text.splitlines()[0]}\n  Query: {query}")
