"""A versioned table: a Lance data set behind a small API.

Every write is one Lance transaction in two steps: data files are written first, then one manifest makes them visible.
A process that is killed, interrupted or out of disk before the second step leaves the previous version as it was (or
no table at all). Each write makes a new version; older versions stay readable.

The class is put together from parts, each with one concern: reading, writing (rows), evolving (columns), versioning,
maintenance and searching.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa

from deepseek.data.table import location, storage
from deepseek.data.table.lance_errors import LANCE_ERRORS, brief, cause
from deepseek.data.table.lance_io import open_dataset
from deepseek.data.table.maintenance import MaintenanceMixin
from deepseek.data.table.rows import RowsLike
from deepseek.data.table.searching import SearchingMixin
from deepseek.data.table.transaction import table_exists, write_transaction
from deepseek.data.table.versioning import VersioningMixin, checkout
from deepseek.data.table.writing import WritingMixin
from deepseek.errors import TableError


class Table(WritingMixin, VersioningMixin, MaintenanceMixin, SearchingMixin):
    """A versioned Lance data set; make one with :meth:`create` or :meth:`open`.

    ``where`` arguments are SQL conditions over the columns, such as ``"label = 'spam' AND length(text) > 10"``.
    Tables can be pickled: they open their version again in the other process. A forked process cannot use them.
    """

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
        blobs: Sequence[str] | None = None,
        storage_options: Mapping[str, str] | None = None,
    ) -> Self:
        """Write ``rows`` as a new table, or as a new version of an existing one with ``overwrite``.

        Args:
            path: a local path, or an address in an object store such as ``s3://bucket/reviews.lance``.
            rows: an Arrow table, reader or batch, or an iterable of dicts or of record batches; read once, batchwise.
            schema: the columns; inferred from the first batch of rows when absent, and needed when there are no rows.
            metadata: facts kept with the table, such as ``source`` and ``license``.
            description: what the progress bar says.
            before_commit: called when all rows are written but not visible yet; if it raises, nothing is committed.
            blobs: binary columns to store as blobs (see ``blob_field``); when absent, those of which the first values
                have 4 kB or more on average.
            storage_options: how to reach an object store; see :mod:`deepseek.data.table.storage`.

        Raises:
            TableError: a table exists there, the rows do not fit the schema, or the disk refused.
        """
        where = location.normalise(path)
        storage.options_for(where, storage_options)
        if not location.is_remote(where):
            if not (overwrite and location.inspect(where) is location.Found.TABLE):
                location.require_free(where)
            Path(where).absolute().parent.mkdir(parents=True, exist_ok=True)
        elif not overwrite and table_exists(where):
            raise TableError(f"there is a table at {where} already; use overwrite=True to write a new version of it")
        mode: Literal["create", "overwrite"] = "overwrite" if overwrite and table_exists(where) else "create"
        target = open_dataset(where) if mode == "overwrite" else where
        dataset = write_transaction(
            where, target, rows, schema, mode, metadata or {}, description, before_commit, blobs
        )
        return cls(dataset, where)

    @classmethod
    def open(
        cls,
        path: str | Path,
        version: int | str | dt.datetime | None = None,
        *,
        storage_options: Mapping[str, str] | None = None,
    ) -> Self:
        """Open a table at its newest version, at a version number, at a tag, or as it was at a point in time.

        Args:
            path: a local path or an address in an object store.
            version: a number, the name of a tag, or a time (without a zone: UTC).
            storage_options: how to reach an object store; see :mod:`deepseek.data.table.storage`.

        Raises:
            TableError: there is no table at ``path``, or it was never committed, or it has no such version.
            UnknownNameError: it has no such tag.
        """
        where = location.normalise(path)
        options = storage.options_for(where, storage_options)
        if not location.is_remote(where):
            location.require_table(where)
        try:
            dataset = open_dataset(where, options=options)
        except LANCE_ERRORS as error:
            if location.is_remote(where) and "not found" in str(error).lower():
                raise TableError(f"there is no table at {where}") from cause(error)
            raise TableError(f"the table at {where} cannot be opened: {brief(error)}") from cause(error)
        if version is not None:
            dataset = checkout(dataset, where, version)
        return cls(dataset, where, pinned=version is not None)

    def __repr__(self) -> str:
        return f"Table({self.path!r}, version={self.version}, rows={len(self)}, columns={self.columns})"
