"""A versioned table: a Lance data set behind a small API.

Every write is one Lance transaction in two steps: data files are written first, then one manifest makes them visible.
A process that is killed, interrupted or out of disk before the second step leaves the previous version as it was (or
no table at all). Each write makes a new version; older versions stay readable.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lance
import pyarrow as pa

from deepseek.data.table import location
from deepseek.data.table.fingerprint import fingerprint
from deepseek.data.table.lance_errors import filter_error
from deepseek.data.table.rows import RowsLike, check_schema
from deepseek.data.table.transaction import table_exists, write_transaction
from deepseek.errors import TableError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class TableVersion:
    """One version of a table. ``timestamp`` is in UTC; ``rows`` is ``None`` where an old manifest does not say."""

    version: int
    timestamp: dt.datetime
    rows: int | None
    tags: tuple[str, ...]


class Table:
    """A versioned Lance data set; make one with :meth:`create` or :meth:`open`.

    ``where`` arguments are SQL conditions over the columns, such as ``"label = 'spam' AND length(text) > 10"``.
    """

    def __init__(self, dataset: Any, path: str) -> None:
        self._dataset = dataset
        self.path = path

    @classmethod
    def create(
        cls,
        path: str | Path,
        rows: RowsLike,
        *,
        schema: pa.Schema | None = None,
        overwrite: bool = False,
        metadata: Mapping[str, str] | None = None,
        description: str | None = None,
        before_commit: Callable[[], object] | None = None,
    ) -> Table:
        """Write ``rows`` as a new table, or as a new version of an existing one with ``overwrite``.

        Args:
            rows: an Arrow table, reader or batch, or an iterable of dicts or of record batches; read once, batchwise.
            schema: the columns; inferred from the first batch of rows when absent, and needed when there are no rows.
            metadata: facts kept with the table, such as ``source`` and ``license``.
            description: what the progress bar says.
            before_commit: called when all rows are written but not visible yet; if it raises, nothing is committed.

        Raises:
            TableError: a table exists there, the rows do not fit the schema, or the disk refused.
        """
        where = location.normalise(path)
        if not location.is_remote(where):
            if not (overwrite and location.inspect(where) is location.Found.TABLE):
                location.require_free(where)
            Path(where).absolute().parent.mkdir(parents=True, exist_ok=True)
        elif not overwrite and table_exists(where):
            raise TableError(f"there is a table at {where} already; use overwrite=True to write a new version of it")
        mode: Literal["create", "overwrite"] = "overwrite" if overwrite and table_exists(where) else "create"
        dataset = write_transaction(where, where, rows, schema, mode, metadata or {}, description, before_commit)
        return cls(dataset, where)

    @classmethod
    def open(cls, path: str | Path, version: int | str | None = None) -> Table:
        """Open a table at its newest version, at a version number, or at a tag.

        Raises:
            TableError: there is no table at ``path``, or it was never committed, or it has no such version.
            UnknownNameError: it has no such tag.
        """
        where = location.normalise(path)
        if not location.is_remote(where):
            location.require_table(where)
        try:
            dataset = lance.dataset(where)
        except (ValueError, OSError) as error:
            raise TableError(f"the table at {where} cannot be opened: {error}") from error
        if isinstance(version, str):
            tags = dataset.tags.list()
            if version not in tags:
                raise UnknownNameError("tag", version, tags, hint=f"Table: {where}.")
            dataset = dataset.checkout_version(version)
        elif version is not None:
            known = [entry["version"] for entry in dataset.versions()]
            if version not in known:
                raise TableError(f"{where} has no version {version}; existing versions: {_ranges(known)}")
            dataset = dataset.checkout_version(version)
        return cls(dataset, where)

    def __repr__(self) -> str:
        return f"Table({self.path!r}, version={self.version}, rows={len(self)}, columns={self.columns})"

    def __len__(self) -> int:
        return int(self._dataset.count_rows())

    @property
    def version(self) -> int:
        """The number of the version that this object reads; a write moves it to the version written."""
        return int(self._dataset.version)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema; its metadata is the table's."""
        return self._dataset.schema

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.schema.names)

    @property
    def metadata(self) -> dict[str, str]:
        """The facts given to :meth:`create`."""
        return {key.decode(): value.decode() for key, value in (self.schema.metadata or {}).items()}

    def versions(self) -> list[TableVersion]:
        """All versions that exist, oldest first."""
        tags: dict[int, list[str]] = {}
        for name, entry in self._dataset.tags.list().items():
            tags.setdefault(entry["version"], []).append(name)
        return [
            TableVersion(
                version=entry["version"],
                timestamp=entry["timestamp"].astimezone(dt.UTC),
                rows=int(entry["metadata"]["total_rows"]) if "total_rows" in entry["metadata"] else None,
                tags=tuple(sorted(tags.get(entry["version"], ()))),
            )
            for entry in self._dataset.versions()
        ]

    def tag(self, name: str) -> None:
        """Give the version that this object reads a name.

        Raises:
            TableError: the name is taken by another version, or is not a valid tag.
        """
        existing = self._dataset.tags.list()
        if name in existing:
            if existing[name]["version"] == self.version:
                return
            raise TableError(f"tag {name!r} already names version {existing[name]['version']} of {self.path}")
        try:
            self._dataset.tags.create(name, self.version)
        except (ValueError, OSError) as error:
            raise TableError(f"cannot tag version {self.version} of {self.path} as {name!r}: {error}") from error

    def append(self, rows: RowsLike, *, description: str | None = None) -> Table:
        """Add rows as a new version; columns that the rows lack become null. Returns this object, moved to it.

        Raises:
            TableError: a column is unknown or of another type (nothing is written), or this is not the newest version.
        """
        self._require_newest()
        bare = self.schema.remove_metadata()
        self._dataset = write_transaction(
            self.path, self._dataset, rows, bare, "append", self.metadata, description, None
        )
        return self

    def replace(
        self,
        rows: RowsLike,
        *,
        schema: pa.Schema | None = None,
        metadata: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> Table:
        """Write rows as a new version instead of the present ones; the columns may change. Metadata stays if not given.

        Raises:
            TableError: the rows do not fit ``schema``, or this is not the newest version.
        """
        self._require_newest()
        kept = self.metadata if metadata is None else metadata
        self._dataset = write_transaction(self.path, self.path, rows, schema, "overwrite", kept, description, None)
        return self

    def delete(self, where: str) -> int:
        """Delete the rows that match, as a new version; returns how many. No match, no new version."""
        self._require_newest()
        try:
            count = int(self._dataset.count_rows(where))
            if count:
                self._dataset.delete(where)
        except (ValueError, OSError) as error:
            raise filter_error(error, where, self.columns) from error
        return count

    def add_columns(self, columns: Mapping[str, str] | pa.Table) -> Table:
        """Add columns as a new version without rewriting the others.

        Args:
            columns: new name to SQL expression, or an Arrow table with the new columns, one row for each row here.

        Raises:
            TableError: a name is taken, the row count differs, or an expression is not valid.
        """
        self._require_newest()
        names = list(columns.column_names) if isinstance(columns, pa.Table) else list(columns)
        if taken := [name for name in names if name in self.columns]:
            raise TableError(f"add_columns: {self.path} has the column {taken[0]!r} already")
        if isinstance(columns, pa.Table) and columns.num_rows != len(self):
            raise TableError(f"add_columns: expected {len(self)} rows, received {columns.num_rows}")
        try:
            if isinstance(columns, pa.Table):
                self._dataset.add_columns(columns.cast(check_schema(columns.schema, None, "add_columns")).to_reader())
            else:
                self._dataset.add_columns(dict(columns))
        except (ValueError, OSError) as error:
            raise filter_error(error, ", ".join(map(str, names)), self.columns) from error
        return self

    def to_arrow(
        self, columns: Sequence[str] | None = None, *, where: str | None = None, limit: int | None = None
    ) -> pa.Table:
        """Rows as an Arrow table in memory, in table order."""
        self._check_columns(columns)
        try:
            return self._dataset.to_table(columns=_listed(columns), filter=where, limit=limit)
        except (ValueError, OSError) as error:
            raise filter_error(error, where or "", self.columns) from error

    def batches(
        self, columns: Sequence[str] | None = None, *, where: str | None = None, batch_size: int = 8192
    ) -> Iterator[pa.RecordBatch]:
        """Rows as record batches of up to ``batch_size`` rows, in table order; memory is bounded by a few batches."""
        self._check_columns(columns)
        if batch_size < 1:
            raise TableError(f"batch_size: expected at least 1, received {batch_size}")
        try:
            yield from self._dataset.to_batches(columns=_listed(columns), filter=where, batch_size=batch_size)
        except (ValueError, OSError) as error:
            raise filter_error(error, where or "", self.columns) from error

    def take(self, indices: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows at the given positions (0-based), in the given order.

        Raises:
            TableError: a position is outside the table.
        """
        self._check_columns(columns)
        positions, size = [int(index) for index in indices], len(self)
        if outside := [index for index in positions if not 0 <= index < size]:
            raise TableError(f"take: expected positions 0 to {size - 1}, received {outside[0]}")
        if not positions:
            return self.to_arrow(columns, limit=0)
        return self._dataset.take(positions, columns=_listed(columns))

    def rows(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> Iterator[dict[str, Any]]:
        """Rows as dicts, one at a time, in table order."""
        for batch in self.batches(columns, where=where):
            yield from batch.to_pylist()

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of columns and rows: equal content, equal fingerprint, wherever and however stored."""
        return fingerprint(self.schema, self.batches())

    def _check_columns(self, columns: Sequence[str] | None) -> None:
        if isinstance(columns, str):
            raise TableError(f"columns: expected a list of names, received the text {columns!r}")
        for name in columns or ():
            if name not in self.columns:
                raise UnknownNameError("column", name, self.columns)

    def _require_newest(self) -> None:
        newest = int(self._dataset.latest_version)
        if self.version != newest:
            raise TableError(
                f"{self.path} is open at version {self.version}, and the newest is {newest}; an older version can "
                f"only be read. Open the table without a version to change it."
            )


def _listed(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(columns)


def _ranges(versions: list[int]) -> str:
    if len(versions) > 1 and versions == list(range(versions[0], versions[-1] + 1)):
        return f"{versions[0]} to {versions[-1]}"
    return ", ".join(map(str, versions))
