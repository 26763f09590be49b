"""CSV and TSV files.

Design: types are learnt from the whole file (one streaming pass), so that no later row contradicts them; pass
``schema=`` to fix them and save the pass. A column is ``int64`` or ``float64`` when every filled cell is such a number
in plain notation (``007`` and ``1_000`` are text, so identifiers survive), else ``string``. An empty cell is null.
CSV follows RFC 4180 strictly: a quote that is opened and never closed is a reject, not the rest of the file in one
cell. TSV has no quoting: a quote is a character like any other.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek.data.sources.base import EXCERPT_CHARS, Located, OnReject, Reject, Source, encode, refuse
from deepseek.data.sources.lines import excerpt, invalid_reason, open_text, undecodable
from deepseek.errors import ConfigError, DataError

MAX_FIELD_CHARS = 16 << 20
"""A cell beyond this many characters is a reject; it bounds the memory that one broken quote can take."""

EXCERPT_LINES = 3

_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d{0,17})\Z", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)


class Delimited(Source):
    """A delimited text file with one header row, or with the column names given as ``columns``."""

    delimiter = ","
    quoted = True

    def __init__(
        self,
        path: str | Path,
        *,
        encoding: str = "utf-8",
        columns: Sequence[str] | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        self.name = str(path)
        self.metadata = {"source": self.path.name}
        self.encoding = encoding
        self._columns = list(columns) if columns is not None else None
        self._schema = schema

    def schema(self) -> pa.Schema:
        """The columns; reads the file once if no schema was given."""
        if self._schema is None:
            self._schema = self._infer()
        return self._schema

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows, converted to the schema's types."""
        schema = self.schema()
        converters = {field.name: _converter(field.type) for field in schema}

        def typed() -> Iterator[Located]:
            for line, names, cells in self._cells(on_reject):
                pairs = zip(names, cells, strict=True)
                yield Located(
                    line=line, values={n: converters[n](c) if c else None for n, c in pairs if n in converters}
                )

        yield from encode(typed(), schema, self.name, on_reject)

    def _infer(self) -> pa.Schema:
        kinds: dict[str, pa.DataType] = {}
        names: list[str] = []
        for _line, found, cells in self._cells(lambda _reject: None):
            names = found
            for name, cell in zip(names, cells, strict=True):
                if cell and kinds.get(name) != pa.string():
                    kinds[name] = _widened(kinds.get(name), cell)
        if not names:
            raise DataError(f"{self.name} has no readable rows")
        return pa.schema([pa.field(name, kinds.get(name, pa.string())) for name in names])

    def _cells(self, on_reject: OnReject) -> Iterator[tuple[int, list[str], list[str]]]:
        """Yield (first line of the row, column names, cells), rows of the right width only."""
        # the csv module's limit belongs to the process: raise it, never lower it under someone else
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARS))
        names = self._columns
        with open_text(self.path, self.encoding, newline="") as text:
            recent: list[str] = []  # the beginning of the row in hand, for a reject's excerpt

            def remembered() -> Iterator[str]:
                for raw in text:
                    if len(recent) < EXCERPT_LINES:
                        recent.append(raw[:EXCERPT_CHARS])
                    yield raw

            quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
            reader = csv.reader(remembered(), delimiter=self.delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
            while True:
                line = reader.line_num + 1
                recent.clear()
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    last = f" (lines {line} to {reader.line_num})" if reader.line_num > line else ""
                    reason = "a quote is opened and never closed" if "end of data" in str(error) else str(error)
                    self._reject(on_reject, f"not valid CSV: {reason}{last}", line, "".join(recent))
                    continue
                if cells is None:
                    return
                if names is None and cells:
                    names = self._header(cells)
                elif cells and names is not None and self._fits(cells, names, line, on_reject):
                    yield line, names, cells

    def _header(self, cells: list[str]) -> list[str]:
        names = [cell.strip() for cell in cells]
        if any(undecodable(name) for name in names):
            raise DataError(f"{self.name}, line 1: the header is {invalid_reason(self.encoding)}; give encoding=")
        for name in names:
            if not name or names.count(name) > 1:
                problem = f"has the column {name!r} twice" if name else "has a column without a name"
                raise DataError(f"{self.name}, line 1: the header {problem}; give columns= if the file has no header")
        return names

    def _fits(self, cells: list[str], names: list[str], line: int, on_reject: OnReject) -> bool:
        if any(undecodable(cell) for cell in cells):
            return self._reject(on_reject, invalid_reason(self.encoding), line, self.delimiter.join(cells))
        if len(cells) != len(names):
            reason = f"expected {len(names)} columns, received {len(cells)}"
            return self._reject(on_reject, reason, line, self.delimiter.join(cells))
        return True

    def _reject(self, on_reject: OnReject, reason: str, line: int, raw: str) -> bool:
        on_reject(Reject(reason=reason, source=self.name, line=line, raw=excerpt(raw)))
        return False


class CSV(Delimited):
    """Comma-separated values (RFC 4180)."""


class TSV(Delimited):
    """Tab-separated values without quoting."""

    delimiter = "\t"
    quoted = False


def _widened(kind: pa.DataType | None, cell: str) -> pa.DataType:
    if _INTEGER.match(cell):
        return kind or pa.int64()
    if _FLOAT.match(cell):
        # an integer beyond int64 would lose digits as a float, so it is text
        return pa.float64() if any(mark in cell for mark in ".eE") else pa.string()
    return pa.string()


def _converter(kind: pa.DataType) -> Any:
    if pa.types.is_integer(kind):
        return _tolerant(int)
    if pa.types.is_floating(kind):
        return _tolerant(float)
    if pa.types.is_boolean(kind):
        return lambda cell: {"true": True, "1": True, "false": False, "0": False}.get(cell.strip().lower(), cell)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return str
    raise ConfigError(f"a delimited file cannot give a column of type {kind}; read it as text and cast it")


def _tolerant(convert: type[int] | type[float]) -> Any:
    def attempt(cell: str) -> int | float | str:
        try:
            return convert(cell)
        except ValueError:
            return cell  # stays text, so that the row is rejected for its type with the cell in the report

    return attempt
