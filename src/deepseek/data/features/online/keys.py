"""The key of a row as bytes: the same for an Arrow column offline and for a Python value online.

The entity columns' values as one msgpack array, in the view's order. msgpack writes every value in one way and says
where it ends, so two keys are equal as bytes exactly when all their values are equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from deepseek.data.features.online.values import storage_type, to_storage
from deepseek.errors import DataError

_encode = msgspec.msgpack.Encoder().encode


class KeyCodec:
    """Keys of the entity columns ``names``, which have the types ``kinds`` in the view's table."""

    def __init__(self, names: Sequence[str], kinds: Sequence[pa.DataType]) -> None:
        self.names = tuple(names)
        self.kinds = list(kinds)
        self._storage = [storage_type(kind, name) for name, kind in zip(names, kinds, strict=True)]
        self._native = [_native(kind) for kind in kinds]
        self._parts = list(zip(self.names, self._native, range(len(self.names)), strict=True))

    def from_arrow(self, columns: Sequence[pa.Array | pa.ChunkedArray]) -> list[bytes]:
        """The keys of the rows; the columns must hold no nulls."""
        stored = [to_storage(column, kind) for column, kind in zip(columns, self._storage, strict=True)]
        return [_encode(row) for row in zip(*stored, strict=True)]

    def from_row(self, row: Mapping[str, Any]) -> bytes | None:
        """The key in a dict of column to value; ``None`` when a value is null, since a null is no key.

        Raises:
            DataError: a key column is missing, or its value does not fit its type.
        """
        values = []
        for name, native, index in self._parts:
            try:
                value = row[name]
            except KeyError:
                raise DataError(
                    f"the key {dict(row)!r} lacks the entity column {name!r}; expected {', '.join(self.names)}"
                ) from None
            if value is None:
                return None
            values.append(value if type(value) is native else self._convert(name, index, value))
        try:
            return _encode(values)
        except OverflowError:  # beyond 64 bits
            names = ", ".join(f"{name!r} ({kind})" for name, kind in zip(self.names, self.kinds, strict=True))
            raise DataError(f"the key {dict(row)!r:.200} has an integer that no key column can hold: {names}") from None

    def _convert(self, name: str, index: int, value: Any) -> Any:
        kind = self.kinds[index]
        try:
            return to_storage(pa.array([value], kind), self._storage[index])[0]
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"entity column {name!r}: expected {kind}, received {type(value).__name__} {str(value)[:80]!r}"
            ) from error


def _native(kind: pa.DataType) -> type | None:
    """The Python type whose values are stored as they are."""
    types = pa.types
    if types.is_integer(kind):
        return int
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return str
    if (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    ):
        return bytes
    return bool if types.is_boolean(kind) else None
