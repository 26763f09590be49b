"""Rows as bytes and back: exact for every type that a table can hold."""

from __future__ import annotations

import datetime as dt
import decimal
import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data.features.online.keys import KeyCodec
from deepseek.data.features.online.record import NO_CREATED_TIME, epoch_prefix, header, table_version, times
from deepseek.data.features.online.values import ValueCodec
from deepseek.errors import ConfigError, DataError

INT64 = st.integers(-(2**63), 2**63 - 1)


def from_counts(kind, counts):
    """Values of a type that is stored as a count, made from any count."""
    return counts.map(lambda count: pa.scalar(count, pa.int64()).cast(kind))


def _floats(width):
    return st.floats(width=width)


YEARS = st.integers(-(2**50), 2**50)
SCALARS = [
    (pa.bool_(), st.booleans()),
    *((kind, st.integers(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *((kind, st.integers(0, 2**kind.bit_width - 1)) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    (pa.float16(), _floats(16)),
    (pa.float32(), _floats(32)),
    (pa.float64(), _floats(64)),
    (pa.string(), st.text(max_size=20)),
    (pa.large_string(), st.text(max_size=20)),
    (pa.binary(), st.binary(max_size=20)),
    (pa.large_binary(), st.binary(max_size=20)),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.date32(), st.dates()),
    (pa.date64(), st.dates()),
    (pa.time32("s"), st.times().map(lambda t: t.replace(microsecond=0))),
    (pa.time32("ms"), st.times().map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000))),
    (pa.time64("us"), st.times()),
    (pa.time64("ns"), st.times()),
    (pa.duration("s"), st.timedeltas().map(lambda d: dt.timedelta(seconds=d.days))),
    (pa.duration("us"), st.timedeltas(dt.timedelta(-10000), dt.timedelta(10000))),
    (pa.duration("ns"), st.timedeltas(dt.timedelta(-10000), dt.timedelta(10000))),
    *((pa.timestamp(unit, zone), st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)).map(lambda d: d.replace(microsecond=0)))
      for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Asia/Shanghai", "America/New_York", "+05:30")),
    (pa.decimal128(20, 5), st.decimals(-(10**14), 10**14, places=5)),
    (pa.decimal256(60, 3), st.decimals(-(10**50), 10**50, places=3, allow_nan=False, allow_infinity=False).map(lambda d: d.quantize(decimal.Decimal("0.001"), context=decimal.Context(prec=80)))),
    (pa.null(), st.none()),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b", ""])),
]  # fmt: skip


def nested(depth=0):
    scalar = st.sampled_from(SCALARS)
    if depth == 2:
        return scalar
    inner = nested(depth + 1)
    return st.one_of(
        scalar,
        inner.map(lambda t: (pa.list_(t[0]), st.lists(st.none() | t[1], max_size=3))),
        inner.map(lambda t: (pa.large_list(t[0]), st.lists(st.none() | t[1], max_size=3))),
        inner.map(lambda t: (pa.list_(t[0], 2), st.lists(st.none() | t[1], min_size=2, max_size=2))),
        st.tuples(inner, inner).map(
            lambda p: (
                pa.struct([("a", p[0][0]), ("b", p[1][0])]),
                st.fixed_dictionaries({"a": st.none() | p[0][1], "b": st.none() | p[1][1]}),
            )
        ),
        inner.map(
            lambda t: (
                pa.map_(pa.string(), t[0]),
                st.lists(st.tuples(st.text(max_size=3), st.none() | t[1]), max_size=3),
            )
        ),
    )


def is_storable(kind):
    try:
        pa.array([], kind)
        pa.nulls(1, kind)
    except pa.ArrowException:
        return False
    # Arrow itself builds broken arrays of lists of the null type, and has no nested dictionaries from Python values
    return not pa.types.is_nested(kind) or not ("dictionary" in str(kind) or "null" in str(kind))


def round_trip(table):
    codec = ValueCodec(table.schema)
    payloads = codec.encode(table)
    back = codec.arrow([codec.decode(payload) for payload in payloads])
    rows = [dict(zip(codec.names, codec.python(codec.decode(payload)), strict=True)) for payload in payloads]
    return back, rows


