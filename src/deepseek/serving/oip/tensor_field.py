"""One field of a signature as a batched tensor: what shapes and values it takes, and how rows become a tensor again.

The first dimension of every tensor is the batch. A scalar field takes the shapes ``[n]`` and ``[n, 1]`` and is returned
as ``[n]``; a field of shape ``s`` takes and returns ``[n, *s]``, where -1 in ``s`` fits any size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from deepseek.serving.errors import RequestError
from deepseek.serving.oip.byte_value import decode_bytes
from deepseek.tasks.signature import DType, Field


class Kind(NamedTuple):
    """How values of one dtype look in JSON, in protobuf and in memory."""

    json_types: frozenset[type]
    json_name: str
    contents: str
    """The field of ``InferTensorContents``."""
    raw: str
    """Little-endian numpy dtype of the raw form; empty for length-prefixed bytes."""
    bounds: tuple[float, float] | None = None
    """Of JSON's numbers, which have none of their own."""


_INT32 = (-(2**31), 2**31 - 1)
_FLOAT32 = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))
_INT64 = (-(2**63), 2**63 - 1)
KINDS: dict[DType, Kind] = {
    "string": Kind(frozenset({str}), "strings", "bytes_contents", ""),
    "bytes": Kind(frozenset({str}), "strings", "bytes_contents", ""),
    "bool": Kind(frozenset({bool}), "booleans", "bool_contents", "?"),
    "int32": Kind(frozenset({int}), "integers", "int_contents", "<i4", _INT32),
    "int64": Kind(frozenset({int}), "integers", "int64_contents", "<i8", _INT64),
    "float32": Kind(frozenset({int, float}), "numbers", "fp32_contents", "<f4", _FLOAT32),
    "float64": Kind(frozenset({int, float}), "numbers", "fp64_contents", "<f8"),
}


_MOST_EMPTY = 65_536
"""Parts of a tensor without elements: they cost a client no byte, and us an object each."""
_FLOATS = frozenset({"fp32_contents", "fp64_contents"})


