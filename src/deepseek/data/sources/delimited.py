"""CSV and TSV files.

Design: types are learnt from the whole file (one streaming pass), so that no later row contradicts them; pass
``schema=`` to fix them and save the pass. A column is ``int64`` or ``float64`` when every filled cell is such a number
in plain notation (``007`` and ``1_000`` are text, so identifiers survive), else ``string``. An empty cell is null.
CSV follows RFC 4180 strictly: a quote that is opened and never closed is a reject, not the rest of the file in one
cell. TSV has no quoting: a quote is a character like any other.

The reference parser is Python's ``csv`` in strict mode. Blocks of rows on which Arrow's parser must give the same cells
go through that instead (:mod:`deepseek.data.sources.delimited_blocks` says when); ``fast=False`` turns it off.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek.data.engines import LocalEngine
from deepseek.data.sources import delimited_blocks as blocks
from deepseek.data.sources.base import (
    EXCERPT_CHARS,
    Chunk,
    OnReject,
    Position,
    Reject,
    Source,
    file_identity,
    refuse,
    schema_identity,
)
from deepseek.data.sources.delimited_pieces import MAX_FIELD_CHARS, Learner, Parser, Piece, converter
from deepseek.data.sources.lines import (
    Window,
    decode,
    excerpt,
    invalid_reason,
    open_utf8,
    undecodable,
)
from deepseek.errors import DataError

EXCERPT_LINES = 3


@dataclass(frozen=True, kw_only=True)
class _Head:
    """The column names, where the rows begin, and the lines before the header that could not be read."""

    names: list[str]
    offset: int
    line: int
    rejects: list[Reject]


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
        fast: bool = True,
    ) -> None:
        self.path = Path(path).expanduser()
        self.name = str(path)
        self.metadata = {"source": self.path.name}
        self.encoding = encoding
        self.fast = fast
        self._columns = list(columns) if columns is not None else None
        self._schema = schema
        self.learnt = False
        self._found: _Head | None = None
        if schema is not None:
            for field in schema:
                converter(field.type)  # an impossible type is said now, not in the middle of the file

    def schema(self) -> pa.Schema:
        """The columns; reads the file once if no schema was given."""
        if self._schema is None:
            self._schema = self._infer()
            self.learnt = True
        return self._schema

    def remember(self, schema: pa.Schema) -> None:
        """Take types that were learnt before, from this file or from it and its siblings."""
        if self._schema is None or self.learnt:
            self._schema, self.learnt = schema, True

    @staticmethod
    def widened(known: pa.DataType, seen: pa.DataType) -> pa.DataType:
        """The type that holds the cells of both columns."""
        if known == seen:
            return known
        return pa.string() if pa.string() in (known, seen) else pa.float64()

    def identity(self) -> dict[str, Any]:
        """The file and the options that decide what its cells mean."""
        given = None if self.learnt else schema_identity(self._schema)
        options = {"encoding": self.encoding, "columns": self._columns, "schema": given, "delimiter": self.delimiter}
        return {"kind": "delimited", **file_identity(self.path), **options}

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows, converted to the schema's types."""
        for chunk in self.chunks(None, on_reject):
            if chunk.batch.num_rows:
                yield chunk.batch

    def chunks(self, start: Position | None = None, on_reject: OnReject = refuse) -> Iterator[Chunk]:
        """The rows behind ``start`` (``offset`` and ``line`` of the UTF-8 stream), a block of rows at a time."""
        schema = self.schema()
        head = self._head()
        if start is None:
            for reject in head.rejects:
                on_reject(reject)
        if not head.names:
            return
        parser = Parser(self, head.names, schema)
        for batch, rejects, position in LocalEngine(self.threads).map(parser.parse, self._pieces(start, head, parser)):
            for reject in rejects:
                on_reject(reject)
            yield Chunk(batch=batch, position=position)

    def _pieces(self, start: Position | None, head: _Head, parser: Parser | Learner) -> Iterator[Piece]:
        """Blocks of whole rows; one whose end only the parser can find is parsed here."""
        offset, line = (start["offset"], start["line"]) if start else (head.offset, head.line)
        with open_utf8(self.path, self.encoding, offset) as stream:
            window = Window(stream, offset, line)
            while window.fill():
                first = window.line
                end = blocks.rows_end(window, self.quoted, MAX_FIELD_CHARS)
                block = parsed = None
                if end is None:
                    parsed = parser.reference(window, None)
                else:
                    block = window.use(end)
                yield Piece(
                    position={"offset": window.offset, "line": window.line}, line=first, block=block, parsed=parsed
                )

    def parse_rows(self, window: Window, end: int | None, on_reject: OnReject) -> Iterator[tuple[int, list[str]]]:
        """Yield (first line, cells) of the rows up to ``end`` in the window, or of a block's worth of rows."""
        # the csv module's limit belongs to the process: raise it, never lower it under someone else
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARS))
        stop = window.offset + (window.block if end is None else end - window.at)
        recent: list[str] = []  # the beginning of the row in hand, for a reject's excerpt

        def lines() -> Iterator[str]:
            while raw := window.next_line():
                text = decode(raw)
                if len(recent) < EXCERPT_LINES:
                    recent.append(text[:EXCERPT_CHARS])
                yield text

        quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        reader = csv.reader(lines(), delimiter=self.delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
        while window.offset < stop:
            line = window.line + 1
            recent.clear()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                last = f" (lines {line} to {window.line})" if window.line > line else ""
                reason = "a quote is opened and never closed" if "end of data" in str(error) else str(error)
                self._reject(on_reject, f"not valid CSV: {reason}{last}", line, "".join(recent))
                continue
            if cells is None:
                return
            if cells:
                yield line, cells

    def _infer(self) -> pa.Schema:
        head = self._head()
        if not head.names:
            raise DataError(f"{self.name} has no readable rows")
        learner = Learner(self, head.names)
        for found in LocalEngine(self.threads).map(learner.parse, self._pieces(None, head, learner)):
            learner.add(found)
        return pa.schema([pa.field(name, learner.kinds.get(name, pa.string())) for name in head.names])

    def _head(self) -> _Head:
        if self._found is None:
            rejects: list[Reject] = []
            names = self._columns or []
            with open_utf8(self.path, self.encoding) as stream:
                window = Window(stream)
                while not names and window.fill():
                    for _line, cells in self.parse_rows(window, window.at + 1, rejects.append):
                        names = self._header(cells)
                self._found = _Head(names=names, offset=window.offset, line=window.line, rejects=rejects)
        return self._found

    def _header(self, cells: list[str]) -> list[str]:
        names = [cell.strip() for cell in cells]
        if any(undecodable(name) for name in names):
            raise DataError(f"{self.name}, line 1: the header is {invalid_reason(self.encoding)}; give encoding=")
        for name in names:
            if not name or names.count(name) > 1:
                problem = f"has the column {name!r} twice" if name else "has a column without a name"
                raise DataError(f"{self.name}, line 1: the header {problem}; give columns= if the file has no header")
        return names

    def fits(self, cells: list[str], names: list[str], line: int, on_reject: OnReject) -> bool:
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