def same(left, right):
    return type(left) is type(right) and repr(left) == repr(right)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_type_comes_back_exactly(data):
    kind, values = data.draw(nested().filter(lambda t: is_storable(t[0])))
    column = pa.array(data.draw(st.lists(st.none() | values, max_size=6)), kind)
    table = pa.table({"x": column, "n": pa.array(range(len(column)))})
    back, rows = round_trip(table)
    assert back.schema.equals(table.schema)
    assert repr(back.to_pylist()) == repr(table.to_pylist())
    expected = table.to_pylist()
    assert all(same(row["x"], other["x"]) for row, other in zip(rows, expected, strict=True))
    assert repr(rows) == repr(expected)


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_nan_infinity_and_negative_zero(kind):
    values = [math.nan, math.inf, -math.inf, -0.0, None]
    table = pa.table({"x": pa.array(values, kind), "v": pa.array([[v, v] for v in values], pa.list_(kind, 2))})
    back, rows = round_trip(table)
    assert repr(back.to_pylist()) == repr(table.to_pylist()) == repr(rows)


def test_extension_types_come_back():
    storage = pa.array([b"0123456789abcdef", None])
    column = pa.ExtensionArray.from_storage(pa.uuid(), storage.cast(pa.binary(16)))
    table = pa.table({"id": column})
    back, rows = round_trip(table)
    assert back.equals(table)
    assert rows == table.to_pylist()


def test_a_vector_takes_its_bytes_and_little_more():
    vector = pa.array([[0.1] * 384], pa.list_(pa.float32(), 384))
    (payload,) = ValueCodec(pa.schema([("v", vector.type)])).encode(pa.table({"v": vector}))
    assert len(payload) == 384 * 4 + 4


def test_slices_and_chunks_are_encoded_as_whole_tables_are():
    table = pa.table(
        {"v": pa.array([[1.0, 2.0], None, [3.0, 4.0]] * 4, pa.list_(pa.float32(), 2)), "w": [[1], [], None] * 4}
    )
    whole = ValueCodec(table.schema).encode(table)
    parts = pa.concat_tables([table.slice(0, 5), table.slice(5)])
    assert ValueCodec(table.schema).encode(parts) == whole
    assert ValueCodec(table.schema).encode(table.slice(2, 4)) == whole[2:6]


def test_types_that_cannot_be_stored_are_named():
    with pytest.raises(ConfigError, match="feature 'x' is month_day_nano_interval"):
        ValueCodec(pa.schema([("x", pa.month_day_nano_interval())]))


KEY_TYPES = [
    (pa.int64(), INT64),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.int8(), st.integers(-128, 127)),
    (pa.string(), st.text(max_size=5)),
    (pa.binary(), st.binary(max_size=5)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates()),
    (pa.decimal128(10, 2), st.decimals(-1000, 1000, places=2)),
]


@settings(deadline=None)
@given(st.data())
def test_keys_are_equal_as_bytes_exactly_when_they_are_equal(data):
    columns = data.draw(st.lists(st.sampled_from(KEY_TYPES), min_size=1, max_size=3))
    rows = data.draw(st.lists(st.tuples(*(values for _, values in columns)), min_size=1, max_size=8))
    names = [f"k{index}" for index in range(len(columns))]
    codec = KeyCodec(names, [kind for kind, _ in columns])
    offline = codec.from_arrow([pa.array([row[i] for row in rows], kind) for i, (kind, _) in enumerate(columns)])
    online = [codec.from_row(dict(zip(names, row, strict=True))) for row in rows]
    assert online == offline
    for left, a in zip(rows, offline, strict=True):
        for right, b in zip(rows, offline, strict=True):
            assert (left == right) == (a == b)


def test_keys_say_what_is_wrong():
    codec = KeyCodec(["user", "day"], [pa.int64(), pa.date32()])
    assert codec.from_row({"user": None, "day": dt.date(2026, 1, 1)}) is None
    with pytest.raises(DataError, match="lacks the entity column 'day'; expected user, day"):
        codec.from_row({"user": 1})
    with pytest.raises(DataError, match="entity column 'user': expected int64, received str '1'"):
        codec.from_row({"user": "1", "day": dt.date(2026, 1, 1)})
    with pytest.raises(DataError, match="has an integer that no key column can hold: 'user' \\(int64\\)"):
        codec.from_row({"user": 2**64, "day": dt.date(2026, 1, 1)})


@given(
    st.lists(
        st.tuples(st.integers(0, 2**60), INT64, INT64, st.integers(0, 2**32 - 1), st.integers(0, 2**60)),
        min_size=2,
        max_size=5,
    )
)
def test_headers_sort_as_their_numbers(parts):
    assert sorted(header(*part) for part in parts) == [header(*part) for part in sorted(parts)]
    for epoch, event, created, version, position in parts:
        record = header(epoch, event, created, version, position) + b"row"
        assert times(record) == (event, created)
        assert table_version(record) == version
        assert epoch_prefix(epoch) <= record < epoch_prefix(epoch + 1)
    assert NO_CREATED_TIME == -(2**63)