class TensorField:
    """A signature's field compiled for the hot path; all its errors name the field, the expected and the received."""

    def __init__(self, field: Field, role: str) -> None:
        self.field = field
        self.name = field.name
        self.dtype: DType = field.dtype
        self.datatype = field.oip_datatype
        self.kind = KINDS[field.dtype]
        self.row_shape = field.shape
        self.where = f"{role} {field.name!r}"
        self.batch_shape = [-1, *field.shape]
        # Made once: numpy parses a dtype's name at every use.
        self.raw_dtype = np.dtype(self.kind.raw) if self.kind.raw else None
        """Little-endian numbers, as they are sent; ``None`` for strings and bytes."""
        self.native_dtype = np.dtype(field.dtype) if self.kind.raw else None
        """The same in memory."""
        self.metadata = {"name": field.name, "datatype": field.oip_datatype, "shape": self.batch_shape}
        self._fixed = None if any(size < 0 for size in field.shape) else list(field.shape)
        self._row_size = math.prod(field.shape)
        sizes = ", ".join("any" if size < 0 else str(size) for size in field.shape)
        self._shapes = f"[rows, {sizes}]" if field.shape else "[rows] or [rows, 1]"

    def count(self, datatype: str, sizes: list[int]) -> int:
        """Check a tensor's header; return the number of its elements. Raises :class:`RequestError`."""
        if datatype != self.datatype:
            raise RequestError(f"{self.where}: expected datatype {self.datatype}, received {datatype!r}")
        if sizes and sizes[0] > 0 and sizes[1:] == self._fixed:  # as nearly all are
            return sizes[0] * self._row_size
        if self.row_shape:
            fits = len(sizes) == len(self.row_shape) + 1 and all(
                want in (-1, got) for want, got in zip(self.row_shape, sizes[1:], strict=True)
            )
        else:
            fits = len(sizes) == 1 or (len(sizes) == 2 and sizes[1] == 1)
        if not fits or min(sizes) < 0:
            raise RequestError(f"{self.where}: expected shape {self._shapes}, received {sizes}")
        if sizes[0] == 0:
            raise RequestError(f"{self.where}: expected at least one row, received shape {sizes}")
        elements = math.prod(sizes)
        if elements == 0 and math.prod(size or 1 for size in sizes) > _MOST_EMPTY:
            raise RequestError(
                f"{self.where}: expected at most {_MOST_EMPTY} rows and parts in a tensor without elements, "
                f"received shape {sizes}"
            )
        return elements

    def check_length(self, received: int, expected: int, shape: Sequence[int], hint: str = "") -> None:
        """Raise :class:`RequestError` unless there are as many elements as the shape says."""
        if received != expected:
            raise RequestError(
                f"{self.where}: expected {expected} elements for shape {list(shape)}, received {received}{hint}"
            )

    def column(self, flat: list[Any] | np.ndarray[Any, Any], shape: Sequence[int]) -> list[Any]:
        """Cut checked row-major elements into one value a row, of the types in :mod:`~.models.served_model`."""
        if not self.row_shape:
            return flat if isinstance(flat, list) else flat.tolist()
        if self.native_dtype is not None:
            array = np.asarray(flat, dtype=self.native_dtype)
            if shape[0] != 1:
                return list(array.reshape(shape))
            return [array if len(shape) == 2 else array.reshape(shape[1:])]
        nested = list(flat)
        for axis in range(len(shape) - 1, 0, -1):
            size = shape[axis]
            nested = [nested[i * size : (i + 1) * size] for i in range(math.prod(shape[:axis]))]
        return nested

    def parse_json(self, values: list[Any]) -> list[Any]:
        """Check and convert flat JSON values; raises :class:`RequestError` naming the first wrong one."""
        kind = self.kind
        if not kind.json_types.issuperset(map(type, values)):
            at, wrong = next((i, v) for i, v in enumerate(values) if type(v) not in kind.json_types)
            raise RequestError(
                f"{self.where}: expected {kind.json_name} ({self.datatype}), received {wrong!r:.60} at position {at}"
            )
        if kind.bounds is not None and values:
            low, high = kind.bounds
            if min(values) < low or max(values) > high:
                at, wrong = next((i, v) for i, v in enumerate(values) if not low <= v <= high)
                raise RequestError(
                    f"{self.where}: {wrong} at position {at} does not fit {self.datatype} ({low} to {high})"
                )
        if kind.contents in _FLOATS:
            return values if self.row_shape else [float(value) for value in values]
        return [value.encode() for value in values] if self.dtype == "bytes" else values

    def flatten_json(self, data: list[Any], shape: Sequence[int]) -> list[Any]:
        """Return the row-major elements of ``data``, which the protocol allows flat or nested like ``shape``."""
        if list not in map(type, data):  # which most send
            return data
        self.check_length(len(data), shape[0], shape[:1])
        for axis, size in enumerate(shape[1:], start=1):
            if not all(type(item) is list and len(item) == size for item in data):
                raise RequestError(f"{self.where}: the nested data does not have shape {list(shape)} at axis {axis}")
            data = list(chain.from_iterable(data))
        return data

    def parse_value(self, value: Any) -> Any:
        """Check one row's value as plain JSON (nested lists for a shape); raises :class:`RequestError`.

        Bytes come in any of the forms of :mod:`deepseek.serving.oip.byte_value`.
        """
        if not self.row_shape:
            return self._parse_plain([value])[0]
        shape, level = [1], [value]
        for want in self.row_shape:
            sizes = {len(item) if isinstance(item, list) else -2 for item in level}
            size = sizes.pop() if sizes else max(want, 0)
            if sizes or size == -2 or want not in (-1, size):
                received = repr(value)
                raise RequestError(
                    f"{self.where}: expected nested lists of shape {list(self.row_shape)}, received {received:.60}"
                )
            shape.append(size)
            level = list(chain.from_iterable(level))
        return self.column(self._parse_plain(level), shape)[0]

    def _parse_plain(self, values: list[Any]) -> list[Any]:
        if self.dtype == "bytes":
            return [decode_bytes(value, self.where) for value in values]
        return self.parse_json(values)

    def flatten_rows(self, values: list[Any]) -> tuple[list[int], list[Any]]:
        """Turn one output value a row into ``(shape, row-major elements)``.

        Raises :class:`RequestError` when the rows' sizes differ, which no tensor can hold.
        """
        flat = [value.tolist() if hasattr(value, "tolist") else value for value in values]
        if len(flat) == 1 and len(self.row_shape) == 1:
            return [1, len(flat[0])], flat[0]
        shape = [len(values)]
        for declared in self.row_shape:
            sizes = {len(item) for item in flat}
            if len(sizes) > 1:
                raise RequestError(
                    f"{self.where}: the rows have different sizes ({', '.join(map(str, sorted(sizes)))}), "
                    "which one tensor cannot hold; send one row a request, or leave this output out"
                )
            shape.append(sizes.pop() if sizes else max(declared, 0))
            flat = list(chain.from_iterable(flat))
        return shape, flat
