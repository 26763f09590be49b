"""Fetches the feature rows that won: by their positions, or in one pass over the columns, whichever costs less."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from deepseek.data.engines import Engine
from deepseek.data.features.fragments import Piece, pieces
from deepseek.data.features.times import Integers
from deepseek.data.table import Table

_HELD_BYTES = 256 << 20  # winners of a chunk that are kept in memory; beyond, they are read batch by batch
_SAMPLE = 256

# Seconds for a value read in a pass, for a value read by its position, and for a byte: measured on a local disk.
_PASS, _TAKE, _BYTE = 13e-9, 15e-6, 1e-9


class Winners:
    """The ``columns`` of the rows at ``positions`` of a table; a position of -1 gives nulls.

    ``width`` is about how many bytes a row takes, measured on a sample where a column's values vary in size.
    """

    def __init__(self, table: Table, columns: Sequence[str], positions: Integers, engine: Engine) -> None:
        self._table, self._columns, self._positions = table, list(columns), positions
        found, places = np.unique(positions, return_inverse=True)
        self._missing = int(len(found) > 0 and found[0] < 0)  # how many of the distinct positions are none: 0 or 1
        found = found[self._missing :]
        self.width = _width(table, self._columns, found)
        self._held: pa.Table | None = None
        if self.width * len(found) <= _HELD_BYTES:
            self._held = _gather(table, self._columns, found, self.width, engine)
            self._places = places - self._missing

    def read(self, start: int, stop: int) -> dict[str, pa.Array]:
        """The columns for a range of ``positions``."""
        if self._held is not None:
            held, places = self._held, self._places[start:stop]
        else:
            positions = self._positions[start:stop]
            found, places = np.unique(positions, return_inverse=True)
            missing = int(len(found) > 0 and found[0] < 0)
            held = self._table.take(found[missing:].tolist(), self._columns)
            places = places - missing
        absent = places < 0
        indices = pa.array(places, mask=absent if bool(absent.any()) else None)
        return {name: _one(held[name].take(indices)) for name in self._columns}


def _gather(table: Table, columns: list[str], positions: Integers, width: float, engine: Engine) -> pa.Table:
    """The rows at ascending, distinct positions."""
    total = len(table)
    scan = total * (len(columns) * _PASS + width * _BYTE)
    take = len(positions) * (len(columns) * _TAKE + width * _BYTE)
    if not columns or take < scan or any(_is_blob(table.schema.field(name)) for name in columns):
        return table.take(positions.tolist(), columns)
    work = []
    for piece in pieces(table):
        first, last = np.searchsorted(positions, [piece.start, piece.start + piece.rows])
        if last > first:
            work.append((piece, columns, positions[first:last]))
    parts = engine.map(_pass, work, description="read the features")
    empty = table.to_arrow(columns, limit=0)
    return pa.concat_tables([empty, *parts]).combine_chunks()


def _pass(work: tuple[Piece, list[str], Integers]) -> pa.Table:
    """The rows of a piece at ascending positions, in one pass over its columns."""
    piece, columns, positions = work
    parts = []
    for start, batch in piece.batches(columns):
        first, last = np.searchsorted(positions, [start, start + batch.num_rows])
        if last > first:
            parts.append(batch.take(pa.array(positions[first:last] - start)))
    return pa.Table.from_batches(parts)


def _width(table: Table, columns: list[str], positions: Integers) -> float:
    try:
        return float(sum(table.schema.field(name).type.bit_width for name in columns)) / 8
    except ValueError:  # a column's values have no fixed size
        pass
    if len(positions) == 0:
        return 1.0
    sample = positions[np.linspace(0, len(positions) - 1, min(_SAMPLE, len(positions))).astype(np.int64)]
    return float(table.take(sample.tolist(), columns).nbytes / len(sample))


def _is_blob(field: pa.Field) -> bool:
    """Whether the column is stored apart from the others, so that a pass would give its place, not its bytes."""
    metadata = field.metadata or {}
    return metadata.get(b"deepseek.storage") == b"blob" or any(b"blob" in key for key in metadata)


def _one(values: pa.ChunkedArray) -> pa.Array:
    if values.num_chunks == 1:
        return values.chunk(0)
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
