"""The fast path for blocks of delimited rows: Arrow's parser, where it must agree with Python's strict ``csv``.

When it must: a block is *well formed* when every quote either opens a cell (it stands at the beginning of a row or
behind a delimiter), closes one (it stands before a delimiter or the end of a row), or is half of a doubled quote in a
quoted cell, and the quotes are balanced. RFC 4180 leaves one reading of such a block, and both parsers know it. Any
block with anything else (a quote inside an unquoted cell, text behind a closing quote, a lone carriage return, a NUL,
bytes that are not UTF-8, a row of another width) goes to the reference, and so does every block that Arrow refuses.

Numbers: cells of a column whose type was learnt match the plain notation already, and Arrow's conversion of those is
Python's (integers up to 18 digits, floats rounded correctly). With a type that the caller gave, cells are checked
against the same notation first, because Arrow takes hexadecimal where Python's ``int`` does not.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Set

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from deepseek.data.sources.lines import Window, line_block

_DIGITS = r"(?:0|[1-9][0-9]{0,17})"
_REAL = r"(?:(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?:0|[1-9][0-9]*)[eE][+-]?[0-9]+)"
_INTEGER = re.compile(rf"[+-]?{_DIGITS}\Z", re.ASCII)
_FLOAT = re.compile(rf"[+-]?{_REAL}\Z", re.ASCII)
# the same for Arrow (RE2); it does not read a plus sign, so such a cell sends its block to the reference
_INTEGERS_RE2 = rf"^[+-]?{_DIGITS}$"
_NUMBERS_RE2 = rf"^[+-]?(?:{_DIGITS}|{_REAL})$"
_UNSIGNED_RE2 = rf"^-?{_DIGITS}$"
_FILLED = re.compile(rb"[^\r\n]")
_LONE_CR = re.compile(rb"\r(?!\n)")
_QUOTE, _COMMA, _LF, _CR = b'",\n\r'


def widened_by(kind: pa.DataType | None, cell: str) -> pa.DataType:
    """The type of a column that held ``kind`` so far and now holds ``cell``, which is not empty."""
    if _INTEGER.match(cell):
        return kind or pa.int64()
    # an integer beyond 18 digits would lose digits as a float, so it is text
    return pa.float64() if _FLOAT.match(cell) else pa.string()


def rows_end(window: Window, quoted: bool, limit: int) -> int | None:
    """The end, in ``window.buffer``, of the next block of whole rows; ``None`` when only the parser can find it."""
    if not quoted:
        return line_block(window)
    while True:
        end = _balanced_end(window.buffer, window.at)
        if end is not None:
            return end if end > window.at else None
        if len(window.buffer) - window.at >= limit or not window.more():
            return None


def _balanced_end(buffer: bytes, at: int) -> int | None:
    """The last row end outside quotes; ``at`` if the rows before it are not well formed; ``None`` if there is none."""
    if buffer.find(b'"', at) < 0:
        end = buffer.rfind(b"\n", at) + 1
        return end if end > at else None
    view = np.frombuffer(buffer, np.uint8)[at:]
    quotes, feeds = np.flatnonzero(view == _QUOTE), np.flatnonzero(view == _LF)
    before = np.searchsorted(quotes, feeds)  # how many quotes stand before each line feed
    outside = np.flatnonzero(before % 2 == 0)
    if not len(outside):
        return None
    last = outside[-1]
    end = int(feeds[last]) + 1
    return at + end if _well_formed(view[:end], quotes[: before[last]]) else at


def _well_formed(view: np.ndarray, quotes: np.ndarray) -> bool:
    """Whether each of the (evenly many) quotes opens, closes or doubles; ``view`` ends in a line feed."""
    if not len(quotes):
        return True
    opening, closing = quotes[0::2], quotes[1::2]
    doubled = closing[:-1] + 1 == opening[1:]
    previous = view[opening[1:] - 1]
    opens = doubled | (previous == _COMMA) | (previous == _LF)
    following = view[closing + 1]
    closes = (following == _COMMA) | (following == _LF)
    cr = np.flatnonzero(following == _CR)
    closes[cr] = view[closing[cr] + 2] == _LF
    closes[:-1] |= doubled
    first = opening[0] == 0 or view[opening[0] - 1] in (_COMMA, _LF)
    return bool(first and opens.all() and closes.all())


class Learn:
    """Learns column types from blocks of text, as :func:`widened_by` does cell by cell."""

    def __init__(self, delimiter: str, quoted: bool, names: list[str]) -> None:
        self._delimiter, self._quoted, self._names = delimiter, quoted, names

    def block(self, block: bytes, text: Set[str]) -> dict[str, pa.DataType] | None:
        """The types of a block's columns; ``None`` when the reference must read it.

        Columns that are known to be ``text`` stay so and need no look; the rows must be well formed all the same.
        """
        open_names = [name for name in self._names if name not in text] or self._names[:1]
        types = {name: pa.string() for name in open_names}
        table = _read(block, self._delimiter, self._quoted, self._names, open_names, types)
        if table is None:
            return None
        kinds: dict[str, pa.DataType] = {}
        for name in open_names:
            column = table.column(name)
            if column.null_count == len(column):
                continue
            if _all_match(column, _INTEGERS_RE2):
                kinds[name] = pa.int64()
            else:
                kinds[name] = pa.float64() if _all_match(column, _NUMBERS_RE2) else pa.string()
        return kinds


class Fast:
    """Turns well-formed blocks into record batches of ``schema``, or leaves them to the reference."""

    def __init__(self, delimiter: str, quoted: bool, names: list[str], schema: pa.Schema, *, learnt: bool) -> None:
        self._delimiter, self._quoted, self._names, self._schema = delimiter, quoted, names, schema
        self._wanted = [field.name for field in schema if field.name in names]
        self._learnt = learnt
        self._types = {
            field.name: field.type if learnt or _is_text(field.type) else pa.string()
            for field in schema
            if field.name in names
        }

    def batch(self, block: bytes) -> pa.RecordBatch | None:
        """The rows of the block; ``None`` when the reference must read it."""
        if not self._wanted:
            return None
        table = _read(block, self._delimiter, self._quoted, self._names, self._wanted, self._types)
        if table is None:
            return None
        arrays = []
        for field in self._schema:
            if field.name not in self._types:
                arrays.append(pa.nulls(table.num_rows, field.type))
                continue
            column = table.column(field.name)
            array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
            converted = array if array.type == field.type else _converted(array, field.type)
            if converted is None:
                return None
            arrays.append(converted)
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def _read(
    block: bytes, delimiter: str, quoted: bool, names: list[str], wanted: list[str], types: Mapping[str, pa.DataType]
) -> pa.Table | None:
    """The cells of a well-formed block as Arrow reads them, or ``None``."""
    if b"\0" in block or (b"\r" in block and _LONE_CR.search(block)) or not _is_utf8(block):
        return None
    if block.startswith(codecs.BOM_UTF8) or not _FILLED.search(block):
        return None  # Arrow drops a mark at its beginning, and takes a block without rows for an error
    try:
        return pacsv.read_csv(
            pa.BufferReader(block),
            read_options=pacsv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=types,
                include_columns=wanted,
                null_values=[""],
                strings_can_be_null=True,
                check_utf8=False,
            ),
        )
    except pa.ArrowException:
        return None


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _all_match(column: pa.ChunkedArray | pa.Array, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(column, pattern)).as_py() is not False


def _converted(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Text as the type that the caller gave; ``None`` where only Python's own conversion can decide."""
    try:
        if pa.types.is_integer(kind) and _all_match(array, _UNSIGNED_RE2):
            return array.cast(pa.int64()).cast(kind)
        if (pa.types.is_float64(kind) or pa.types.is_float32(kind)) and _all_match(array, _NUMBERS_RE2):
            return array.cast(pa.float64()).cast(kind)
    except pa.ArrowException:
        pass
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
