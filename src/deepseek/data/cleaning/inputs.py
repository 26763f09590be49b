"""What is cleaned: a table in memory or a stored one, read in pieces of consecutive rows.

A piece says where its rows are, not what they are, so that it travels cheaply to wherever an engine reads it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from deepseek.data.table import Table

PIECE_ROWS = 8192
PIECE_BYTES = 32 << 20
_SAMPLED = 32


@dataclass(frozen=True)
class Piece:
    """The rows ``start`` to ``stop`` (excluded) of an input."""

    rows: Input
    start: int
    stop: int

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The piece's rows with some columns, or with all."""
        return self.rows.read(self.start, self.stop, columns)


class Input(ABC):
    """Rows in a fixed order; picklable."""

    schema: pa.Schema
    count: int

    @abstractmethod
    def read(self, start: int, stop: int, columns: Sequence[str] | None) -> pa.Table:
        """The rows ``start`` to ``stop`` (excluded)."""

    @abstractmethod
    def take(self, rows: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Rows by number, in the given order."""

    def pieces(self, columns: Sequence[str] | None) -> Iterator[Piece]:
        """All rows in order, in pieces of at most about ``PIECE_BYTES`` bytes and ``PIECE_ROWS`` rows."""
        step = self._piece_rows(columns)
        for start in range(0, self.count, step):
            yield Piece(self, start, min(start + step, self.count))

    def _piece_rows(self, columns: Sequence[str] | None) -> int:
        """Rows a piece, from the widest of a sample spread over the rows."""
        if not self.count:
            return PIECE_ROWS
        sampled = sorted({position * self.count // _SAMPLED for position in range(_SAMPLED)})
        # one row at a time: thirty rows of large blobs at once could be a memory budget of their own
        width = max(1, *(int(self.take([row], columns).nbytes) for row in sampled))
        return max(1, min(PIECE_ROWS, PIECE_BYTES // width))


class MemoryInput(Input):
    """An Arrow table."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.schema, self.count = table.schema, table.num_rows

    def read(self, start: int, stop: int, columns: Sequence[str] | None) -> pa.Table:
        """A view of the rows, nothing is copied."""
        table = self._table if columns is None else self._table.select(list(columns))
        return table.slice(start, stop - start)

    def take(self, rows: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Rows by number, in the given order."""
        table = self._table if columns is None else self._table.select(list(columns))
        return table.take(pa.array(rows, pa.int64()))

    def _piece_rows(self, columns: Sequence[str] | None) -> int:
        # views cost nothing, so only the rows' number counts; an image is decoded, a text is copied
        return PIECE_ROWS


class TableInput(Input):
    """The version of a stored table that is open; a piece opens it again where it is worked on."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.schema, self.count = table.schema, len(table)

    def read(self, start: int, stop: int, columns: Sequence[str] | None) -> pa.Table:
        """Read the rows from storage."""
        return self._table.take(range(start, stop), None if columns is None else list(columns))

    def take(self, rows: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Rows by number, in the given order."""
        return self._table.take(rows, None if columns is None else list(columns))
