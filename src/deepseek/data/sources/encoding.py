"""Parsed rows into record batches; a row with a value that its column cannot hold is rejected, its neighbours stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from deepseek.data.sources.base import BATCH_BYTES, BATCH_ROWS, EXCERPT_CHARS, OnReject, Reject
from deepseek.data.table.rows import is_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """A parsed row with the line that it begins on."""

    line: int | None
    values: Mapping[str, Any]


def encode(rows: Iterable[Located], schema: pa.Schema, name: str, on_reject: OnReject) -> Iterator[pa.RecordBatch]:
    """Gather parsed rows into batches of up to ``BATCH_ROWS`` rows or ``BATCH_BYTES`` of text and bytes."""
    chunk: list[Located] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += sum(len(value) for value in row.values.values() if isinstance(value, str | bytes | memoryview))
        if len(chunk) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield encode_batch(chunk, schema, name, on_reject)
            chunk, size = [], 0
    if chunk:
        yield encode_batch(chunk, schema, name, on_reject)


UNFIT = (pa.ArrowException, OverflowError, TypeError, ValueError)
"""What Arrow raises for a value that a column cannot hold."""


def encode_batch(chunk: list[Located], schema: pa.Schema, name: str, on_reject: OnReject) -> pa.RecordBatch:
    """One record batch of the rows that fit; the others are rejected with the column and what was expected."""
    try:
        return _to_batch(chunk, schema)
    except UNFIT:  # at least one row does not fit: find which, keep the others
        fitting = []
        for row in chunk:
            if reason := _unfit(row, schema):
                raw = repr(dict(row.values))[:EXCERPT_CHARS]
                on_reject(Reject(reason=reason, source=name, line=row.line, raw=raw))
            else:
                fitting.append(row)
        return _to_batch(fitting, schema)


def _to_batch(chunk: list[Located], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [_array([row.values.get(field.name) for row in chunk], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_nested(kind):
        for value in values:
            _require_shape(value, kind)
    elif not _is_text(kind) and not is_bytes(kind):
        return pa.array(values, kind)
    elif any(isinstance(value, bytes if _is_text(kind) else str) for value in values):
        raise TypeError("Arrow would take bytes for text and text for bytes")
    return pa.array(values, kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _require_shape(value: Any, kind: pa.DataType) -> None:
    """Raise ``TypeError`` for a list where a struct belongs, which Arrow would read as pairs of name and value."""
    if pa.types.is_struct(kind) and value is not None:
        if not isinstance(value, Mapping):
            raise TypeError(f"expected a mapping for {kind}")
        for index in range(kind.num_fields):
            _require_shape(value.get(kind.field(index).name), kind.field(index).type)
    elif pa.types.is_list(kind) and pa.types.is_nested(kind.value_type) and isinstance(value, list | tuple):
        for item in value:
            _require_shape(item, kind.value_type)


def _unfit(row: Located, schema: pa.Schema) -> str:
    for column in schema:
        value = row.values.get(column.name)
        try:
            _array([value], column.type)
        except UnicodeEncodeError:
            return f"column {column.name!r} holds half of a surrogate pair, which no UTF-8 text can"
        except UNFIT:
            return f"column {column.name!r}: expected {column.type}, received {type(value).__name__}"
    return ""


def widened(known: pa.DataType | None, seen: pa.DataType) -> pa.DataType:
    """The type for both: integers widen to floats; the known one when they contradict each other."""
    if known is None or pa.types.is_null(known):
        return seen
    if known.equals(seen) or pa.types.is_null(seen):
        return known
    if {str(known), str(seen)} == {"int64", "double"}:
        return pa.float64()
    if pa.types.is_nested(known) and pa.types.is_nested(seen):
        try:
            fields = [pa.schema([pa.field("value", kind)]) for kind in (known, seen)]
            return pa.unify_schemas(fields, promote_options="permissive").field("value").type
        except (pa.ArrowException, ValueError):
            return known
    return known


def inferred_schema(kinds: Mapping[str, pa.DataType]) -> pa.Schema:
    """A schema of learnt types; a column that never held a value is text, the widest guess."""
    return pa.schema([pa.field(n, pa.string() if pa.types.is_null(kind) else kind) for n, kind in kinds.items()])
