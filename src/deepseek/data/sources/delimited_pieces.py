"""Pieces of a delimited file, parsed into rows or column types in any thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deepseek.data.sources import delimited_blocks as blocks
from deepseek.data.sources.base import Position, Reject
from deepseek.data.sources.encoding import Located, encode_batch
from deepseek.data.sources.lines import Window
from deepseek.errors import ConfigError

if TYPE_CHECKING:
    from deepseek.data.sources.delimited import Delimited

MAX_FIELD_CHARS = 16 << 20
"""A cell beyond this many characters is a reject; it bounds the memory that one broken quote can take."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A ``block`` of whole rows behind ``line`` lines, or what was ``parsed`` already, and the position behind it."""

    position: Position
    line: int
    block: bytes | None
    parsed: Any


class Parser:
    """Parses pieces in any thread: the fast path where it must agree with the reference, else the reference."""

    def __init__(self, source: Delimited, names: list[str], schema: pa.Schema) -> None:
        self._source, self._names, self._schema = source, names, schema
        self._fast = blocks.Fast(source.delimiter, source.quoted, names, schema, learnt=source.learnt)
        self._converters = {field.name: converter(field.type) for field in schema}

    def parse(self, piece: Piece) -> tuple[pa.RecordBatch, list[Reject], Position]:
        """The rows and rejects of a piece, and the position behind it."""
        if piece.block is None:
            return (*piece.parsed, piece.position)
        # a longer block may hold a cell beyond the limit
        fast = self._source.fast and len(piece.block) <= MAX_FIELD_CHARS
        if fast and (batch := self._fast.batch(piece.block)) is not None:
            return batch, [], piece.position
        window = Window.over(piece.block, piece.line)
        return (*self.reference(window, len(piece.block)), piece.position)

    def reference(self, window: Window, end: int | None) -> tuple[pa.RecordBatch, list[Reject]]:
        """One block by the reference parser; its rejects in the order of their lines."""
        rejects: list[Reject] = []
        rows = []
        for line, cells in self._source.parse_rows(window, end, rejects.append):
            if self._source.fits(cells, self._names, line, rejects.append):
                pairs = zip(self._names, cells, strict=True)
                values = {n: self._converters[n](c) if c else None for n, c in pairs if n in self._converters}
                rows.append(Located(line=line, values=values))
        batch = encode_batch(rows, self._schema, self._source.name, rejects.append)
        return batch, sorted(rejects, key=lambda reject: reject.line or 0)


class Learner:
    """Learns types from pieces in any thread; how types widen does not depend on the order of the rows."""

    def __init__(self, source: Delimited, names: list[str]) -> None:
        self._source, self._names = source, names
        self._learn = blocks.Learn(source.delimiter, source.quoted, names)
        self.kinds: dict[str, pa.DataType] = {}

    def parse(self, piece: Piece) -> dict[str, pa.DataType]:
        """The types of a piece's columns; columns without values are left out."""
        if piece.block is None:
            return dict(piece.parsed)
        if self._source.fast and len(piece.block) <= MAX_FIELD_CHARS:
            text = {name for name, kind in self.kinds.items() if kind == pa.string()}
            found = self._learn.block(piece.block, text)
            if found is not None:
                return found
        return self.reference(Window.over(piece.block, piece.line), len(piece.block))

    def reference(self, window: Window, end: int | None) -> dict[str, pa.DataType]:
        """The types of one block's cells, one by one."""
        kinds: dict[str, pa.DataType] = {}
        for line, cells in self._source.parse_rows(window, end, ignore):
            if self._source.fits(cells, self._names, line, ignore):
                for name, cell in zip(self._names, cells, strict=True):
                    if cell and kinds.get(name) != pa.string():
                        kinds[name] = blocks.widened_by(kinds.get(name), cell)
        return kinds

    def add(self, found: dict[str, pa.DataType]) -> None:
        """Widen what is known by what one piece has."""
        for name, kind in found.items():
            known = self.kinds.get(name)
            self.kinds[name] = kind if known is None else self._source.widened(known, kind)


def ignore(_reject: Reject) -> None:
    """For a pass over the rows that leaves the rejects to another."""


def converter(kind: pa.DataType) -> Any:
    """What turns a cell into a value of a column; raises :class:`ConfigError` for a type that no cell can give."""
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
