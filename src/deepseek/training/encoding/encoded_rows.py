"""Training features on disk, mapped into memory: random access to any of them, at the cost of the pages touched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from deepseek.errors import DataError
from deepseek.training.encoding.columns import ColumnReader, Kind

FEATURES = "features.arrow"
ABOUT = "encoding.json"
FIRST, LAST, LENGTH, ID = "#first", "#last", "#length", "#id"
"""Columns that are not features: the rows that a feature was made from, its tokens, its row's ``id``."""

KIND = b"kind"
BATCHES_OPEN = 4096


class EncodedRows(Sequence[dict[str, Any]]):
    """A map-style data set of features (``torch.utils.data.Dataset`` by duck typing).

    ``rows[i]`` is the feature as the task made it, with ``row``: its index ``i``. Lists of numbers come back as lists;
    nested lists of floats of one shape (images) come back as numpy arrays.

    Args:
        folder: what :func:`deepseek.training.encoding.writing.encode` wrote.
        columns: features to read; ``None`` reads all.
    """

    def __init__(self, folder: str | Path, columns: Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        self.about: dict[str, Any] = json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
        self._reader = pa.ipc.open_file(pa.memory_map(str(self.folder / FEATURES)))
        schema = self._reader.schema
        self._kinds = {f.name: _kind(f) for f in schema if not f.name.startswith("#")}
        if columns is not None:
            self._kinds = {name: kind for name, kind in self._kinds.items() if name in columns}
        sizes = self.about["batches"]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._places = {name: schema.get_field_index(name) for name in schema.names}
        self._batch = lru_cache(BATCHES_OPEN)(self._open_batch)
        self.lengths: np.ndarray[Any, np.dtype[np.int32]] = self._numbers(LENGTH)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def columns(self) -> list[str]:
        """Names of the features, ``row`` excluded."""
        return list(self._kinds)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"feature {index} of {size}")
        index = int(index) % size
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        inside = index - int(self._starts[number])
        item = {name: reader[inside] for name, reader in self._batch(number).items()}
        return {**item, "row": index}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index in range(len(self)):
            yield self[index]

    def only(self, columns: Sequence[str]) -> EncodedRows:
        """The same rows with some of the features (and ``row``)."""
        return EncodedRows(self.folder, columns)

    def origin(self, index: int) -> str:
        """Where a feature came from, for people: ``row 17 (id 'a9')``, or the rows that were packed into it."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        inside = index - int(self._starts[number])
        batch = self._reader.get_batch(number)
        first, last = (batch.column(self._places[name])[inside].as_py() for name in (FIRST, LAST))
        text = f"row {first}" if first == last else f"rows {first} to {last}"
        given = batch.column(self._places[ID])[inside].as_py() if ID in self._places else None
        return text if given is None else f"{text} (id {given!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "columns": list(self._kinds)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _open_batch(self, number: int) -> dict[str, ColumnReader]:
        batch = self._reader.get_batch(number)
        return {name: ColumnReader(batch.column(self._places[name]), kind) for name, kind in self._kinds.items()}

    def _numbers(self, name: str) -> np.ndarray[Any, Any]:
        parts = [self._reader.get_batch(i).column(self._places[name]).to_numpy() for i in range(len(self._starts) - 1)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def open_encoded(folder: Path, fingerprint: str) -> EncodedRows | None:
    """The features in ``folder`` if they are of that fingerprint; else ``None``.

    Raises:
        DataError: the folder is complete but cannot be read.
    """
    about = folder / ABOUT
    if not about.is_file() or json.loads(about.read_text(encoding="utf-8")).get("fingerprint") != fingerprint:
        return None
    try:
        return EncodedRows(folder)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise DataError(f"the encoded rows in {folder} are damaged ({error}); delete the folder") from error


def described(name: str, kind: Kind, dtype: pa.DataType) -> pa.Field:
    """The Arrow field of a feature, with its kind."""
    return pa.field(name, dtype, metadata={KIND: json.dumps([kind.leaf, kind.depth, kind.shape])})


def _kind(field: pa.Field) -> Kind:
    leaf, depth, shape = json.loads(field.metadata[KIND])
    return Kind(leaf, depth, tuple(shape) if shape is not None else None)
