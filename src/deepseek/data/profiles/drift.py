"""Drift: how far current rows lie from a reference, column by column, with a verdict and its reasons.

A column drifts when a difference is both *large* and *not chance*: its effect size passes a threshold, and its p-value,
corrected for all tests of the report (Holm), passes ``alpha``. So with a million rows a difference that does not matter
is no alarm, and with fifty rows noise is none: when nothing drifts, all columns together raise a false alarm with a
probability of at most ``alpha``.

The reference is a profile (a bundle has one), or rows to make one of; the current rows are counted in the reference's
bins in one pass. The tests of each kind of column are in ``comparison.py``, their formulas in ``significance.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import pyarrow as pa

from deepseek.data.engines import Engine, get_engine
from deepseek.data.profiles.drift_report import ColumnDrift, DriftConfig, DriftReport, judge
from deepseek.data.profiles.live import LiveColumn
from deepseek.data.profiles.statistics import (
    BATCH_ROWS,
    READABLE,
    TablePiece,
    profile,
    table_pieces,
)
from deepseek.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from deepseek.data.table import Table

Rows: TypeAlias = "Table | pa.Table | pa.RecordBatch | Iterable[Mapping[str, Any]] | Iterable[pa.RecordBatch]"

__all__ = ["ColumnDrift", "DriftConfig", "DriftReport", "LiveRows", "drift"]


def drift(
    reference: Mapping[str, Any] | Table | pa.Table,
    current: Rows,
    columns: Sequence[str] | None = None,
    *,
    config: DriftConfig | None = None,
    engine: str | Engine = "local",
) -> DriftReport:
    """Compare ``current`` with ``reference``.

    Args:
        reference: what :func:`profile` returned (``bundle.reference``), or a table, at whatever version it is open.
        current: a table, Arrow data, or an iterable of dicts or record batches, such as live requests.
        columns: only these columns; all of the reference's when absent.

    Raises:
        DataError: ``reference`` is not a profile that this version can read, or rows cannot be read.
        UnknownNameError: the reference has no such column.
    """
    known = _profiled(reference, columns, engine)
    live = LiveRows.against(known, columns)
    for part in _counted(live, current, get_engine(engine)):
        live.merge(part)
    return judge(known, live, config or DriftConfig())


def _profiled(
    reference: Mapping[str, Any] | Table | pa.Table, columns: Sequence[str] | None, engine: str | Engine
) -> Mapping[str, Any]:
    if not isinstance(reference, Mapping):
        return profile(reference, columns, engine=engine)
    if reference.get("format") not in READABLE:
        raise DataError(
            f"reference: expected a profile of format {' or '.join(READABLE)}, received "
            f"{reference.get('format', 'a dict without format')!r}; make one with deepseek.data.profile(table)"
        )
    return reference


@dataclass
class LiveRows:
    """Rows so far, each column counted against the reference. Can be sent to workers and merged."""

    reference: Mapping[str, Mapping[str, Any]]
    everything: bool = True
    rows: int = 0
    columns: dict[str, LiveColumn] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)

    @classmethod
    def against(cls, known: Mapping[str, Any], columns: Sequence[str] | None) -> LiveRows:
        """No rows yet, against a profile."""
        described = known["columns"]
        names = list(described) if columns is None else list(columns)
        for name in names:
            if name not in described:
                raise UnknownNameError("column", name, described, hint="The reference has no such column.")
        return cls(reference={name: described[name] for name in names}, everything=columns is None).empty()

    def empty(self) -> LiveRows:
        """No rows, against the same reference."""
        columns = {name: LiveColumn(known) for name, known in self.reference.items()}
        return LiveRows(self.reference, self.everything, 0, columns)

    def update(self, batch: pa.RecordBatch) -> None:
        """Add a batch of rows."""
        self.rows += batch.num_rows
        names = batch.schema.names
        for name, column in self.columns.items():
            column.update(batch.column(name) if name in names else None, batch.num_rows)
        self.note_columns(batch.schema)

    def note_columns(self, schema: pa.Schema) -> None:
        """Remember columns that the reference does not have, unless only some columns are compared."""
        if self.everything:
            self.extra |= {field.name: str(field.type) for field in schema if field.name not in self.reference}

    def merge(self, other: LiveRows) -> None:
        """Add rows that were counted apart."""
        self.rows += other.rows
        for name, column in self.columns.items():
            column.merge(other.columns[name])
        self.extra |= other.extra


def _counted(live: LiveRows, current: Rows, engine: Engine) -> Iterable[LiveRows]:
    if _is_table(current):
        names = [name for name in current.columns if name in live.reference]
        live.note_columns(current.schema)
        pieces = table_pieces(current, names)
        return engine.map(_count_piece, pieces, shared=live.empty(), description="compare")
    part = live.empty()
    for batch in as_batches(current, list(live.reference)):
        part.update(batch)
    return [part]


def _is_table(rows: Rows) -> TypeGuard[Table]:
    from deepseek.data.table import Table

    return isinstance(rows, Table)


def _count_piece(piece: TablePiece, empty: LiveRows) -> LiveRows:
    part = empty.empty()
    for batch in piece.batches():
        part.update(batch)
    return part


def as_batches(rows: Rows, names: Sequence[str]) -> Iterable[pa.RecordBatch]:
    """Rows of any form as record batches; dicts are gathered, and a key that one lacks is null there.

    Raises:
        DataError: rows are of no known form, or one column's values do not fit together.
    """
    if isinstance(rows, pa.RecordBatch):
        yield rows
    elif isinstance(rows, pa.Table):
        yield from rows.to_batches(max_chunksize=BATCH_ROWS)
    elif isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise DataError(f"rows: expected a table, Arrow data or an iterable of dicts or batches, received {type(rows)}")
    else:
        gathered: list[Mapping[str, Any]] = []
        for row in rows:
            if isinstance(row, pa.RecordBatch):
                yield row
                continue
            gathered.append(row)
            if len(gathered) == 8192:
                yield _columnar(gathered, names)
                gathered = []
        if gathered:
            yield _columnar(gathered, names)


def _columnar(rows: list[Mapping[str, Any]], names: Sequence[str]) -> pa.RecordBatch:
    seen = {key: None for row in rows for key in row}
    arrays = {}
    for name in seen:
        try:
            arrays[name] = pa.array([row.get(name) for row in rows])
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            if name in names:
                raise DataError(f"column {name!r}: the values do not fit together: {error}") from error
            arrays[name] = pa.nulls(len(rows))
    return pa.RecordBatch.from_pydict(arrays)
