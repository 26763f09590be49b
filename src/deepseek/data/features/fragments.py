"""A version of a table as pieces of work: neighbouring fragments, and the positions of their rows in the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from deepseek.data.table import Table

PIECE_ROWS = 1 << 20
"""A piece has at least this many rows, unless it is the last. Read at once, their keys and times take some 50 MB."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Neighbouring fragments of a table, which travels with them, to be opened again elsewhere.

    ``start`` is the position of their first row in the table, ``rows`` how many they have.
    """

    table: Table
    fragments: tuple[int, ...]
    start: int
    rows: int

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The columns in table order, each batch with the position of its first row."""
        dataset = self.table._dataset
        fragments = [dataset.get_fragment(number) for number in self.fragments]
        position = self.start
        for batch in dataset.scanner(columns=list(columns), fragments=fragments, batch_size=PIECE_ROWS).to_batches():
            yield position, batch
            position += batch.num_rows


def pieces(table: Table) -> list[Piece]:
    """The table's version that is open, cut the same way wherever the work runs."""
    found: list[Piece] = []
    numbers: list[int] = []
    start = rows = 0
    for fragment in table._dataset.get_fragments():
        numbers.append(fragment.fragment_id)
        rows += fragment.count_rows()
        if rows >= PIECE_ROWS:
            found.append(_piece(table, numbers, start, rows))
            start, rows, numbers = start + rows, 0, []
    if rows:
        found.append(_piece(table, numbers, start, rows))
    return found


def _piece(table: Table, numbers: list[int], start: int, rows: int) -> Piece:
    return Piece(table=table, fragments=tuple(numbers), start=start, rows=rows)
