"""Feature values to Arrow arrays and back, with the narrowest numbers that hold them.

A column's kind is what its values have in common. Kinds only ever widen: int8 to int16 to int32 to int64, integers to
floats, arrays of one shape to nested lists. Floats are kept as float32, which is what models compute with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.errors import DataError

STRING = "string"
BOOL = "bool"


@dataclass(frozen=True)
class Kind:
    """The type of a column: a leaf type, the depth of the lists around it, and their shape if all have the same."""

    leaf: str
    depth: int = 0
    shape: tuple[int, ...] | None = None

    def widened(self, other: Kind, column: str) -> Kind:
        """The kind that holds values of both.

        Raises:
            DataError: no kind does.
        """
        if self == other:
            return self
        if self.depth != other.depth or (self.leaf != other.leaf and {STRING, BOOL} & {self.leaf, other.leaf}):
            raise DataError(f"feature {column!r}: expected {self} in every row, received {other} as well")
        shape = self.shape if self.shape == other.shape else None
        return Kind(_wider(self.leaf, other.leaf), self.depth, shape)

    def __str__(self) -> str:
        return "list of " * self.depth + self.leaf


def kind_of(values: Sequence[Any], column: str) -> Kind:
    """The narrowest kind that holds all ``values``.

    Raises:
        DataError: a value is no number, string or list of numbers, or values differ in depth.
    """
    if all(isinstance(value, str) for value in values):
        return Kind(STRING)
    if all(isinstance(value, bool | np.bool_) for value in values):
        return Kind(BOOL)
    levels = _levels(values, column)
    leaf, depth = _leaf(levels[-1], column), len(levels) - 1
    shapes = {np.shape(value) for value in values} if depth > 1 and _regular(values, leaf) else set()
    return Kind(leaf, depth, next(iter(shapes)) if len(shapes) == 1 else None)


def to_arrow(values: Sequence[Any], kind: Kind, column: str) -> pa.Array:
    """Values as an Arrow array of that kind."""
    if kind.leaf in (STRING, BOOL):
        return pa.array([value if kind.leaf == STRING else bool(value) for value in values], arrow_type(kind))
    dtype = np.dtype(kind.leaf)
    if kind.shape is not None:
        stacked = np.stack([np.asarray(value, dtype) for value in values]).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(stacked), int(np.prod(kind.shape)))
    *lists, flat = _levels(values, column, kind.depth)
    array = pa.array(_numbers(flat, column).astype(dtype, copy=False))
    for level in reversed(lists):
        offsets = np.concatenate([[0], np.cumsum([len(value) for value in level], dtype=np.int64)])
        if offsets[-1] > np.iinfo(np.int32).max:
            raise DataError(f"feature {column!r}: more than 2^31 numbers in one batch of rows")
        array = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), array)
    return array


def arrow_type(kind: Kind) -> pa.DataType:
    """The Arrow type of a kind."""
    if kind.leaf == STRING:
        return pa.string()
    if kind.leaf == BOOL:
        return pa.bool_()
    leaf = pa.from_numpy_dtype(np.dtype(kind.leaf))
    if kind.shape is not None:
        return pa.list_(leaf, int(np.prod(kind.shape)))
    for _ in range(kind.depth):
        leaf = pa.list_(leaf)
    return leaf


class ColumnReader:
    """Values of one column of one record batch, read from the mapped file without Arrow's scalars (which are slow)."""

    def __init__(self, array: pa.Array, kind: Kind) -> None:
        self._kind, self._array = kind, array
        self._offsets: list[np.ndarray[Any, Any]] = []
        if kind.leaf in (STRING, BOOL):
            return
        if kind.shape is None:
            for _ in range(kind.depth):
                self._offsets.append(array.offsets.to_numpy())
                array = array.values
        else:
            array = array.values
        self._values = array.to_numpy()

    def __getitem__(self, index: int) -> Any:
        kind = self._kind
        if kind.leaf in (STRING, BOOL):
            return self._array[index].as_py()
        if kind.shape is not None:
            size = int(np.prod(kind.shape))
            return np.array(self._values[index * size : (index + 1) * size]).reshape(kind.shape)
        if kind.depth == 0:
            return self._values[index].item()
        return self._list(0, int(self._offsets[0][index]), int(self._offsets[0][index + 1]))

    def _list(self, level: int, start: int, stop: int) -> list[Any]:
        if level == len(self._offsets) - 1:
            return self._values[start:stop].tolist()  # type: ignore[no-any-return]
        inner = self._offsets[level + 1]
        return [self._list(level + 1, int(inner[i]), int(inner[i + 1])) for i in range(start, stop)]


def _levels(values: Sequence[Any], column: str, depth: int = 0) -> list[Any]:
    """The values, the lists in them joined, the lists in those joined, ... down to the numbers."""
    levels: list[Any] = [values]
    while True:
        current = levels[-1]
        nested = [isinstance(value, list | tuple) or getattr(value, "ndim", 0) > 0 for value in current]
        if not any(nested):
            return levels + [[] for _ in range(depth + 1 - len(levels))]
        if not all(nested):
            wrong = type(current[nested.index(False)]).__name__
            raise DataError(
                f"feature {column!r}: expected lists of one depth in every row, received {wrong} among them"
            )
        if all(getattr(value, "ndim", 0) == 1 for value in current):
            levels.append(np.concatenate([np.asarray(value) for value in current]))
        else:
            levels.append(list(chain.from_iterable(current)))


def _numbers(flat: Any, column: str) -> np.ndarray[Any, Any]:
    array = np.asarray(flat)
    if array.dtype.kind == "b":
        return array.astype(np.int8)
    if array.size and array.dtype.kind not in "iuf":
        wrong = next((v for v in flat if isinstance(v, bool) or not isinstance(v, int | float | np.number)), flat[0])
        raise DataError(f"feature {column!r}: expected numbers, strings or lists of numbers, received {wrong!r}")
    return array


def _leaf(flat: Any, column: str) -> str:
    array = _numbers(flat, column)
    if not array.size:
        return "int8"
    if array.dtype.kind == "f":
        return "float32"
    low, high = int(array.min()), int(array.max())
    for name in ("int8", "int16", "int32", "int64"):
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return name
    raise DataError(f"feature {column!r}: expected numbers below 2^63, received {high}")


def _regular(values: Sequence[Any], leaf: str) -> bool:
    """Whether values may be kept as arrays: they are, or they are nested lists of floats of one shape each."""
    if all(hasattr(value, "ndim") for value in values):
        return True
    return leaf == "float32" and all(_rectangular(value) for value in values)


def _rectangular(value: Any) -> bool:
    if hasattr(value, "ndim"):
        return True
    if not value or not isinstance(value[0], list | tuple):
        return bool(value)
    return len({len(part) for part in value}) == 1 and all(_rectangular(part) for part in value)


def _wider(one: str, other: str) -> str:
    if one == other:
        return one
    if "float32" in (one, other):
        return "float32"
    return max(one, other, key=lambda name: np.dtype(name).itemsize)
