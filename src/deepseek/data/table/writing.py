"""Changing a table's rows: append, upsert, replace, update, delete. Each is one new version, or two with ``evolve``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from deepseek.data.table.blobs import is_blob
from deepseek.data.table.evolving import EvolvingMixin
from deepseek.data.table.lance_errors import LANCE_ERRORS, cause, filter_error, is_conflict, write_error
from deepseek.data.table.lance_io import open_dataset
from deepseek.data.table.rows import RowsLike, stream
from deepseek.data.table.staging import staged
from deepseek.data.table.transaction import write_transaction
from deepseek.data.table.upserting import merge, require_unique
from deepseek.errors import ConfigError, TableError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class UpsertReport:
    """What :meth:`Table.upsert` did, in rows, and the version that holds it."""

    inserted: int
    updated: int
    version: int


class WritingMixin(EvolvingMixin):
    """The row-changing part of :class:`Table`; an append may add columns, so it stands on that part."""

    def append(self, rows: RowsLike, *, evolve: bool = False, description: str | None = None) -> Self:
        """Add rows as a new version; columns that the rows lack become null. Returns this object, moved to it.

        Appends by several processes at once are combined: each adds its rows, none is lost.

        Args:
            rows: as for :meth:`create`.
            evolve: add columns that are new in the rows to the table, as null for the rows that are there already.
            description: what the progress bar says.

        Raises:
            TableError: a column is unknown or of another type (nothing is written), or the object is pinned to an
                older version.
            ConflictError: another writer replaced the table or its columns meanwhile.
        """
        self._follow()
        target = self.schema.remove_metadata()
        added: list[pa.Field] = []
        if evolve:
            rows = stream(rows, None, purpose=f"append to {self.path}", like=target, extra=True)
            added = [field for field in rows.schema if field.name not in target.names]
        if added:
            self._add_null_columns(added)
            target = self.schema.remove_metadata()
        try:
            dataset = write_transaction(
                self.path, self._dataset, rows, target, "append", self.metadata, description, None
            )
        except BaseException:
            if added:
                self._drop_again([field.name for field in added])
            raise
        self._move(dataset)
        return self

    def upsert(self, rows: RowsLike, *, on: Sequence[str] | str) -> UpsertReport:
        """Update the rows whose key is there already and add the others, as one new version.

        All of them come to the end of the table, in the order given. Columns that the rows lack keep their values in
        updated rows and are null in added ones. A key that the table has several times is updated to one row. Memory is
        bounded: rows beyond 32 MB are spilled to a temporary file, and 16 bytes are kept for each updated row.

        Args:
            rows: as for :meth:`create`.
            on: the key column or columns. A null key never equals another.

        Raises:
            TableError: a key comes twice in the rows, or a column is unknown or of another type; nothing is written.
            ConflictError: another writer changed the same rows meanwhile.
        """
        keys = [on] if isinstance(on, str) else list(on)
        self._follow()
        self._check_columns(keys)
        if not keys:
            raise ConfigError("upsert: on: expected at least one key column, received none")
        purpose = f"upsert into {self.path}"
        batches = stream(rows, None, purpose=purpose, like=self.schema.remove_metadata())
        for key in keys:
            if key not in batches.schema.names:
                raise UnknownNameError("key column", key, batches.schema.names, hint="It is missing in the rows.")
            if is_blob(self.schema.field(key)):
                raise TableError(f"{purpose}: on: column {key!r} holds blobs, which cannot be keys")
        with staged(batches) as held:
            require_unique(held, keys, purpose)
            inserted, updated, version = merge(self.path, self, held, keys)
        self._move(open_dataset(self.path, version))
        return UpsertReport(inserted=inserted, updated=updated, version=version)

    def replace(
        self,
        rows: RowsLike,
        *,
        schema: pa.Schema | None = None,
        metadata: Mapping[str, str] | None = None,
        blobs: Sequence[str] | None = None,
        description: str | None = None,
    ) -> Self:
        """Write rows as a new version instead of the present ones; the columns may change. Metadata stays if not given.

        Raises:
            TableError: the rows do not fit ``schema``, or this is not the newest version.
            ConflictError: another writer committed meanwhile; nothing of theirs is lost.
        """
        self._require_newest()
        kept = self.metadata if metadata is None else metadata
        dataset = write_transaction(self.path, self._dataset, rows, schema, "overwrite", kept, description, None, blobs)
        self._move(dataset)
        return self

    def update(self, values: Mapping[str, str], where: str | None = None) -> int:
        """Set columns to SQL expressions in the rows that match, as a new version; returns how many.

        Updated rows move to the end of the table. Text is written with quotes: ``{"label": "'spam'", "n": "n + 1"}``.
        """
        self._require_newest()
        self._check_columns(list(values))
        if not values:
            raise ConfigError("update: values: expected at least one column, received none")
        if not self._matching(where):
            return 0
        try:
            done = self._dataset.update(dict(values), where=where)
        except LANCE_ERRORS as error:
            raise self._changing(error, ", ".join(values.values()) if where is None else where) from cause(error)
        self.refresh()
        return int(done["num_rows_updated"])

    def delete(self, where: str) -> int:
        """Delete the rows that match, as a new version; returns how many. No match, no new version."""
        self._require_newest()
        if not self._matching(where):
            return 0
        try:
            done = self._dataset.delete(where)
        except LANCE_ERRORS as error:
            raise self._changing(error, where) from cause(error)
        self.refresh()
        return int(done["num_deleted_rows"])

    def _matching(self, where: str | None) -> int:
        try:
            return int(self._dataset.count_rows(where))
        except LANCE_ERRORS as error:
            raise filter_error(error, where or "", self.columns) from cause(error)

    def _changing(self, error: Exception, where: str) -> Exception:
        if is_conflict(error):
            return write_error(error, self.path, "update")
        return filter_error(error, where, self.columns)
