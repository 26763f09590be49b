"""What a cleaning keeps on disk while it runs: the rows after the row steps, and every row's fate.

Rows are read back batch by batch and column by column. Fates are memory-mapped: 14 bytes a row.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.inputs import Input
from deepseek.data.cleaning.row_phase import ROW
from deepseek.data.cleaning.step import Bools, RowNumbers, Rows
from deepseek.data.engines import Engine
from deepseek.data.table import location
from deepseek.errors import TableError, UnknownNameError

KEPT = -1


@contextlib.contextmanager
def staging_folder(dest: str | Path | None) -> Iterator[Path]:
    """An empty folder for one cleaning, removed at its end: beside a local table, else where temporary files go.

    The folder's name follows from the table's, so that what a killed cleaning left is removed by the next one.

    Raises:
        TableError: another process is cleaning into the same table.
    """
    if dest is None or location.is_remote(location.normalise(dest)):
        with tempfile.TemporaryDirectory(prefix="deepseek-clean-") as temporary:
            yield Path(temporary)
        return
    target = Path(location.normalise(dest)).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.parent / f".{target.name}.cleaning.lock"
    folder = target.parent / f".{target.name}.cleaning"
    with lock.open("a") as handle:
        _lock(handle, target)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _lock(handle: Any, target: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: two cleanings into one table are then not told apart
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise TableError(f"another process is cleaning into {target}; wait for it or choose another path") from error


class Fates:
    """For each input row the number of the step that rejected it (or ``KEPT``), the reason, and what it repeats."""

    def __init__(self, folder: Path, count: int) -> None:
        self._reasons: dict[str, int] = {}
        self.step = _mapped(folder / "step", count, np.int16)
        self.reason = _mapped(folder / "reason", count, np.int32)
        self.duplicate_of = _mapped(folder / "duplicate_of", count, np.int64)
        self._detail = _mapped(folder / "detail", count, np.int64)  # where in the file of details, plus 1
        self._details: Any = (folder / "details").open("w+b")
        self.step[:] = KEPT

    def reject(self, step: int, row: int, reason: str, duplicate_of: int = -1, detail: str = "") -> None:
        """Note that a step rejects a row, which row it repeats (-1 for none), and what was measured."""
        assert self.step[row] == KEPT, f"row {row} is rejected twice"
        self.step[row] = step
        self.reason[row] = self._reasons.setdefault(reason, len(self._reasons))
        self.duplicate_of[row] = duplicate_of
        if detail:
            self._detail[row] = self._details.seek(0, 2) + 1
            self._details.write(detail.replace("\n", " ").encode("utf-8", "replace") + b"\n")

    def details(self, rows: RowNumbers) -> list[str]:
        """What was measured on rejected rows."""
        found = []
        for start in self._detail[rows]:
            self._details.seek(max(0, start - 1))
            found.append(self._details.readline().decode("utf-8").rstrip("\n") if start else "")
        return found

    def reasons(self, rows: RowNumbers) -> list[str]:
        """The reasons of rejected rows."""
        names = list(self._reasons)
        return [names[code] for code in self.reason[rows]]

    def others(self, rows: RowNumbers) -> list[int | None]:
        """The rows that rejected rows repeat."""
        return [None if other < 0 else int(other) for other in self.duplicate_of[rows]]


def _mapped(path: Path, count: int, kind: Any) -> np.ndarray[Any, Any]:
    return np.memmap(path, dtype=kind, mode="w+", shape=max(1, count))[:count]


class StagedRows(Rows):
    """The rows that passed the row steps and no later step rejected."""

    def __init__(self, folder: Path, source: Input, fates: Fates, engine: Engine) -> None:
        self._source, self._fates, self._path = source, fates, folder / "rows.arrow"
        self.shared = folder / "shared"
        self.scratch = folder / "scratch"
        self.engine = engine
        self.details = {}
        self.marks: dict[str, tuple[RowNumbers, pa.Array]] = {}
        self._writer: Any = None
        self._schema: pa.Schema = pa.schema([])
        self._readers: dict[tuple[str, ...], Any] = {}
        self._firsts: list[int] = []
        self._count = 0
        self.shared.mkdir()
        self._empty_scratch()

    def add(self, batch: pa.RecordBatch) -> None:
        """Stage a piece's rows; pieces come in input order."""
        if self._writer is None:
            self._writer = pa.ipc.new_file(str(self._path), batch.schema)
        if batch.num_rows:
            self._writer.write_batch(batch)
            self._firsts.append(batch.column(ROW)[0].as_py())
            self._count += batch.num_rows

    def finish(self) -> None:
        """End staging; from here on the rows can be read."""
        if self._writer is not None:
            self._writer.close()
            self._schema = self._reader((ROW,), None).schema

    def next_step(self) -> None:
        """Give the coming step an empty scratch folder and no details."""
        self._empty_scratch()
        self.details = {}

    def _empty_scratch(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()

    def rejected(self, count: int) -> None:
        """Note that a step rejected so many rows."""
        self._count -= count

    @property
    def count(self) -> int:
        """How many rows are still kept."""
        return self._count

    @property
    def total(self) -> int:
        """How many rows the input has."""
        return self._source.count

    @property
    def schema(self) -> pa.Schema:
        """The input's columns and the facts."""
        fields = list(self._source.schema)
        known = {field.name for field in fields}
        facts = (field for field in self._schema if field.name not in known and field.name != ROW)
        return pa.schema([*fields, *facts])

    def _reader(self, names: tuple[str, ...], included: list[int] | None) -> Any:
        if names not in self._readers:
            options = pa.ipc.IpcReadOptions(included_fields=included)
            # an ordinary file, not a mapped one: what a step has read does not stay in this process's memory
            self._readers[names] = pa.ipc.open_file(pa.OSFile(str(self._path)), options=options)
        return self._readers[names]

    def _staged(self, position: int, columns: Sequence[str]) -> pa.RecordBatch:
        """The row numbers and those of the columns that are staged, of one piece."""
        names = (ROW, *(name for name in columns if name in self._schema.names))
        included = sorted({self._schema.get_field_index(name) for name in names})
        return self._reader(("", *map(str, included)), included).get_batch(position)

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[RowNumbers, pa.RecordBatch]]:
        """The kept rows in input order; see :meth:`Rows.batches`."""
        self._check(columns)
        for position in range(len(self._firsts)):
            staged = self._staged(position, columns)
            numbers = staged.column(ROW).to_numpy()
            mask = self._fates.step[numbers] == KEPT
            if mask.any():
                yield self._with_columns(staged, numbers, mask, columns)

    def _with_columns(
        self, staged: pa.RecordBatch, numbers: RowNumbers, mask: Bools, columns: Sequence[str]
    ) -> tuple[RowNumbers, pa.RecordBatch]:
        present = [name for name in columns if name in staged.schema.names]
        chosen = staged.select(present)
        if not mask.all():
            chosen, numbers = chosen.filter(pa.array(mask)), numbers[mask]
        arrays = {name: chosen.column(name) for name in present}
        if absent := [name for name in columns if name not in present]:
            arrays |= self._from_source(numbers, absent)
        return numbers, pa.RecordBatch.from_arrays([arrays[name] for name in columns], list(columns))

    def _from_source(self, numbers: RowNumbers, names: list[str]) -> dict[str, pa.Array]:
        table = self._source.take(numbers.tolist(), names)
        return {name: _contiguous(table.column(name)) for name in names}

    def take(self, rows: RowNumbers, columns: Sequence[str]) -> pa.RecordBatch:
        """Some rows by input-row number; see :meth:`Rows.take`."""
        self._check(columns)
        rows = np.asarray(rows, dtype=np.int64)
        wanted, back = np.unique(rows, return_inverse=True)
        batches = np.searchsorted(np.asarray(self._firsts), wanted, side="right") - 1
        parts = []
        for position in np.unique(batches):
            staged = self._staged(int(position), columns)
            numbers = staged.column(ROW).to_numpy()
            mask = np.zeros(len(numbers), np.bool_)
            mask[np.searchsorted(numbers, wanted[batches == position])] = True
            parts.append(self._with_columns(staged, numbers, mask, columns)[1])
        if not parts:
            return self.schema.empty_table().select(list(columns)).combine_chunks().to_batches()[0]
        table = pa.Table.from_batches(parts).combine_chunks().take(pa.array(back))
        return pa.RecordBatch.from_arrays([_contiguous(column) for column in table.columns], list(columns))

    def mark(self, column: str, rows: RowNumbers, values: pa.Array) -> None:
        """Give the kept table a column; see :meth:`Rows.mark`."""
        self.marks[column] = (np.asarray(rows, np.int64), values)

    def marked(self, column: str, numbers: RowNumbers) -> pa.Array:
        """The values of a marked column for some kept rows, null in rows without a mark."""
        rows, values = self.marks[column]
        places = np.searchsorted(rows, numbers)
        inside = places < len(rows)
        inside[inside] = rows[places[inside]] == numbers[inside]
        return values.take(pa.array(np.where(inside, places, 0), mask=~inside))

    def _check(self, columns: Sequence[str]) -> None:
        known = self.schema.names
        for name in columns:
            if name not in known:
                raise UnknownNameError("column", name, known)


def _contiguous(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
