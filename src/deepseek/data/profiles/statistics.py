"""Reference statistics of a table: what a bundle stores, so that later data can be compared with what it learnt from.

One pass over the table, cut into pieces that any engine runs; memory is bounded by a piece's batch and by sketches of a
few dozen kilobytes a column, whatever the table's size. The result is plain JSON; ``format`` names its version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deepseek.data.engines import Engine, get_engine
from deepseek.data.profiles.columns import ColumnSketch, sketch_for
from deepseek.errors import UnknownNameError

if TYPE_CHECKING:
    from deepseek.data.table import Table

FORMAT = "deepseek.statistics/2"
READABLE = ("deepseek.statistics/1", FORMAT)
PIECE_ROWS = 1 << 18
MOST_PIECES = 1 << 14
BATCH_ROWS = 1 << 16
BATCH_BYTES = 32 << 20
READ_BYTES = 64 << 20

Sketches = dict[str, ColumnSketch]


def profile(
    table: Table | pa.Table, columns: Sequence[str] | None = None, *, engine: str | Engine = "local"
) -> dict[str, Any]:
    """Statistics of each column as a JSON-able dict, the same from every engine.

    ``{"format", "rows", "columns": {name: {"kind", "type", "count", "nulls", ...}}}`` where ``count`` are the non-null
    values, and by ``kind``:

    * ``"number"``: min, max, mean, std, nan (not finite), quantiles, distinct (``None`` above 4,096), edges and counts
      (deciles), fine (100 bins). ``counts[i]`` values lie in ``[edges[i], edges[i+1])``, the last bin closed; the edges
      lie within 1% of the quantiles, the counts are exact.
    * ``"time"``: the same in seconds since 1970 UTC, and first and last in ISO 8601.
    * ``"text"`` (also dictionaries of text): length in characters (min, max, mean, edges, counts), distinct,
      distinct_is_exact, top (value to count, ``None`` above 100 values), hashed and grams (counts for drift).
    * ``"boolean"``: top. ``"blob"``: size in bytes (as a number), formats.
    * ``"vector"``: dimension, mean and std of each dimension, norm (as a number), along (distribution along fixed
      random directions).
    * ``"list"``: length, items. ``"struct"``: fields. ``"other"``: nothing more.

    Raises:
        UnknownNameError: a column does not exist.
    """
    names = checked_columns(table.schema, columns)
    rows, sketches = sketch_columns(table, names, engine, description="profile")
    described = {name: {"type": str(table.schema.field(name).type), **sketches[name].result()} for name in names}
    return {"format": FORMAT, "rows": rows, "columns": described}


def checked_columns(schema: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    """The names asked for, all of them when none are; raises ``UnknownNameError`` for one that is not there."""
    names = list(columns) if columns is not None else list(schema.names)
    for name in names:
        if name not in schema.names:
            raise UnknownNameError("column", name, schema.names)
    return names


def sketch_columns(
    table: Table | pa.Table, names: list[str], engine: str | Engine, description: str | None = None
) -> tuple[int, Sketches]:
    """Number of rows and one sketch for each column, made piece by piece and merged in the order of the pieces."""
    runner = get_engine(engine)
    if isinstance(table, pa.Table):
        rows = table.num_rows
        ranges = [_Rows(start, min(PIECE_ROWS, rows - start), names) for start in range(0, rows, PIECE_ROWS)]
        parts: Iterable[Sketches] = runner.map(_sketch_rows, ranges, shared=table.select(names))
        total = new_sketches(table.schema, names)
    else:
        rows = len(table)
        pieces = table_pieces(table, names)
        parts = runner.map(_sketch_fragment, pieces, description=description) if names else ()
        total = new_sketches(scanned_schema(table, names), names)
    for part in parts:
        for name, sketch in part.items():
            total[name].merge(sketch)
    return rows, total


def new_sketches(schema: pa.Schema, names: Iterable[str]) -> Sketches:
    """Empty sketches for columns of a schema."""
    return {name: sketch_for(schema.field(name)) for name in names}


def update_sketches(sketches: Mapping[str, ColumnSketch], batch: pa.RecordBatch) -> None:
    """Add a batch's values, column by column."""
    for name, sketch in sketches.items():
        sketch.update(batch.column(name))


@dataclass(frozen=True)
class _Rows:
    start: int
    rows: int
    names: list[str]


def _sketch_rows(piece: _Rows, table: pa.Table) -> Sketches:
    sketches = new_sketches(table.schema, piece.names)
    for batch in table.slice(piece.start, piece.rows).to_batches(max_chunksize=BATCH_ROWS):
        update_sketches(sketches, batch)
    return sketches


@dataclass(frozen=True)
class TablePiece:
    """Neighbouring rows of a table's version, as (fragment, first row, rows); small enough to send anywhere.

    ``options`` are those of the object store that the table lies in, which other machines do not know.
    """

    path: str
    version: int
    spans: tuple[tuple[int, int, int], ...]
    columns: tuple[str, ...]
    options: Mapping[str, str] | None = field(default=None, repr=False)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows, up to ``BATCH_ROWS`` rows or about ``BATCH_BYTES`` bytes at a time."""
        from deepseek.data.table.lance_io import open_dataset

        dataset = open_dataset(self.path, self.version, self.options)
        for fragment, start, count in self.spans:
            scanner = dataset.scanner(
                columns=list(self.columns),
                fragments=[dataset.get_fragment(fragment)],
                offset=start or None,
                limit=count,
                batch_size=BATCH_ROWS,
                batch_readahead=2,  # Lance would read 16 batches ahead and up to 2 GiB of pages
                fragment_readahead=1,
                io_buffer_size=READ_BYTES,
            )
            for batch in scanner.to_batches():
                rows = max(1, BATCH_BYTES // max(batch.nbytes // max(batch.num_rows, 1), 1))
                for place in range(0, batch.num_rows, rows):
                    yield batch.slice(place, rows)


def table_pieces(table: Table, columns: Sequence[str]) -> list[TablePiece]:
    """The table's rows in order, in pieces of ``PIECE_ROWS`` rows; in longer ones where that would be too many.

    The cut depends on the table alone, never on who works on it. Each piece's result passes through the process that
    asked, so there are about ``MOST_PIECES`` of them at most, however large the table.
    """
    from deepseek.data.table import storage

    options = storage.options_for(table.path)
    size = max(PIECE_ROWS, -(-len(table) // MOST_PIECES))
    pieces: list[TablePiece] = []
    spans: list[tuple[int, int, int]] = []
    free = size

    def finish() -> None:
        if spans:
            pieces.append(TablePiece(table.path, table.version, tuple(spans), tuple(columns), options))
            spans.clear()

    for fragment in table._dataset.get_fragments():
        rows, start = fragment.count_rows(), 0
        while start < rows:
            taken = min(free, rows - start)
            spans.append((fragment.fragment_id, start, taken))
            start, free = start + taken, free - taken
            if not free:
                finish()
                free = size
    finish()
    return pieces


def scanned_schema(table: Table, names: Sequence[str]) -> pa.Schema:
    """The columns as a scan of the table gives them."""
    return table._dataset.scanner(columns=list(names)).projected_schema


def _sketch_fragment(piece: TablePiece) -> Sketches:
    sketches: Sketches = {}
    for batch in piece.batches():
        if not sketches:
            sketches = new_sketches(batch.schema, piece.columns)
        update_sketches(sketches, batch)
    return sketches
