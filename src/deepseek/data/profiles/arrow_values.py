"""Arrow types and arrays as the sketches need them: numbers, vectors, sizes, formats of bytes."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.profiles.sketches import Floats

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"%PDF", "pdf"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"NRRD", "nrrd"),
    (b"\x93NUMPY", "npy"),
    (b"PAR1", "parquet"),
)
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def storage(kind: pa.DataType) -> pa.DataType:
    """The type that carries the values: without extension types and dictionaries."""
    if isinstance(kind, pa.BaseExtensionType):
        return storage(kind.storage_type)
    return storage(kind.value_type) if pa.types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Strings of any width."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Bytes of any width."""
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def is_number(kind: pa.DataType) -> bool:
    """Integers, floats, decimals and durations (in seconds)."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_duration)
    return any(test(kind) for test in tests)


def is_time(kind: pa.DataType) -> bool:
    """Points in time: timestamps and dates."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def is_vector(kind: pa.DataType) -> bool:
    """Lists of one fixed length whose items are numbers."""
    return bool(pa.types.is_fixed_size_list(kind) and kind.list_size > 0 and is_number(kind.value_type))


def is_list(kind: pa.DataType) -> bool:
    """Lists of any length; a map is one of pairs, which nothing is said about."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_stored_blob(field: pa.Field) -> bool:
    """Whether Lance keeps the bytes apart and a scan gives only their place and size."""
    kind = storage(field.type)
    return (
        pa.types.is_struct(kind)
        and (field.metadata or {}).get(b"lance-encoding:blob") == b"true"
        and any(child.name == "size" for child in kind)
    )


def plain(array: pa.Array) -> pa.Array:
    """The array in its storage type: extension types taken off, dictionaries of anything but text decoded."""
    if isinstance(array.type, pa.BaseExtensionType):
        return plain(array.storage)
    if pa.types.is_dictionary(array.type) and not is_text(array.type.value_type):
        return plain(array.dictionary_decode())
    return array


def numbers(array: pa.Array) -> Floats:
    """The values of an array without nulls as float64; times and durations in seconds."""
    kind, scale = array.type, 1.0
    if pa.types.is_date32(kind):
        array, scale = array.cast(pa.int32()), 86400.0
    elif pa.types.is_date64(kind):
        array, scale = array.cast(pa.int64()), 1e-3
    elif pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        array, scale = array.cast(pa.int64()), _SECONDS[kind.unit]
    values = np.asarray(array.cast(pa.float64(), safe=False), dtype=np.float64)
    if scale == 1.0:
        return values
    return values * scale if scale > 1 else values / round(1 / scale)  # dividing keeps whole milliseconds exact


def matrix(array: pa.Array, dimension: int) -> Floats:
    """Vectors without nulls as an array of shape (vectors, dimension); a null inside a vector becomes NaN."""
    items = array.flatten()
    if pa.types.is_floating(items.type) and items.null_count:
        items = pc.fill_null(items, float("nan"))
    values: npt.NDArray[np.float64] = np.asarray(items.cast(pa.float64(), safe=False), dtype=np.float64)
    return values.reshape(len(array), dimension)


def iso(seconds: float) -> str:
    """ISO 8601 in UTC, ``"2026-01-31T12:00:00Z"``; seconds themselves where the calendar of Python ends."""
    try:
        return (dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)).isoformat() + "Z"
    except OverflowError:
        return f"{seconds:.0f} s"


def formats(array: pa.Array) -> Counter[str]:
    """How many values begin as files of which format do; ``"other"`` for the rest, ``"empty"`` for no bytes."""
    wide = array.cast(pa.large_binary()) if pa.types.is_binary_view(array.type) else array
    heads = pc.value_counts(pc.binary_slice(wide, 0, 16))
    found: Counter[str] = Counter()
    for head, count in zip(heads.field("values").to_pylist(), heads.field("counts").to_pylist(), strict=True):
        found[_format(head)] += count
    return found


def _format(head: bytes) -> str:
    if not head:
        return "empty"
    if head[:4] == b"RIFF":
        return {b"WEBP": "webp", b"WAVE": "wav", b"AVI ": "avi"}.get(head[8:12], "other")
    if head[4:8] == b"ftyp":
        return "mp4"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "other")
