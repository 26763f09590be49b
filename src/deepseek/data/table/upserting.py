"""Update or insert by key, in one commit and in memory that does not grow with the rows.

Lance's own ``merge_insert`` keeps all new rows in memory while it joins. Here the new rows are staged (see
:mod:`~deepseek.data.table.staging`) and only their keys are joined with the table's keys, by DuckDB, which spills. The
join says for each new row which row of the table it replaces, 16 bytes each. Then the new rows are written as fragments
of their own, filled up with the replaced rows' values in columns that they lack; the replaced rows are marked as
deleted; and one commit makes both visible. If another writer committed meanwhile, the join is made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import write_fragments

from deepseek.data.table import batching, storage
from deepseek.data.table.lance_errors import LANCE_ERRORS, cause, is_conflict, write_error
from deepseek.data.table.lance_io import open_dataset
from deepseek.data.table.rows import RowStream
from deepseek.data.table.staging import StagedRows
from deepseek.data.table.transaction import MAX_FILE_BYTES, as_stored
from deepseek.errors import TableError

_ATTEMPTS = 5
_ROW = "__row"
_ADDRESS = "_rowaddr"
_OFFSET_BITS = 32
Array = np.ndarray[Any, np.dtype[np.int64]]


def merge(path: str, table: Any, rows: StagedRows, keys: list[str]) -> tuple[int, int, int]:
    """Commit the rows; returns how many were inserted, how many updated, and the new version.

    ``table`` is the open table, which this moves to the newest version as often as it has to look again.
    """
    options = storage.options_for(path)
    for attempt in range(_ATTEMPTS):
        table.refresh()
        dataset = open_dataset(path, table.version, options)
        places, addresses = _matches(dataset, rows, keys)
        updated = len(np.unique(places))
        stream = RowStream(table.schema, _completed(table, rows, places, addresses), None)
        as_stored(stream)
        try:
            written = write_fragments(
                stream.reader(lambda _: None),
                dataset,
                mode="append",
                max_bytes_per_file=MAX_FILE_BYTES,
                storage_options=options,
            )
            removed, changed = _deleted(dataset, addresses)
            operation = lance.LanceOperation.Update(
                removed_fragment_ids=removed, updated_fragments=changed, new_fragments=written, fields_modified=[]
            )
            # no retries inside Lance: rows committed meanwhile may have the same keys
            done = lance.LanceDataset.commit(
                dataset, operation, read_version=dataset.version, storage_options=options, max_retries=0
            )
        except LANCE_ERRORS as error:
            if stream.error is not None:
                raise stream.error from None
            if is_conflict(error) and attempt + 1 < _ATTEMPTS:
                continue
            raise write_error(error, path, "upsert") from cause(error)
        return rows.count - updated, updated, int(done.version)
    raise AssertionError("unreachable")


def require_unique(rows: StagedRows, keys: list[str], purpose: str) -> None:
    """Raise :class:`TableError` when a key comes twice in the rows. Null keys are not equal to one another."""
    from deepseek.data.query import connect

    names = ", ".join(map(_quoted, keys))
    known = " AND ".join(f"{_quoted(key)} IS NOT NULL" for key in keys)
    with connect() as connection:
        connection.register("new", rows.reader(keys))
        found: list[tuple[Any, ...]] = connection.execute(
            f"SELECT {names}, count(*) FROM new WHERE {known} GROUP BY {names} HAVING count(*) > 1 LIMIT 1"  # noqa: S608
        ).fetchall()
    if found:
        *key, count = found[0]
        shown = ", ".join(f"{name} = {value!r}" for name, value in zip(keys, key, strict=True))
        raise TableError(
            f"{purpose}: the key {shown} comes {count} times in the rows, so which one to keep is not known; remove "
            f"the duplicates or name more key columns. Nothing was written."
        )


def _matches(dataset: Any, rows: StagedRows, keys: list[str]) -> tuple[Array, Array]:
    """The places of the new rows that replace rows, ascending, and the addresses of what they replace."""
    from deepseek.data.query import connect

    def numbered() -> Iterator[pa.RecordBatch]:
        count = 0
        for batch in rows.reader(keys):
            numbers = pa.array(np.arange(count, count + batch.num_rows, dtype=np.int64))
            count += batch.num_rows
            yield pa.RecordBatch.from_arrays([*batch.columns, numbers], names=[*keys, _ROW])

    schema = pa.schema([*(rows.schema.field(key) for key in keys), (_ROW, pa.int64())])
    limit = min((batching.batch_rows(g, dataset.schema, keys) for g in batching.groups(dataset)), default=1)
    held = dataset.scanner(columns=keys, with_row_address=True, batch_size=limit, **batching.SCAN).to_reader()
    condition = " AND ".join(f"new.{_quoted(key)} = old.{_quoted(key)}" for key in keys)
    with connect() as connection:
        connection.register("new", pa.RecordBatchReader.from_batches(schema, numbered()))
        connection.register("old", held)
        found: pa.Table = connection.sql(
            f"SELECT new.{_ROW} AS place, old.{_ADDRESS} AS address FROM old JOIN new ON {condition} ORDER BY 1, 2"  # noqa: S608
        ).to_arrow_table()
    return found["place"].to_numpy(), found["address"].to_numpy().astype(np.int64)


def _completed(table: Any, rows: StagedRows, places: Array, addresses: Array) -> Iterator[pa.RecordBatch]:
    """The new rows with all columns of the table: those that they lack from the row replaced, or null."""
    schema: pa.Schema = table.schema
    missing = [name for name in schema.names if name not in rows.schema.names]
    start = 0
    for batch in rows.reader():
        stop = start + batch.num_rows
        columns = {name: batch.column(name) for name in rows.schema.names}
        if missing:
            low, high = np.searchsorted(places, [start, stop])
            # a key that the table has several times replaces all of them, and takes over the values of the first
            first = low + np.unique(places[low:high], return_index=True)[1]
            old = table._take_addresses(addresses[first].tolist(), missing)
            source = np.full(batch.num_rows, -1, dtype=np.int64)
            source[places[first] - start] = np.arange(len(first))
            picks = pa.array(source, mask=source < 0)
            columns |= {name: pc.take(_single(old[name]), picks) for name in missing}
        yield pa.RecordBatch.from_arrays(
            [_cast(columns[field.name], field.type) for field in schema], schema=schema.remove_metadata()
        )
        start = stop


def _single(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else column.cast(kind)


def _deleted(dataset: Any, addresses: Array) -> tuple[list[int], list[Any]]:
    """Fragments that lose all rows, and those that lose some."""
    removed: list[int] = []
    changed: list[Any] = []
    for number in np.unique(addresses >> _OFFSET_BITS).tolist():
        offsets: Sequence[int] = np.unique(
            addresses[addresses >> _OFFSET_BITS == number] & ((1 << _OFFSET_BITS) - 1)
        ).tolist()
        left = dataset.get_fragment(number).delete_rows(offsets)
        if left is None:
            removed.append(number)
        else:
            changed.append(left)
    return removed, changed


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
