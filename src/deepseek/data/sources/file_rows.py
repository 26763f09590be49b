"""Folders where a file (or a group of files, such as the slices of a series) is one row."""

from __future__ import annotations

import copy
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from deepseek.data.sources.base import (
    BATCH_BYTES,
    BATCH_ROWS,
    EXCERPT_CHARS,
    Chunk,
    OnReject,
    Position,
    Reject,
    Source,
    files_identity,
    refuse,
)
from deepseek.errors import DataError


class Unreadable(Exception):  # noqa: N818 - a signal inside this package, not an error that users see
    """A file that gives no row, with the reason for the rejects."""


Unit = tuple[Path, ...]


class FileRows(Source):
    """One row for each unit of files, in the order of their paths; a position is the number of units read."""

    part_units: ClassVar[int] = 256
    """How many units make a part: enough to fill a data file, few enough to spread over many workers."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.name = str(path)
        self.metadata: Mapping[str, str] = {"source": self.path.name}
        self._listed: list[Unit] | None = None

    @abstractmethod
    def row(self, unit: Unit) -> dict[str, Any]:
        """The row of one unit; raises :class:`Unreadable` with the reason when there is none."""

    @abstractmethod
    def find(self) -> list[Unit]:
        """All units under the path, sorted."""

    def options(self) -> dict[str, Any]:
        """The options that change the rows, as JSON values."""
        return {}

    def units(self) -> list[Unit]:
        """The units of this source or part; raises :class:`DataError` when there are none."""
        if self._listed is None:
            self._listed = self.find()
            if not self._listed:
                raise DataError(f"{self.name} has no files to read")
        return self._listed

    def identity(self) -> dict[str, Any]:
        """The names, sizes and times of change of all files, and the options."""
        paths = [path for unit in self.units() for path in unit]
        return {"kind": type(self).__name__, **files_identity(paths, self.path), **self.options()}

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows; files that cannot be read are rejects with their path as the source."""
        for chunk in self.chunks(None, on_reject):
            if chunk.batch.num_rows:
                yield chunk.batch

    def chunks(self, start: Position | None = None, on_reject: OnReject = refuse) -> Iterator[Chunk]:
        """The rows behind ``start`` (``unit``, the number of units read)."""
        schema = self.schema()
        rows: list[dict[str, Any]] = []
        size = 0
        number = start["unit"] if start else 0
        for number, unit in enumerate(self.units()[number:], start=number + 1):  # noqa: B020
            try:
                row = self.row(unit)
            except Unreadable as problem:
                raw = ", ".join(path.name for path in unit[:4])[:EXCERPT_CHARS]
                where = unit[0] if len(unit) == 1 else unit[0].parent
                on_reject(Reject(reason=str(problem), source=str(where), line=None, raw=raw))
                continue
            rows.append(row)
            size += sum(_bytes_of(value) for value in row.values())
            if size >= BATCH_BYTES or len(rows) >= BATCH_ROWS:
                yield Chunk(batch=_batch(rows, schema), position={"unit": number})
                rows, size = [], 0
        yield Chunk(batch=_batch(rows, schema), position={"unit": number})

    def parts(self) -> Sequence[Source]:
        """Runs of :attr:`part_units` units."""
        units = self.units()
        if len(units) <= self.part_units:
            return [self]
        return [self._part(units[n : n + self.part_units]) for n in range(0, len(units), self.part_units)]

    def _part(self, units: list[Unit]) -> FileRows:
        part = copy.copy(self)
        part._listed = units
        return part


def files_under(root: Path) -> list[Path]:
    """All files under a folder, sorted by path; hidden ones and links to folders are left out."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _bytes_of(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    return len(value) if isinstance(value, bytes) else 0


def _batch(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [_column([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_large_binary(kind):
        return pa.array(values, kind)
    if len(values) == 1 and isinstance(values[0], np.ndarray):  # one volume: its memory becomes the column's
        offsets = pa.py_buffer(np.array([0, values[0].nbytes], np.int64))
        return pa.Array.from_buffers(kind, 1, [None, offsets, pa.py_buffer(values[0])])
    return pa.array([v.data.cast("B") if isinstance(v, np.ndarray) else v for v in values], kind)
