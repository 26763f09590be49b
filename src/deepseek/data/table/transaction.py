"""One write to a table, in two steps: data files first, then one manifest that makes them visible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lance
import pyarrow as pa
from lance.fragment import write_fragments

from deepseek import progress
from deepseek.data.table import location, storage
from deepseek.data.table.blobs import mark_blobs, stored_schema, to_stored
from deepseek.data.table.heap import small_heap
from deepseek.data.table.lance_errors import LANCE_ERRORS, cause, write_error
from deepseek.data.table.lance_io import open_dataset, session
from deepseek.data.table.rows import RowsLike, RowStream, stream
from deepseek.errors import TableError

MAX_FILE_BYTES = 4 << 30
"""Data files are closed at this size (or a million rows), so that work can be shared out and repeated by fragment."""


def write_transaction(
    path: str,
    target: Any,
    rows: RowsLike | RowStream,
    schema: pa.Schema | None,
    mode: Literal["create", "append", "overwrite"],
    metadata: Mapping[str, str],
    description: str | None,
    before_commit: Callable[[], object] | None,
    blobs: Sequence[str] | None = None,
) -> Any:
    """Write data files, then commit them in one transaction; returns the new Lance data set.

    An append is combined with appends that others commit meanwhile; an overwrite is not, and conflicts.
    """
    purpose = f"{'append to' if mode == 'append' else 'write'} {path}"
    batches = stream(rows, schema, purpose=purpose)
    if mode != "append":
        mark_blobs(batches, blobs, purpose)
    batches.schema = batches.schema.with_metadata(dict(metadata))
    as_stored(batches)
    options = storage.options_for(path)
    fresh = not location.is_remote(path) and not Path(path).exists()
    committed = False
    try:
        with small_heap(), progress.bar(description or f"write {Path(path).name}", batches.total) as bar:
            transaction = write_fragments(
                batches.reader(bar.advance),
                target,
                mode=mode,
                return_transaction=True,
                max_bytes_per_file=MAX_FILE_BYTES,
                storage_options=options,
                session=session() if isinstance(target, str) else None,
            )
        if before_commit is not None:
            before_commit()
        retries = 20 if mode == "append" else 0
        dataset = lance.LanceDataset.commit(target, transaction, storage_options=options, max_retries=retries)
        committed = True
        return open_dataset(path, dataset.version, options)
    except LANCE_ERRORS as error:
        if batches.error is not None:
            raise batches.error from None  # Lance wraps what the rows' iterator raised into an OSError of its own
        if isinstance(error, TableError):
            raise
        raise write_error(error, path, mode) from cause(error)
    finally:
        if fresh and not committed:
            location.remove_leftovers(path)


def as_stored(rows: RowStream) -> None:
    """Turn a stream as users see it into one that Lance takes."""
    stored = stored_schema(rows.schema)
    if not stored.equals(rows.schema):
        rows.retype(stored, to_stored)


def table_exists(path: str) -> bool:
    """Whether a committed table lies at ``path``."""
    if not location.is_remote(path):
        return location.inspect(path) is location.Found.TABLE
    try:
        open_dataset(path)
    except LANCE_ERRORS as error:
        if "not found" in str(error).lower():
            return False
        raise TableError(f"{path} cannot be reached: {storage.redact(str(error))}") from cause(error)
    return True
