"""Turns whatever a user hands over as rows into one stream of Arrow record batches.

Covers Arrow tables, readers and batches, and iterables of dicts or of batches. Memory is bounded by one batch: dicts
are gathered up to ``BATCH_ROWS`` rows or ``BATCH_BYTES`` bytes of text, whichever comes first. The first batch is made
at once, so a wrong column or type is reported before anything is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import pyarrow as pa

from deepseek.errors import TableError

RowsLike: TypeAlias = (
    "pa.Table | pa.RecordBatchReader | pa.RecordBatch | Iterable[Mapping[str, Any]] | Iterable[pa.RecordBatch]"
)

BATCH_ROWS = 8192
BATCH_BYTES = 16 << 20


class RowStream:
    """Record batches of one schema. ``error`` keeps what the rows' iterator raised, which Arrow's C interface hides."""

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], total: int | None) -> None:
        self.schema = schema
        self.total = total
        self.error: BaseException | None = None
        self._batches = batches

    def first(self) -> pa.RecordBatch | None:
        """The first batch, which stays in the stream; ``None`` when there is none."""
        iterator = iter(self._batches)
        batch = next(iterator, None)
        self._batches = iterator if batch is None else itertools.chain([batch], iterator)
        return batch

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The batches, once."""
        return iter(self._batches)

    def retype(self, schema: pa.Schema, convert: Callable[[pa.RecordBatch, pa.Schema], pa.RecordBatch]) -> None:
        """Give the stream another schema; ``convert`` turns each batch when it is read."""
        batches, self.schema = self._batches, schema
        self._batches = (convert(batch, schema) for batch in batches)

    def reader(self, on_rows: Callable[[int], None]) -> pa.RecordBatchReader:
        """The stream as an Arrow reader that reports each batch's row count to ``on_rows``."""

        def watched() -> Iterator[pa.RecordBatch]:
            try:
                for batch in self._batches:
                    yield batch
                    on_rows(batch.num_rows)
            except BaseException as error:  # a KeyboardInterrupt must come out as one, too
                self.error = error
                raise

        return pa.RecordBatchReader.from_batches(self.schema, watched())


def stream(
    rows: RowsLike | RowStream,
    schema: pa.Schema | None,
    *,
    purpose: str,
    like: pa.Schema | None = None,
    extra: bool = False,
) -> RowStream:
    """Make a :class:`RowStream` of ``rows`` with ``schema`` (inferred from the first batch when it is ``None``).

    With ``like`` instead, the stream has the columns that the rows have, with the types that ``like`` gives them;
    columns that ``like`` lacks are an error unless ``extra`` lets them in.

    Raises:
        TableError: a column is unknown or has another type than ``schema`` says, or there are no rows and no schema.
        TypeError: ``rows`` is of none of the supported kinds.
    """
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if isinstance(rows, RowStream):
        rows.retype(_target(rows.schema, schema, like, extra, purpose), conform)
        return rows
    if isinstance(rows, pa.Table):
        target = _target(rows.schema, schema, like, extra, purpose)
        batches = rows.to_batches(max_chunksize=BATCH_ROWS)
        return RowStream(target, (conform(batch, target) for batch in batches), rows.num_rows)
    if isinstance(rows, pa.RecordBatchReader):
        target = _target(rows.schema, schema, like, extra, purpose)
        return RowStream(target, (conform(batch, target) for batch in rows), None)
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise TypeError(
            f"rows: expected an Arrow table, reader or batch, or an iterable of dicts or batches; received {type(rows)}"
        )
    iterator = iter(rows)
    first = next(iterator, None)
    if first is None:
        if like is not None:
            return RowStream(like, (), 0)
        if schema is None:
            raise TableError(f"{purpose}: there are no rows to infer a schema from; give schema= for an empty table")
        return RowStream(schema, (), 0)
    everything: Iterator[Any] = itertools.chain([first], iterator)
    if isinstance(first, pa.RecordBatch):
        target = _target(first.schema, schema, like, extra, purpose)
        checked = ((check_schema(batch.schema, target, purpose), batch)[1] for batch in everything)
        return RowStream(target, (conform(batch, target) for batch in checked), None)
    chunks = _chunks(everything)
    head = next(chunks)
    target = _infer(head, purpose) if schema is None else schema
    if like is not None:
        known = pa.schema([like.field(f.name) if f.name in like.names else f for f in target])
        target = _target(known, None, like, extra, purpose)
    head_batch = _encode(head, target, purpose, 0)
    return RowStream(target, itertools.chain([head_batch], _encoded(chunks, target, purpose, len(head))), None)


