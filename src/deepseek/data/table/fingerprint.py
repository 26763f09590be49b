"""The identity of a table's content: SHA-256 over schema and values, whatever the file layout.

Two tables have one fingerprint when their columns (names, types, order) and rows (values, order) are equal; paths,
versions, fragments, batch sizes and metadata play no part. Each column's values go through hashes of their own, as
validity, lengths and bytes, so that batch borders leave no trace; values under a null are not looked at.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.table.rows import is_bytes

if TYPE_CHECKING:
    from hashlib import _Hash


def fingerprint(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> str:
    """SHA-256 in hexadecimal of the content; reads the batches once, one at a time."""
    streams: defaultdict[str, _Hash] = defaultdict(hashlib.sha256)
    for batch in batches:
        for index, column in enumerate(batch.columns):
            _feed(streams, str(index), column)
    total = hashlib.sha256()
    for field in schema:
        # bytes are bytes, in whatever width they are stored
        kind = "binary" if is_bytes(field.type) else field.type
        total.update(f"{field.name!r}:{kind}\n".encode())
    for path in sorted(streams):
        total.update(f"{path}={streams[path].hexdigest()}\n".encode())
    return total.hexdigest()


def _feed(streams: defaultdict[str, _Hash], path: str, array: pa.Array) -> None:
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        _feed(streams, path, array.storage)
        return
    if pa.types.is_dictionary(kind):
        _feed(streams, path, array.dictionary_decode())
        return
    valid = np.asarray(pc.is_valid(array).cast(pa.uint8()))
    streams[path + "/valid"].update(valid.tobytes())
    if pa.types.is_null(kind):
        return
    if pa.types.is_struct(kind):
        for index, child in enumerate(array.flatten()):
            _feed(streams, f"{path}.{index}", child)
    elif pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        as_list = (
            array.cast(pa.large_list(pa.struct([kind.key_field, kind.item_field]))) if pa.types.is_map(kind) else array
        )
        streams[path + "/length"].update(_integers(pc.list_value_length(as_list)))
        _feed(streams, path + "[]", as_list.flatten())
    elif pa.types.is_fixed_size_list(kind):
        _feed(streams, path + "[]", array.drop_null().flatten())
    elif pa.types.is_boolean(kind):
        streams[path + "/data"].update(np.asarray(pc.fill_null(array, False).cast(pa.uint8())).tobytes())
    elif _is_variable(kind):
        wide = (
            array.cast(pa.large_string()).cast(pa.large_binary()) if _is_string(kind) else array.cast(pa.large_binary())
        )
        streams[path + "/length"].update(_integers(pc.binary_length(wide)))
        values = pc.fill_null(wide, b"")
        offsets = np.frombuffer(values.buffers()[1], dtype=np.int64)[values.offset : values.offset + len(values) + 1]
        if len(values) and offsets[-1] > offsets[0]:
            streams[path + "/data"].update(memoryview(values.buffers()[2])[offsets[0] : offsets[-1]])
    else:
        width = kind.bit_width // 8
        start, stop = array.offset * width, (array.offset + len(array)) * width
        data = np.frombuffer(array.buffers()[1], dtype=np.uint8)[start:stop].reshape(len(array), width)
        streams[path + "/data"].update(np.where(valid[:, None] == 1, data, np.uint8(0)).tobytes())


def _integers(array: pa.Array) -> bytes:
    return np.asarray(pc.fill_null(array.cast(pa.int64()), 0)).tobytes()


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_variable(kind: pa.DataType) -> bool:
    return _is_string(kind) or bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )
