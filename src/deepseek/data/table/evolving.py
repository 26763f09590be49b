"""Changing a table's columns: add, drop, rename, cast. Each is one new version; no other column is rewritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import pyarrow as pa

from deepseek.data.engines import Engine, get_engine
from deepseek.data.table.batching import BATCH_ROWS
from deepseek.data.table.blobs import stored_schema
from deepseek.data.table.computing import ComputeFunction, compute_columns
from deepseek.data.table.handle import TableHandle
from deepseek.data.table.lance_errors import LANCE_ERRORS, cause, filter_error, is_conflict, translated, write_error
from deepseek.data.table.lance_io import open_dataset
from deepseek.data.table.rows import check_schema, stream
from deepseek.data.table.transaction import as_stored
from deepseek.errors import ConfigError, TableError


class EvolvingMixin(TableHandle):
    """The column-changing part of :class:`Table`."""

    def add_columns(
        self,
        columns: Mapping[str, str] | pa.Table | ComputeFunction,
        *,
        schema: pa.Schema | None = None,
        read: Sequence[str] | None = None,
        batch_size: int = BATCH_ROWS,
        engine: str | Engine = "local",
        resume_key: str | None = None,
    ) -> Self:
        """Add columns as a new version without rewriting the others. Returns this object, moved to it.

        Args:
            columns: new name to SQL expression; or an Arrow table with the new columns, one row for each row here; or a
                function from a record batch to the new columns of its rows: a record batch, a dict of column to
                values, or for one column an array.
            schema: for a function: the new columns.
            read: for a function: the columns that its batches have; all when absent.
            batch_size: for a function: rows of a batch at most; fewer when rows are large.
            engine: for a function: where fragments are computed, several at once. For ``"ray"`` the function should
                be one of a module that the cluster's machines have.
            resume_key: for a function: what names its results, instead of its code. When a process is killed, the same
                call in a new process continues: fragments that were finished are not computed again.

        Raises:
            TableError: a name is taken, the row count differs, an expression is not valid, or the function returned
                something else than ``schema`` says. What the function raises comes out as it is.
            ConflictError: another writer changed the table meanwhile.
        """
        self._require_newest()
        if callable(columns):
            if schema is None:
                raise ConfigError("add_columns: schema: a function needs the schema of the columns that it makes")
            self._require_new(schema.names)
            self._check_columns(read)
            if read is not None and not read:
                raise ConfigError("add_columns: read: expected at least one column, received none")
            if batch_size < 1:
                raise ConfigError(f"add_columns: batch_size: expected at least 1, received {batch_size}")
            names = self.columns if read is None else list(read)
            clean = check_schema(schema, None, "add_columns")
            version = compute_columns(
                self.path,
                columns,
                clean,
                names,
                engine=get_engine(engine),
                batch_size=batch_size,
                resume_key=resume_key,
            )
            self._move(open_dataset(self.path, version))
            return self
        names = list(columns.column_names) if isinstance(columns, pa.Table) else list(columns)
        self._require_new(names)
        if isinstance(columns, pa.Table) and columns.num_rows != len(self):
            raise TableError(f"add_columns: expected {len(self)} rows, received {columns.num_rows}")
        try:
            if isinstance(columns, pa.Table):
                rows = stream(columns, schema, purpose="add_columns")
                as_stored(rows)
                self._dataset.add_columns(rows.reader(lambda _: None))
            else:
                self._dataset.add_columns(dict(columns))
        except LANCE_ERRORS as error:
            if is_conflict(error):
                raise write_error(error, self.path, "add_columns") from cause(error)
            raise filter_error(error, ", ".join(map(str, names)), self.columns) from cause(error)
        self.refresh()
        return self

    def drop_columns(self, columns: Sequence[str]) -> Self:
        """Remove columns as a new version; their bytes stay in storage until :meth:`compact` and :meth:`cleanup`."""
        self._require_newest()
        self._check_columns(columns)
        if len(set(columns)) >= len(self.columns):
            raise TableError(f"drop_columns: {self.path} would have no column left")
        if columns:
            with translated("drop_columns", self.path):
                self._dataset.drop_columns(list(columns))
        return self.refresh()

    def rename_columns(self, names: Mapping[str, str]) -> Self:
        """Rename columns, old name to new, as a new version; no data is touched."""
        self._require_newest()
        self._check_columns(list(names))
        after = [names.get(name, name) for name in self.columns]
        if twice := sorted({name for name in after if after.count(name) > 1}):
            raise TableError(f"rename_columns: {self.path} would have the column {twice[0]!r} twice")
        if names:
            with translated("rename_columns", self.path):
                self._dataset.alter_columns(*({"path": old, "name": new} for old, new in names.items() if old != new))
        return self.refresh()

    def cast_columns(self, types: Mapping[str, pa.DataType]) -> Self:
        """Give columns other types as a new version; only these columns are rewritten.

        Raises:
            TableError: a value does not fit the new type, or there is no such cast; nothing is written.
        """
        self._require_newest()
        self._check_columns(list(types))
        if bad := [name for name in types if name in self.blobs]:
            raise TableError(f"cast_columns: column {bad[0]!r} holds blobs, which have no other type")
        if types:
            with translated(
                f"cast_columns {', '.join(f'{name} to {kind}' for name, kind in types.items())}", self.path
            ):
                self._dataset.alter_columns(*({"path": name, "data_type": kind} for name, kind in types.items()))
        return self.refresh()

    def _require_new(self, names: Sequence[str]) -> None:
        if taken := [name for name in names if name in self.columns]:
            raise TableError(f"add_columns: {self.path} has the column {taken[0]!r} already")

    def _add_null_columns(self, fields: Sequence[pa.Field]) -> None:
        nullable = pa.schema([field.with_nullable(True) for field in fields])
        with translated("add columns", self.path):
            self._dataset.add_columns(stored_schema(nullable))
        self.refresh()

    def _drop_again(self, names: Sequence[str]) -> None:
        self.refresh()
        self.drop_columns([name for name in names if name in self.columns])