def check_schema(received: pa.Schema, expected: pa.Schema | None, purpose: str) -> pa.Schema:
    """Return the schema to write with; raise :class:`TableError` naming the first column that does not fit.

    Columns that are absent in ``received`` become null. String columns of any width fit one another, and so do
    binary ones.
    """
    if len(set(received.names)) != len(received.names):
        twice = sorted({name for name in received.names if received.names.count(name) > 1})
        raise TableError(f"{purpose}: column {twice[0]!r} appears twice")
    if expected is None:
        return received.remove_metadata()
    for field in received:
        if field.name not in expected.names:
            raise TableError(
                f"{purpose}: the table has no column {field.name!r}; its columns: {', '.join(expected.names)}. "
                f"Use append(..., evolve=True) or add_columns to add one."
            )
        wanted = expected.field(field.name).type
        if field.type != wanted and not same_family(field.type, wanted):
            raise TableError(
                f"{purpose}: column {field.name!r}: expected {wanted}, received {field.type}; cast it before writing"
            )
    for field in expected:
        if field.name not in received.names and not field.nullable:
            raise TableError(f"{purpose}: column {field.name!r} is missing and may not be null")
    return expected


def _target(
    received: pa.Schema, schema: pa.Schema | None, like: pa.Schema | None, extra: bool, purpose: str
) -> pa.Schema:
    if like is None:
        return check_schema(received, schema, purpose)
    plain = check_schema(received, None, purpose)
    shared = pa.schema([field for field in plain if field.name in like.names or not extra])
    wanted = pa.schema([like.field(name) for name in like.names if name in shared.names])
    check_schema(shared, wanted if set(shared.names) <= set(like.names) else like, purpose)
    return pa.schema([like.field(field.name) if field.name in like.names else field for field in plain])


def same_family(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether both are texts, or both are bytes, whatever their width."""
    return any(any(test(one) for test in tests) and any(test(other) for test in tests) for tests in _FAMILIES)


def is_bytes(kind: pa.DataType) -> bool:
    """Whether the type holds bytes of any length."""
    return any(test(kind) for test in _FAMILIES[1])


_FAMILIES = (
    (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
)


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """``batch`` with the columns of ``schema`` in its order: missing ones null, widths of texts and bytes cast."""
    if batch.schema.equals(schema):
        return batch
    columns = []
    for field in schema:
        if field.name in batch.schema.names:
            column = batch.column(field.name)
            columns.append(column if column.type == field.type else column.cast(field.type))
        else:
            columns.append(pa.nulls(batch.num_rows, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _chunks(rows: Iterator[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    chunk: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        if not isinstance(row, Mapping):
            raise TypeError(f"row: expected a dict of column to value, received {type(row)}")
        chunk.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, str | bytes))
        if len(chunk) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _infer(chunk: list[Mapping[str, Any]], purpose: str) -> pa.Schema:
    fields = []
    for name in dict.fromkeys(name for row in chunk for name in row):
        try:
            kind = pa.infer_type([row.get(name) for row in chunk])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise TableError(f"{purpose}: column {name!r} mixes types: {error}") from error
        # a column without any value yet: text is the widest guess, and schema= says it better
        fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)


def _encoded(
    chunks: Iterable[list[Mapping[str, Any]]], schema: pa.Schema, purpose: str, start: int
) -> Iterator[pa.RecordBatch]:
    for chunk in chunks:
        yield _encode(chunk, schema, purpose, start)
        start += len(chunk)


def _encode(chunk: list[Mapping[str, Any]], schema: pa.Schema, purpose: str, start: int) -> pa.RecordBatch:
    known = set(schema.names)
    for offset, row in enumerate(chunk):
        if not row.keys() <= known:
            extra = next(name for name in row if name not in known)
            raise TableError(
                f"{purpose}: row {start + offset} has the column {extra!r}, which the table does not have; its "
                f"columns: {', '.join(schema.names)}. Give schema= if later rows have more columns than the first."
            )
    columns = []
    for field in schema:
        values = [row.get(field.name) for row in chunk]
        try:
            columns.append(pa.array(values, field.type))
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            offset, value = _first_unfit(values, field.type)
            raise TableError(
                f"{purpose}: column {field.name!r}, row {start + offset}: expected {field.type}, received "
                f"{type(value).__name__} {str(value)[:80]!r}"
            ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _first_unfit(values: list[Any], kind: pa.DataType) -> tuple[int, Any]:
    for offset, value in enumerate(values):
        try:
            pa.array([value], kind)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            return offset, value
    return 0, values[0]
