"""Rows of a table by position, as training frameworks want them.

A :class:`Dataset` is a map-style data set in PyTorch's sense without being made of PyTorch: it has ``__len__``,
``__getitem__`` and ``__getitems__`` (a whole batch in one read), and can be pickled and forked: each worker opens the
table itself (forked ones through :mod:`~deepseek.data.loading.reader_process`). It stays at the version it was opened
at, whatever is written meanwhile. A condition is answered once, in the beginning, and costs 8 bytes for each row that
matches.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from deepseek.data.loading.reader_process import ReaderProcess
from deepseek.data.table import Table
from deepseek.errors import ConfigError

if TYPE_CHECKING:
    from deepseek.data.loading.loader import Loader


class Dataset:
    """Rows of one version of a table, by position."""

    def __init__(
        self,
        table: Table | str | Path,
        columns: Sequence[str] | None = None,
        *,
        where: str | None = None,
        version: int | str | datetime | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        """Choose the rows.

        Args:
            table: a table, or the path of one.
            columns: columns of each row; all when absent.
            where: SQL condition that rows must match.
            version: with a path: the version, tag or time to read; the newest when absent.
            transform: what to make of each row (a dict of column to value); with workers that are spawned it must be a
                function of a module.
        """
        if isinstance(table, Table):
            if version is not None:
                raise ConfigError("version: expected none with a Table, which has one; give the path instead")
            self.table = table
        else:
            self.table = Table.open(table, version)
        self.columns = list(columns) if columns is not None else self.table.columns
        self.table._check_columns(columns)
        self.where = where
        self.transform = transform
        self._positions = None if where is None else self.table.positions(where)
        self._size = len(self.table) if self._positions is None else len(self._positions)
        self._own()

    def _own(self) -> None:
        self._process = os.getpid()
        self._state = pickle.dumps(self.table)  # a forked process cannot ask Lance for it
        self._reader: ReaderProcess | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_process", "_state", "_reader")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._own()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Any:
        """The row at a position; negative positions count from the end."""
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"expected a position from 0 to {size - 1}, received {index}")
        return self.__getitems__([index % size])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The rows at several positions, in that order, with one read. Vectors are NumPy arrays."""
        rows = _rows(self.arrow(indices))
        return rows if self.transform is None else [self.transform(row) for row in rows]

    def arrow(self, indices: Sequence[int]) -> pa.Table:
        """The rows at several positions as an Arrow table, without the transform."""
        places = np.asarray(indices, dtype=np.int64)
        if self._positions is not None:
            places = self._positions[places]
        if self._process == os.getpid():
            return self.table.take(places.tolist(), self.columns)
        if self._reader is None or self._reader.owner != os.getpid():
            self._reader = ReaderProcess(self._state, self.columns)
        return self._reader.take(places.tolist())

    def loader(self, batch_size: int, **options: Any) -> Loader:
        """A resumable :class:`Loader` over these rows; see there for the options."""
        from deepseek.data.loading.loader import Loader

        return Loader(self, batch_size, **options)

    def identity(self) -> dict[str, Any]:
        """What a saved state belongs to."""
        return {"path": self.table.path, "version": self.table.version, "where": self.where, "rows": len(self)}


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    columns = {name: _values(table[name]) for name in table.column_names}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _values(column: pa.ChunkedArray) -> Sequence[Any]:
    kind = column.type
    if pa.types.is_fixed_size_list(kind) and pa.types.is_primitive(kind.value_type) and not column.null_count:
        flat = column.combine_chunks().flatten()
        if not flat.null_count:
            values = np.array(flat.to_numpy(zero_copy_only=False))  # a copy: training may write into it
            return list(values.reshape(len(column), kind.list_size))
    return column.to_pylist()  # type: ignore[no-any-return]
