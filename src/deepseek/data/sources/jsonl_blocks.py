"""The fast path for blocks of JSON lines: Arrow's parser, where it must agree with Python's ``json``.

Arrow reads a stream of objects, Python one object a line. The two see the same objects when every line begins with
``{`` and ends with ``}``, and Arrow finds as many objects as there are lines: an object could only go on in the next
line at a place where JSON wants a comma between the two braces. Blocks with any other line, with bytes that are not
UTF-8, or that Arrow refuses (unknown and doubled keys, other types, ``NaN``, numbers out of range) go to the reference.
So do blocks whose floats include one that Python may have read as an integer with another value: magnitudes of 2^53
and more, and minus zero. Columns must be text, bool, int64, float64, or lists and structs of these.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from deepseek.data.sources.encoding import widened

_EXACT = float(2**53)
_LF, _CR, _OPEN, _CLOSE = b"\n\r{}"


def suits(schema: pa.Schema) -> bool:
    """Whether Arrow reads values of these types exactly as Python does."""
    return all(_suits(field.type) for field in schema)


def _suits(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _suits(kind.value_type)
    if pa.types.is_struct(kind):
        return all(_suits(kind.field(index).type) for index in range(kind.num_fields))
    return kind in (pa.string(), pa.bool_(), pa.int64(), pa.float64())


def batch(block: bytes, schema: pa.Schema) -> pa.RecordBatch | None:
    """The rows of the block; ``None`` when the reference must read it."""
    options = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    table = _read(block, options)
    if table is None or table.schema.names != schema.names or not table.schema.equals(schema):
        return None
    return pa.RecordBatch.from_arrays([_whole(column) for column in table.columns], schema=schema)


def learn(block: bytes) -> pa.Schema | None:
    """The types of a block's columns; ``None`` when the reference must read it."""
    table = _read(block, pajson.ParseOptions(unexpected_field_behavior="infer"))
    return None if table is None else pa.schema([(field.name, _as_text(field.type)) for field in table.schema])


def merged(kinds: dict[str, pa.DataType], found: pa.Schema) -> dict[str, pa.DataType] | None:
    """``kinds`` widened by a block's columns; ``None`` when that depends on the order of the rows."""
    result = dict(kinds)
    for field in found:
        known = result.get(field.name)
        same = known is None or known.equals(field.type) or pa.types.is_null(field.type)
        if not same and pa.types.is_nested(known):
            return None  # a contradiction deep inside is settled row by row
        result[field.name] = widened(known, field.type)
    return result


def _read(block: bytes, options: pajson.ParseOptions) -> pa.Table | None:
    lines = _line_count(block)
    if not lines:
        return None
    try:
        block.decode("utf-8")
        table = pajson.read_json(
            pa.BufferReader(block),
            read_options=pajson.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=options,
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_rows != lines or not all(_certain(_whole(column)) for column in table.columns):
        return None
    return table


def _line_count(block: bytes) -> int:
    """How many lines the block has if each is ``{...}`` and nothing else, else 0."""
    body = block.removesuffix(b"\n").removesuffix(b"\r")
    if not (body.startswith(b"{") and body.endswith(b"}")):
        return 0
    view = np.frombuffer(body, np.uint8)
    feeds = np.flatnonzero(view == _LF)  # none is first or last: those are braces
    before, after = view[feeds - 1], view[feeds + 1]
    if (carriage := np.flatnonzero(before == _CR)).size:
        before[carriage] = view[feeds[carriage] - 2]
    return len(feeds) + 1 if (before == _CLOSE).all() and (after == _OPEN).all() else 0


def _certain(array: pa.Array) -> bool:
    """Whether no float in the array can stand for an integer that Python reads differently."""
    kind = array.type
    if pa.types.is_list(kind):
        return _certain(array.flatten())
    if pa.types.is_struct(kind):
        return all(_certain(child) for child in array.flatten())
    if not pa.types.is_float64(kind) or not len(array):
        return True
    values = pc.fill_null(array, 1.0).to_numpy(zero_copy_only=False)
    return bool((np.abs(values) < _EXACT).all() and not np.signbit(values[values == 0]).any())


def _as_text(kind: pa.DataType) -> pa.DataType:
    """Arrow guesses timestamps; Python's ``json`` knows only text."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_as_text(kind.value_type))
    if pa.types.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        return pa.struct([pa.field(field.name, _as_text(field.type)) for field in fields])
    return kind


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
