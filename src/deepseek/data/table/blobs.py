"""Columns of large binary values: how they look from outside, and how they are stored.

From outside a blob column is ``large_binary``: bytes go in, bytes come out. Inside it is Lance's blob encoding, version
2: values of up to 64 kB lie in the data file, larger ones packed in files beside it, huge ones in a file each, and a
scan moves descriptors instead of bytes. Conditions, joins and new columns so do not move the bytes, and a value of
gigabytes can be opened as a file. Random reads on a local disk go straight to the files (``blob_files.py``) and are as
fast as a folder of files in large calls and in batches; ``benchmarks/LOG.md`` has the figures, those of a plain binary
column too. Below a few kilobytes these gains are gone, hence :data:`BLOB_BYTES`.
"""

from __future__ import annotations

from collections.abc import Sequence

import lance
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.table.rows import RowStream, conform, is_bytes
from deepseek.errors import TableError, UnknownNameError

BLOB_BYTES = 4096
"""A binary column whose first values are of this size or more on average becomes a blob column."""

_MARK = {b"deepseek.storage": b"blob"}
_STORED = "lance.blob.v2"


def blob_field(name: str, *, nullable: bool = True) -> pa.Field:
    """A field for a column of blobs (images, audio, volumes, any bytes), for a ``schema=``."""
    return pa.field(name, pa.large_binary(), nullable=nullable, metadata=_MARK)


def vector_field(name: str, dimensions: int, kind: pa.DataType | None = None, *, nullable: bool = True) -> pa.Field:
    """A field for a column of vectors of one length, ``float32`` unless ``kind`` says otherwise, for a ``schema=``."""
    if dimensions < 1:
        raise TableError(f"vector {name!r}: expected at least 1 dimension, received {dimensions}")
    return pa.field(name, pa.list_(kind or pa.float32(), dimensions), nullable=nullable)


def is_blob(field: pa.Field) -> bool:
    """Whether the field, as stored or as seen from outside, is one of blobs."""
    return _is_stored(field) or (field.metadata or {}).get(b"deepseek.storage") == b"blob"


def _is_stored(field: pa.Field) -> bool:
    return getattr(field.type, "extension_name", None) == _STORED


def logical_schema(stored: pa.Schema) -> pa.Schema:
    """The schema as seen from outside: blobs are ``large_binary``."""
    fields = [blob_field(f.name, nullable=f.nullable) if _is_stored(f) else f for f in stored]
    return pa.schema(fields, metadata=stored.metadata)


def stored_schema(logical: pa.Schema) -> pa.Schema:
    """The schema that Lance is given."""
    fields = [lance.blob_field(f.name, nullable=f.nullable) if is_blob(f) else f for f in logical]
    return pa.schema(fields, metadata=logical.metadata)


def to_stored(batch: pa.RecordBatch, stored: pa.Schema) -> pa.RecordBatch:
    """The batch with its blob columns as Lance takes them; no bytes are copied."""
    columns = []
    for field in stored:
        column = batch.column(field.name)
        if _is_stored(field) and not isinstance(column.type, pa.BaseExtensionType):
            data = column if pa.types.is_large_binary(column.type) else column.cast(pa.large_binary())
            rows = len(data)
            parts = [data, *(pa.nulls(rows, child.type) for child in list(field.type.storage_type)[1:])]
            storage = pa.StructArray.from_arrays(
                parts, fields=list(field.type.storage_type), mask=pc.is_null(data) if data.null_count else None
            )
            column = pa.ExtensionArray.from_storage(field.type, storage)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=stored)


def mark_blobs(rows: RowStream, names: Sequence[str] | None, purpose: str) -> None:
    """Decide which columns of a new table hold blobs: those named, or those whose first values are large.

    Raises:
        UnknownNameError: there is no such column.
        TableError: it does not hold bytes.
    """
    schema = rows.schema
    for name in names or ():
        if name not in schema.names:
            raise UnknownNameError("column", name, schema.names, hint="blobs=")
        if not is_bytes(schema.field(name).type):
            raise TableError(f"{purpose}: blobs: column {name!r}: expected bytes, received {schema.field(name).type}")
    chosen = {field.name for field in schema if is_blob(field)} | set(names or ())
    if names is None and (first := rows.first()) is not None:
        chosen |= {f.name for f, column in zip(schema, first.columns, strict=True) if _is_large(f.type, column)}
    if not chosen:
        return
    fields = [blob_field(f.name, nullable=f.nullable) if f.name in chosen else f for f in schema]
    rows.retype(pa.schema(fields, metadata=schema.metadata), conform)


def _is_large(kind: pa.DataType, column: pa.Array) -> bool:
    if not is_bytes(kind) or len(column) == column.null_count:
        return False
    return bool(pc.mean(pc.binary_length(column.cast(pa.large_binary()))).as_py() >= BLOB_BYTES)
