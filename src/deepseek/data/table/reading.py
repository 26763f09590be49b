"""Reading a table: whole, in batches of bounded size, at random positions, and blobs as files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.table import batching
from deepseek.data.table.blob_files import BlobReader
from deepseek.data.table.fingerprint import fingerprint
from deepseek.data.table.handle import TableHandle
from deepseek.data.table.lance_errors import LANCE_ERRORS, cause, filter_error
from deepseek.data.table.lance_io import open_dataset
from deepseek.errors import TableError
from deepseek.resources import Holes

_ADDRESS = "_rowaddr"


class ReadingMixin(TableHandle):
    """The reading half of :class:`Table`."""

    def to_arrow(
        self, columns: Sequence[str] | None = None, *, where: str | None = None, limit: int | None = None
    ) -> pa.Table:
        """Rows as an Arrow table in memory, in table order."""
        self._check_columns(columns)
        schema = self._projected(columns)
        if limit is not None and limit < 0:
            raise TableError(f"limit: expected 0 or more, received {limit}")
        try:
            if not self._blobs_of(columns):
                read = self._dataset.to_table(columns=_listed(columns), filter=where, limit=limit)
                return read.replace_schema_metadata(schema.metadata)
            return pa.Table.from_batches(_limited(self._scan(columns, where, batching.BATCH_ROWS), limit), schema)
        except LANCE_ERRORS as error:
            raise filter_error(error, where or "", self.columns) from cause(error)

    def batches(
        self,
        columns: Sequence[str] | None = None,
        *,
        where: str | None = None,
        batch_size: int = batching.BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Rows as record batches, in table order.

        A batch has up to ``batch_size`` rows and about 8 MiB at most, so memory is bounded by a few batches whatever
        the size of the table or its rows.
        """
        self._check_columns(columns)
        if batch_size < 1:
            raise TableError(f"batch_size: expected at least 1, received {batch_size}")
        try:
            yield from self._scan(columns, where, batch_size)
        except LANCE_ERRORS as error:
            raise filter_error(error, where or "", self.columns) from cause(error)

    def reader(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pa.RecordBatchReader:
        """:meth:`batches` as an Arrow reader, for libraries that stream."""
        self._check_columns(columns)
        return pa.RecordBatchReader.from_batches(self._projected(columns), self.batches(columns, where=where))

    def arrow_dataset(self) -> Any:
        """This version as a ``pyarrow.dataset.Dataset``, into which engines push columns and conditions down."""
        rows = batching.batch_rows_with_blobs(self._dataset, self.schema)
        return open_dataset(
            self.path, self.version, scan={"batch_size": rows, "blob_handling": "all_binary", **batching.SCAN}
        )

    def take(self, indices: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows at the given positions (0-based), in the given order; a position may come twice.

        Raises:
            TableError: a position is outside the table.
        """
        self._check_columns(columns)
        places = np.asarray(indices, dtype=np.int64).reshape(-1)
        schema = self._projected(columns)
        if not len(places):
            return schema.empty_table()
        size = len(self)
        if places.min() < 0 or places.max() >= size:
            outside = next(int(place) for place in places if not 0 <= place < size)
            raise TableError(f"take: expected positions 0 to {size - 1}, received {outside}")
        if known := self._known_blobs(schema, places):
            others = [name for name in schema.names if name not in known]
            if others:
                taken = self._dataset.take(places.tolist(), columns=others)
                known |= {name: taken[name] for name in others}
            return pa.Table.from_arrays([known[name] for name in schema.names], schema=schema)
        return self._gathered(schema, indices=places.tolist())

    def open_blob(self, column: str, row: int) -> BinaryIO | None:
        """The value at position ``row`` of a binary column as a read-only file; ``None`` when it is null.

        For a blob column only what is read from the file is fetched, so values of many gigabytes are no trouble:
        ``file.seek(offset)`` and ``file.read(size)`` cost one request each.

        Raises:
            TableError: the column does not hold bytes, or the position is outside the table.
        """
        self._check_columns([column])
        if not 0 <= row < len(self):
            raise TableError(f"open_blob: expected a position from 0 to {len(self) - 1}, received {row}")
        if column in self.blobs:
            return cast("BinaryIO | None", self._dataset.take_blobs(column, indices=[row])[0])
        value = self.take([row], [column])[column][0].as_py()
        if not isinstance(value, bytes | None):
            raise TableError(f"open_blob: column {column!r}: expected bytes, received {self.schema.field(column).type}")
        return None if value is None else io.BytesIO(value)

    def rows(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> Iterator[dict[str, Any]]:
        """Rows as dicts, one at a time, in table order."""
        for batch in self.batches(columns, where=where):
            yield from batch.to_pylist()

    def count(self, where: str | None = None) -> int:
        """How many rows match."""
        if where is None:
            return len(self)
        try:
            return int(self._dataset.count_rows(where))
        except LANCE_ERRORS as error:
            raise filter_error(error, where, self.columns) from cause(error)

    def positions(self, where: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The positions (0-based) of the rows that match, ascending; 8 bytes each."""
        found: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        scan = {"with_row_address": True, "columns": [], "batch_size": 65_536}
        try:
            # both scans go through storage in the same order, so the matching rows are found by merging
            matching = self._dataset.scanner(filter=where, **scan).to_table()[_ADDRESS].to_numpy()
            offset = 0
            for batch in self._dataset.scanner(**scan).to_batches():
                addresses = batch.column(_ADDRESS).to_numpy()
                low, high = np.searchsorted(matching, [addresses[0], addresses[-1] + 1])
                found.append(np.searchsorted(addresses, matching[low:high]) + offset)
                offset += len(addresses)
        except LANCE_ERRORS as error:
            raise filter_error(error, where, self.columns) from cause(error)
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of columns and rows: equal content, equal fingerprint, wherever and however stored."""
        return fingerprint(self.schema, self.batches())

    def _take_addresses(self, addresses: Sequence[int], columns: Sequence[str] | None) -> pa.Table:
        """Rows by their addresses in storage, in the given order."""
        schema = self._projected(columns)
        if not addresses:
            return schema.empty_table()
        return self._gathered(schema, addresses=list(addresses))

    def _gathered(self, schema: pa.Schema, **selection: list[int]) -> pa.Table:
        dataset, blobs = self._dataset, self._blobs_of(schema.names)
        columns = [*schema.names, _ADDRESS] if blobs else schema.names
        if "addresses" in selection:
            taken = dataset._take_rows(selection["addresses"], columns=columns)
        else:
            taken = dataset.take(selection["indices"], columns=columns)
        if not blobs:
            return pa.Table.from_arrays(taken.columns, schema=schema)
        addresses = taken[_ADDRESS].combine_chunks()
        parts = {name: self._blob_reader.values(name, taken[name].combine_chunks(), addresses) for name in blobs}
        return pa.Table.from_arrays([parts.get(name, taken[name]) for name in schema.names], schema=schema)

    def _known_blobs(
        self, schema: pa.Schema, places: np.ndarray[Any, np.dtype[np.int64]]
    ) -> dict[str, pa.Array | pa.ChunkedArray]:
        """The blob columns, if it is known where all their blobs are; else none of them."""
        found: dict[str, pa.Array | pa.ChunkedArray] = {}
        for name in self._blobs_of(schema.names):
            values = self._blob_reader.take(name, places)
            if values is None:
                return {}
            found[name] = values
        return found

    @property
    def _blob_reader(self) -> BlobReader:
        dataset = self._dataset
        if self._reader is None:
            self._reader = BlobReader(dataset, self.path)
        return self._reader

    def _projected(self, columns: Sequence[str] | None) -> pa.Schema:
        schema = self.schema
        if columns is None:
            return schema
        return pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)

    def _blobs_of(self, columns: Sequence[str] | None) -> list[str]:
        return [name for name in self.blobs if columns is None or name in columns]

    def _scan(self, columns: Sequence[str] | None, where: str | None, most_rows: int) -> Iterator[pa.RecordBatch]:
        """Scan group by group; a condition is applied in one scan, so that an index answers it once."""
        dataset, schema = self._dataset, self._projected(columns)
        if where is None:
            for fragments in batching.groups(dataset):
                rows = batching.batch_rows(fragments, dataset.schema, schema.names, most_rows)
                yield from scan_batches(dataset, schema, rows, fragments=fragments)
            return
        pieces = list(batching.groups(dataset))
        sampled = pieces[:: max(1, len(pieces) // batching.SAMPLE_GROUPS)]
        sizes = [batching.batch_rows(piece, dataset.schema, schema.names, most_rows) for piece in sampled]
        yield from scan_batches(dataset, schema, min(sizes, default=1), where=where)


def scan_batches(
    dataset: Any, schema: pa.Schema, rows: int, *, where: str | None = None, fragments: Any = None
) -> Iterator[pa.RecordBatch]:
    """Batches of a Lance data set with the logical ``schema``, of at most ``rows`` rows and bounded bytes."""
    stored = dataset.schema
    blobs = [name for name in schema.names if _is_stored_blob(stored, name)]
    reader = BlobReader(dataset, dataset.uri)
    scanner = dataset.scanner(
        columns=schema.names,
        filter=where,
        batch_size=rows,
        fragments=fragments,
        with_row_address=bool(blobs),
        **batching.SCAN,
    )
    holes = Holes()
    for batch in scanner.to_batches():
        if not batch.num_rows:
            continue
        yield from _with_blobs(reader, batch, schema, blobs)
        holes.passed(batch.nbytes)


def _is_stored_blob(stored: pa.Schema, name: str) -> bool:
    return getattr(stored.field(name).type, "extension_name", None) == "lance.blob.v2"


def _with_blobs(
    reader: BlobReader, batch: pa.RecordBatch, schema: pa.Schema, blobs: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Replace the blobs' descriptors by their bytes, in slices whose bytes stay near the batch size."""
    if not blobs:
        yield batch
        return
    addresses = batch.column(_ADDRESS)
    sizes = np.zeros(batch.num_rows, dtype=np.int64)
    for name in blobs:
        size = pc.struct_field(batch.column(name), "size")
        sizes += np.asarray(pc.fill_null(size, 0).cast(pa.int64()))
    for start, stop in _slices(sizes):
        places = addresses.slice(start, stop - start)
        parts = {name: reader.values(name, batch.column(name).slice(start, stop - start), places) for name in blobs}
        arrays = [
            parts[name] if name in parts else batch.column(name).slice(start, stop - start) for name in schema.names
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _slices(sizes: np.ndarray[Any, np.dtype[np.int64]]) -> Iterator[tuple[int, int]]:
    start, total = 0, 0
    for place, size in enumerate(sizes.tolist()):
        if place > start and total + size > batching.BATCH_BYTES:
            yield start, place
            start, total = place, 0
        total += size
    yield start, len(sizes)


def _limited(batches: Iterator[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    left = limit
    for batch in batches:
        if left is None:
            yield batch
            continue
        if left <= 0:
            return
        yield batch.slice(0, left)
        left -= batch.num_rows


def _listed(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(columns)
