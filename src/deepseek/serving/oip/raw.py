"""Raw tensor bytes: row-major little-endian elements; ``BYTES`` elements carry a 4-byte little-endian length each."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from deepseek.serving.errors import RequestError
from deepseek.serving.oip.tensor_field import TensorField

_LENGTH = struct.Struct("<I")


def unpack(field: TensorField, data: bytes) -> list[bytes] | np.ndarray[Any, Any]:
    """Return the elements of a raw tensor; raises :class:`RequestError` when the bytes do not add up."""
    dtype = field.raw_dtype
    if dtype is not None:
        if len(data) % dtype.itemsize:
            raise RequestError(
                f"{field.where}: expected a multiple of {dtype.itemsize} raw bytes for {field.datatype}, "
                f"received {len(data)}"
            )
        # A copy: the elements must outlive the message that they came in, and be writable and aligned.
        return np.frombuffer(data, dtype).astype(field.native_dtype)
    elements: list[bytes] = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise RequestError(f"{field.where}: the raw bytes end inside the length of element {len(elements)}")
        (size,) = _LENGTH.unpack_from(data, at)
        at += 4
        if at + size > len(data):
            raise RequestError(
                f"{field.where}: element {len(elements)} says {size} bytes, but only {len(data) - at} are left"
            )
        elements.append(data[at : at + size])
        at += size
    return elements


def pack(field: TensorField, flat: list[Any]) -> bytes:
    """Return the raw bytes of row-major elements (``str`` or ``bytes`` for a ``BYTES`` field)."""
    if field.raw_dtype is not None:
        return np.asarray(flat, dtype=field.raw_dtype).tobytes()
    encoded = [element.encode() for element in flat] if field.dtype == "string" else flat
    return b"".join(_LENGTH.pack(len(element)) + element for element in encoded)


def pack_rows(field: TensorField, values: list[Any]) -> tuple[list[int], bytes]:
    """Turn one output value a row into ``(shape, raw bytes)``; raises what ``flatten_rows`` raises."""
    first = values[0]
    dtype = field.raw_dtype
    if field.row_shape and dtype is not None and isinstance(first, np.ndarray) and first.ndim == len(field.row_shape):
        if len(values) == 1:
            return [1, *first.shape], first.astype(dtype, copy=False).tobytes()
        if all(isinstance(value, np.ndarray) and value.shape == first.shape for value in values):
            return [len(values), *first.shape], np.stack(values).astype(dtype, copy=False).tobytes()
    shape, flat = field.flatten_rows(values)
    return shape, pack(field, flat)


def text(field: TensorField, elements: list[bytes]) -> list[Any]:
    """The elements of a ``BYTES`` tensor as the field takes them: text is decoded; raises :class:`RequestError`."""
    if field.dtype != "string":
        return elements
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError as error:
        raise RequestError(f"{field.where}: expected UTF-8 text, received other bytes ({error.reason})") from error
