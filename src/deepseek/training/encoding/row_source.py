"""The rows of a run, from wherever they come, never all in memory when they come from a table."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa

from deepseek import progress
from deepseek.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from deepseek.data import Table

Row = Mapping[str, Any]
Rows = Any
"""A table, a path of one, an Arrow table, a pandas ``DataFrame``, or a sequence of dicts."""

SPLIT = "split"
BAR_ROWS = 20_000
"""Passes over this many rows or more show a bar."""


class RowSource(Sequence[Row]):
    """Rows that can be gone through several times, and that know their numbers in what the user gave."""

    name: str
    """Where the rows come from, for people."""

    @abstractmethod
    def number(self, index: int) -> int:
        """The position of row ``index`` in the table or sequence that the user gave."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells these rows from others (JSON): a table's version, or a hash of the rows."""

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """Names of the columns, of the first row where rows may differ."""

    @contextmanager
    def numbered(self, start: int = 0) -> Iterator[None]:
        """Errors inside the block that begin with ``row N`` get the user's number of row ``start + N``."""
        try:
            yield
        except DataError as error:
            text = str(error)
            found = re.match(r"row (\d+)\b", text)
            if found is None or start + int(found[1]) >= len(self):
                raise
            number = self.number(start + int(found[1]))
            if number == int(found[1]):
                raise
            raise type(error)(f"row {number}{text[found.end() :]}") from error


class ListRows(RowSource):
    """Rows in memory; ``numbers`` where some were left out."""

    def __init__(self, rows: Sequence[Row], numbers: Sequence[int] | None = None, name: str = "rows in memory") -> None:
        self._rows, self._numbers, self.name = rows, numbers, name

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self._rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def number(self, index: int) -> int:
        return index if self._numbers is None else self._numbers[index]

    @property
    def columns(self) -> list[str]:
        return list(map(str, self._rows[0])) if self._rows else []

    def identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for row in self._rows:
            digest.update(json.dumps(dict(row), sort_keys=True, ensure_ascii=False, default=_plain).encode())
            digest.update(b"\n")
        return {"source": self.name, "rows": len(self._rows), "sha256": digest.hexdigest()}


class TableRows(RowSource):
    """Rows of a table's version that fulfil a condition, read in batches each time they are gone through."""

    def __init__(self, table: Table, where: str | None = None) -> None:
        self.table, self.where, self.name = table, where, table.path
        self._count: int | None = None
        self._places: np.ndarray[Any, Any] | None = None

    def __len__(self) -> int:
        if self._count is None:
            self._count = self.table.count(self.where)
        return self._count

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return self._take(range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return self._take([index % len(self)])[0]

    def __iter__(self) -> Iterator[Row]:
        with progress.bar(f"read {os.path.basename(self.name)}", len(self)) as bar:  # noqa: PTH119 - a path or a URI
            for batch in self.table.batches(where=self.where):
                yield from batch.to_pylist()
                bar.advance(batch.num_rows)

    def _take(self, indices: Sequence[int]) -> list[Row]:
        places = [self.number(index) for index in indices]
        return list(self.table.take(places).to_pylist())

    def number(self, index: int) -> int:
        if self.where is None:
            return index
        if self._places is None:
            self._places = self.table.positions(self.where)
        return int(self._places[index])

    @property
    def columns(self) -> list[str]:
        return self.table.columns

    def identity(self) -> dict[str, Any]:
        version = next(v for v in self.table.versions() if v.version == self.table.version)
        return {
            "source": self.table.path,
            "version": version.version,
            "written": version.timestamp.isoformat(),
            "where": self.where,
            "rows": len(self),
            "schema": [f"{field.name}: {field.type}" for field in self.table.schema],
        }


def split_rows(rows: Rows, validation: Rows | None) -> tuple[RowSource, RowSource | None]:
    """``(rows to train on, rows to score)``, by their ``split`` column where they have one.

    Raises:
        TableError: a path is not a table.
        DataError: the rows are of a type that is not known, or there are none to train on.
    """
    given = _opened(rows)
    train = _of_split(given, "train")
    if train is None:
        train = given
    if not len(train):
        raise DataError(
            f"there are no rows to train on in {given.name}: expected rows"
            + (" whose split is 'train'" if train is not given else "")
        )
    if validation is None:
        scored = _of_split(given, "validation")
        return train, scored if scored is not None and len(scored) else None
    others = _opened(validation)
    scored = _of_split(others, "validation")
    chosen = scored if scored is not None and len(scored) else others
    if not len(chosen):
        raise DataError("validation has no rows; leave it out, or give rows to score")
    return train, chosen


def _opened(rows: Rows) -> RowSource:
    if isinstance(rows, RowSource):
        return rows
    if (table := opened_table(rows)) is not None:
        return TableRows(table)
    if type(rows).__module__.partition(".")[0] == "pandas" and hasattr(rows, "to_dict"):
        return ListRows(rows.to_dict("records"), name="pandas DataFrame")
    if isinstance(rows, pa.Table | pa.RecordBatch):
        return ListRows(rows.to_pylist(), name="Arrow table")
    if isinstance(rows, Mapping) or not hasattr(rows, "__iter__"):
        raise DataError(
            "expected a Table, the path of one, an Arrow table, a pandas DataFrame or a sequence of dicts, "
            f"received {type(rows).__name__}"
        )
    listed = rows if isinstance(rows, list | tuple) else list(rows)
    for number, row in enumerate(listed):
        if not isinstance(row, Mapping):
            raise DataError(f"row {number}: expected a dict, received {type(row).__name__}")
    return ListRows(listed)


def opened_table(rows: Rows) -> Table | None:
    """The table that rows are or are the path of; ``None`` where they are something else.

    The data layer is imported for those alone: it takes memory that training on rows at hand does not need.
    """
    if isinstance(rows, str | os.PathLike):
        from deepseek.data import Table

        return Table.open(os.fspath(rows))
    tables = sys.modules.get("deepseek.data.table.table")  # whoever made a table has loaded it
    return rows if tables is not None and isinstance(rows, tables.Table) else None


def _of_split(rows: RowSource, split: str) -> RowSource | None:
    """The rows of one split; ``None`` when the rows have no such column."""
    if isinstance(rows, TableRows):
        if SPLIT not in rows.columns or rows.where is not None:
            return None
        return TableRows(rows.table, f"{SPLIT} = '{split}'")
    if not any(SPLIT in row for row in rows):
        return None
    numbers = [i for i, row in enumerate(rows) if row.get(SPLIT) == split]
    return ListRows([rows[i] for i in numbers], [rows.number(i) for i in numbers], rows.name)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return hashlib.sha256(value).hexdigest()
    to_bytes: Callable[[], bytes] | None = getattr(value, "tobytes", None)  # numpy arrays, PIL images
    if to_bytes is not None:
        return [type(value).__name__, repr(getattr(value, "shape", None) or getattr(value, "size", None)),
                hashlib.sha256(to_bytes()).hexdigest()]  # fmt: skip
    return repr(value)
