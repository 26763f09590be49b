"""Features in protobuf: Arrow columns become typed values, and values of keys come back out of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from deepseek.serving.errors import RequestError
from deepseek.serving.proto import features_pb2 as pb

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_LARGEST_INT = 2**63 - 1


def entities_of(columns: Sequence[pb.Column]) -> list[dict[str, Any]]:
    """The entities in a request's columns; raises :class:`RequestError`."""
    lengths = {column.name: len(column.values) for column in columns}
    if len(lengths) < len(columns):
        raise RequestError("entities: a column is given twice")
    if len(set(lengths.values())) > 1:
        received = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise RequestError(f"entities: expected columns of one length, received {received}")
    values = [[_plain(column.name, value) for value in column.values] for column in columns]
    return [dict(zip(lengths, row, strict=True)) for row in zip(*values, strict=True)]


def _plain(name: str, value: pb.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind is None:
        return None
    if kind in ("bool_value", "int_value", "uint_value", "double_value", "string_value", "bytes_value"):
        return getattr(value, kind)
    if kind == "numbers_value":
        return list(value.numbers_value.values)
    raise RequestError(f"entities: column {name!r:.80}: expected keys or numbers, received a {kind}")


def moment(request: pb.GetFeaturesRequest) -> dt.datetime | None:
    """The time of a request; raises :class:`RequestError` when Python has none such."""
    if not request.HasField("at"):
        return None
    try:
        return _EPOCH + dt.timedelta(seconds=request.at.seconds, microseconds=request.at.nanos // 1000)
    except OverflowError as error:
        raise RequestError(f"at: expected a time of the years 1 to 9999, received {request.at.seconds} s") from error


def columns_of(rows: Sequence[dict[str, Any]]) -> list[pb.Column]:
    """Rows of one shape as columns."""
    names = list(rows[0]) if rows else []
    return [pb.Column(name=name, values=[_value(row[name]) for row in rows]) for name in names]


def arrow_stream(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _value(value: Any) -> pb.Value:
    if value is None:
        return pb.Value()
    if isinstance(value, bool):
        return pb.Value(bool_value=value)
    if isinstance(value, int):
        return pb.Value(uint_value=value) if value > _LARGEST_INT else pb.Value(int_value=value)
    if isinstance(value, float):
        return pb.Value(double_value=value)
    if isinstance(value, str):
        return pb.Value(string_value=value)
    if isinstance(value, bytes):
        return pb.Value(bytes_value=value)
    if isinstance(value, dt.datetime):
        return _timestamp(value)
    if isinstance(value, dt.timedelta):
        found = pb.Value()
        found.duration_value.FromTimedelta(value)
        return found
    if isinstance(value, dict):
        return pb.Value(struct_value=pb.Struct(fields={str(name): _value(each) for name, each in value.items()}))
    if isinstance(value, list | tuple):
        if value and all(type(each) is float for each in value):
            return pb.Value(numbers_value=pb.Numbers(values=value))
        return pb.Value(list_value=pb.List(values=[_value(each) for each in value]))
    return pb.Value(string_value=value.isoformat() if hasattr(value, "isoformat") else str(value))


def _timestamp(value: dt.datetime) -> pb.Value:
    aware = value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
    seconds, microseconds = divmod((aware - _EPOCH) // _MICROSECOND, 1_000_000)
    found = pb.Value()
    found.timestamp_value.seconds = seconds
    # pandas' timestamps, which Arrow gives for nanoseconds, have some beyond Python's microseconds
    found.timestamp_value.nanos = microseconds * 1000 + getattr(value, "nanosecond", 0)
    return found
