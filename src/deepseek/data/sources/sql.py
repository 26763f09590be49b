"""Rows of an SQL query: over files (CSV, JSON, Parquet) and DuckDB databases through DuckDB, and over SQLite files.

A SQLite file is read by SQLite itself (Python's ``sqlite3``), so the query is in SQLite's dialect there: DuckDB reads
SQLite files only with an extension that must be downloaded. SQLite does not hold its columns to their types; types are
learnt from all rows, and a row whose value contradicts its column's is a reject. Databases are opened read-only.

A query has no stable place to go on from (its rows may come in another order, and the files that it names are not ours
to watch), so an interrupted ingest of a query starts over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from deepseek.data.sources.base import BATCH_ROWS, OnReject, Source, refuse
from deepseek.data.sources.encoding import UNFIT, Located, encode, inferred_schema, widened
from deepseek.data.sources.lines import check_file
from deepseek.errors import DataError

_SQLITE_MAGIC = b"SQLite format 3\0"


class SQL(Source):
    """The rows of ``query``, in ``database`` if given.

    Args:
        query: one SELECT statement. Without a database it names files: ``SELECT * FROM 'rows/*.parquet'``.
        database: a DuckDB or SQLite file, or a ``postgres://`` address (needs DuckDB's postgres extension; the tables
            are then found as ``db.schema.table``).
        schema: the columns' types; learnt by a first pass for SQLite when absent, DuckDB's own otherwise.
    """

    def __init__(self, query: str, *, database: str | Path | None = None, schema: pa.Schema | None = None) -> None:
        self.query = str(query).strip().rstrip(";")
        self.database = None if database is None else str(database)
        self.name = f"query on {self.database}" if self.database else "query"
        self.metadata = {"source": self.name, "query": self.query}
        self._schema = schema
        self._sqlite = self.database is not None and _is_sqlite(self.database)

    def schema(self) -> pa.Schema:
        """The query's columns."""
        if self._schema is None:
            if self._sqlite:
                self._schema = self._learn()
            else:
                with self._duckdb(f"SELECT * FROM ({self.query}) LIMIT 0") as reader:  # noqa: S608 - the user's own
                    self._schema = reader.schema.remove_metadata()
        return self._schema

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows, by running the query."""
        schema = self.schema()
        if self._sqlite:
            yield from encode(self._sqlite_rows(), schema, self.name, on_reject)
            return
        with self._duckdb(self.query) as reader:
            try:
                for batch in reader:
                    yield batch.cast(schema) if batch.schema != schema else batch
            except (*UNFIT, duckdb.Error) as error:
                raise DataError(f"{self.name} failed: {error}") from error

    @contextmanager
    def _duckdb(self, query: str) -> Iterator[pa.RecordBatchReader]:
        remote = self.database is not None and "://" in self.database
        try:
            path = ":memory:" if self.database is None or remote else str(_file(self.database))
            with closing(duckdb.connect(path, read_only=path != ":memory:")) as connection:
                if remote:
                    address = str(self.database).replace("'", "''")
                    connection.execute("LOAD postgres")
                    connection.execute(f"ATTACH '{address}' AS db (TYPE postgres, READ_ONLY)")
                relation = connection.sql(query)
                if relation is None:
                    raise DataError(f"{self.name}: expected one SELECT statement, received {query[:80]!r}")
                yield relation.to_arrow_reader(BATCH_ROWS)
        except duckdb.Error as error:
            hint = "; install it once with: duckdb -c 'INSTALL postgres'" if remote and "xtension" in str(error) else ""
            raise DataError(f"{self.name} failed: {error}{hint}") from error

    def _sqlite_rows(self) -> Iterator[Located]:
        path = _file(str(self.database))
        try:
            with closing(
                sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
            ) as connection:
                cursor = connection.execute(self.query)
                names = [column[0] for column in cursor.description or ()]
                for number, values in enumerate(cursor, start=1):
                    yield Located(line=number, values=dict(zip(names, values, strict=True)))
        except sqlite3.Error as error:
            raise DataError(f"{self.name} failed: {error}") from error

    def _learn(self) -> pa.Schema:
        kinds: dict[str, pa.DataType] = {}
        for row in self._sqlite_rows():
            for name, value in row.values.items():
                kinds[name] = widened(kinds.get(name), pa.infer_type([value]))
        if not kinds:
            raise DataError(f"{self.name} has no rows")
        return inferred_schema(kinds)


def _is_sqlite(database: str) -> bool:
    path = Path(database).expanduser()
    if "://" in database or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC


def _file(database: str) -> Path:
    path = Path(database).expanduser()
    check_file(path)
    return path
