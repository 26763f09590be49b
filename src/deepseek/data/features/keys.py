"""Entity keys as small whole numbers: the keys of the entity rows are numbered once, feature rows are looked up.

Integers go through a hash table in NumPy arrays (or a plain array, where the keys are dense), which is built once and
shared between threads and processes; other types go through Arrow's ``index_in``. Keys of several columns are numbered
column by column, then as pairs of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.features.times import Integers, valid
from deepseek.errors import DataError

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads neighbouring keys (Knuth, TAOCP 3, 6.4)
_DENSE = 1 << 16


class KeyNumbers:
    """Numbers the distinct keys of the entity rows 0, 1, ...; ``codes`` holds the number of each row, -1 for nulls."""

    def __init__(self, columns: Sequence[pa.Array]) -> None:
        self._columns = [_Lookup(column) for column in columns]
        self._pairs: list[_Lookup] = []
        codes = self._columns[0].codes
        for column in self._columns[1:]:
            pairs = _Lookup(_pair(codes, column.codes, column.size))
            self._pairs.append(pairs)
            codes = pairs.codes
        self.codes = codes
        self.size = (self._pairs or self._columns)[-1].size
        for lookup in (*self._columns, *self._pairs):
            del lookup.codes  # only the numbering itself travels to the workers

    def find(self, columns: Sequence[pa.Array]) -> Integers:
        """The numbers of the keys of other rows; -1 for nulls and keys that no entity row has."""
        codes = self._columns[0].find(columns[0])
        for lookup, pairs, column in zip(self._columns[1:], self._pairs, columns[1:], strict=True):
            codes = pairs.find(_pair(codes, lookup.find(column), lookup.size))
        return codes

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "codes"}


def _pair(left: Integers, right: Integers, size: int) -> pa.Array:
    missing = (left < 0) | (right < 0)
    return pa.array(left * size + right, mask=missing if bool(missing.any()) else None)


class _Lookup:
    """Numbers the distinct values of one column."""

    codes: Integers

    def __init__(self, column: pa.Array) -> None:
        encoded = pc.dictionary_encode(column)
        self.size = len(encoded.dictionary)
        self.codes = pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64)
        self._values: pa.Array | None = None
        self._table: _Dense | _Hashed | None = None
        if pa.types.is_integer(column.type) and self.size:
            keys = _as_int64(encoded.dictionary)
            low, span = int(keys.min()), int(keys.max()) - int(keys.min()) + 1
            self._table = _Dense(keys, low, span) if span <= 4 * self.size + _DENSE else _Hashed(keys)
        else:
            self._values = encoded.dictionary

    def find(self, column: pa.Array) -> Integers:
        if self._table is None:
            found = pc.index_in(column, value_set=self._values, skip_nulls=True)
            return pc.fill_null(found, -1).to_numpy().astype(np.int64)  # type: ignore[no-any-return]
        codes = self._table.find(_as_int64(column))
        known = valid(column)
        if known is not None:
            codes[~known] = -1
        return codes


class _Dense:
    def __init__(self, keys: Integers, low: int, span: int) -> None:
        self._low, self._span = np.int64(low), np.uint64(span)
        self._codes = np.full(span + 1, -1, np.int64)  # the last one answers for keys outside
        self._codes[keys - low] = np.arange(len(keys))

    def find(self, keys: Integers) -> Integers:
        offsets = (keys - self._low).view(np.uint64)  # wraps around, so that lower keys become large ones
        return self._codes.take(np.minimum(offsets, self._span).view(np.int64))


class _Hashed:
    """Keys sorted by the top bits of their hash; ``_starts`` says where the keys of each bucket begin."""

    def __init__(self, keys: Integers) -> None:
        bits = max(1, int(len(keys) * 2).bit_length())
        self._shift = np.uint64(64 - bits)
        buckets = self._bucket(keys)
        order = np.argsort(buckets, kind="stable")
        self._keys = np.append(keys[order], 0)
        self._codes = np.append(order, -1)
        self._starts = np.zeros((1 << bits) + 1, np.int64)
        np.cumsum(np.bincount(buckets, minlength=1 << bits), out=self._starts[1:])

    def find(self, keys: Integers) -> Integers:
        buckets = self._bucket(keys)
        at, end = self._starts[buckets], self._starts[buckets + 1]
        codes = np.full(len(keys), -1, np.int64)
        rows = np.flatnonzero(at < end)
        at, end, keys = at[rows], end[rows], keys[rows]
        while len(rows):  # one round for each place in a bucket: two keys share one seldom
            hit = self._keys[at] == keys
            codes[rows[hit]] = self._codes[at[hit]]
            at += 1
            left = ~hit & (at < end)
            rows, at, end, keys = rows[left], at[left], end[left], keys[left]
        return codes

    def _bucket(self, keys: Integers) -> Integers:
        return ((keys.view(np.uint64) * _MIX) >> self._shift).astype(np.int64)


def _as_int64(column: pa.Array) -> Integers:
    """The values as int64, one to one (uint64 wraps around); what lies under a null is arbitrary."""
    width = column.type.bit_width // 8
    kind = np.dtype(column.type.to_pandas_dtype())
    buffer = column.buffers()[1]
    if buffer is None or not len(column):
        return np.zeros(len(column), np.int64)
    values = np.frombuffer(buffer, kind, count=len(column), offset=column.offset * width)
    return values.view(np.int64) if width == 8 else values.astype(np.int64)


def key_type(kind: pa.DataType) -> pa.DataType:
    """The type in which keys of a column are compared: dictionaries as their values, views as plain text or bytes."""
    if pa.types.is_dictionary(kind):
        return key_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def as_key(array: pa.Array, kind: pa.DataType, what: str) -> pa.Array:
    """Entity keys in the type of the view's key column; a value that the type cannot hold becomes null: no row has it.

    Raises:
        DataError: the types have no values in common.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = key_type(kind)
    if array.type == kind:
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if pa.types.is_integer(kind) and (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        return _whole_numbers(array, kind, what)
    for family in (_is_text, _is_bytes):
        if family(kind) and family(array.type):
            return array.cast(kind)
    raise DataError(f"{what}: expected {kind} as in the view's table, received {array.type}; cast it")


def _whole_numbers(array: pa.Array, kind: pa.DataType, what: str) -> pa.Array:
    info = np.iinfo(kind.to_pandas_dtype())
    values = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
    fits = pc.is_valid(array).to_numpy(zero_copy_only=False)
    if pa.types.is_floating(array.type):  # what pandas makes of integers with a missing one
        fits &= np.isfinite(values)
        if bool((values[fits] % 1 != 0).any()):
            raise DataError(f"{what}: expected {kind} as in the view's table, received {array.type} with fractions")
        fits &= (values >= float(info.min)) & (values < float(info.max + 1))
    else:
        fits &= (values >= int(info.min)) & (values <= int(info.max))
    return pa.array(np.where(fits, values, 0).astype(info.dtype), kind, mask=~fits)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(check(kind) for check in checks)
