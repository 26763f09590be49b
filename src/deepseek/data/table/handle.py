"""What all parts of :class:`Table` stand on: the open data set, and what can be known without reading rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pyarrow as pa

from deepseek.data.table import storage
from deepseek.data.table.blob_files import BlobReader
from deepseek.data.table.blobs import is_blob, logical_schema
from deepseek.data.table.lance_io import open_dataset, require_own_process
from deepseek.errors import TableError, UnknownNameError


class TableHandle:
    """An open version of a table. ``pinned``: a version was asked for, so it is read-only unless it is the newest.

    A handle may be pickled: it opens its version again in the other process.
    """

    def __init__(self, dataset: Any, path: str, *, pinned: bool = False) -> None:
        self.path = path
        self._pinned = pinned
        self._move(dataset)

    def _move(self, dataset: Any) -> None:
        self._lance = dataset
        self._count: int | None = None
        self._schema: pa.Schema | None = None
        self._reader: BlobReader | None = None

    @property
    def _dataset(self) -> Any:
        require_own_process()
        return self._lance

    @_dataset.setter
    def _dataset(self, dataset: Any) -> None:
        self._move(dataset)

    @property
    def _version(self) -> int:
        return int(self._lance.version)

    def __getstate__(self) -> dict[str, Any]:
        options = storage.options_for(self.path)
        return {"path": self.path, "pinned": self._pinned, "version": self._version, "options": options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self._pinned = state["path"], state["pinned"]
        storage.options_for(self.path, state["options"])
        self._move(open_dataset(self.path, state["version"]))

    def __len__(self) -> int:
        dataset = self._dataset
        if self._count is None:
            self._count = int(dataset.count_rows())
        return self._count

    @property
    def version(self) -> int:
        """The number of the version that this object reads; a write moves it to the version written."""
        return self._version

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema; its metadata is the table's. Blob columns are ``large_binary``."""
        if self._schema is None:
            self._schema = logical_schema(self._dataset.schema)
        return self._schema

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.schema.names)

    @property
    def blobs(self) -> list[str]:
        """The names of the blob columns."""
        return [field.name for field in self.schema if is_blob(field)]

    @property
    def metadata(self) -> dict[str, str]:
        """The facts given to :meth:`create`."""
        return {key.decode(): value.decode() for key, value in (self.schema.metadata or {}).items()}

    @property
    def newest_version(self) -> int:
        """The number of the newest version now, which another writer may have made."""
        return int(self._dataset.latest_version)

    def refresh(self) -> Self:
        """Move this object to the newest version; returns it."""
        newest = self.newest_version
        # Lance moves a data set that it changes along, but what was read off it before is out of date
        self._move(self._lance if newest == self.version else open_dataset(self.path, newest))
        self._pinned = False
        return self

    def _check_columns(self, columns: Sequence[str] | None) -> None:
        if isinstance(columns, str):
            raise TableError(f"columns: expected a list of names, received the text {columns!r}")
        known = self.columns
        for name in columns or ():
            if name not in known:
                raise UnknownNameError("column", name, known)

    def _require_newest(self) -> None:
        newest = self.newest_version
        if self.version != newest:
            raise TableError(
                f"{self.path} is open at version {self.version}, and the newest is {newest}; an older version can "
                f"only be read. Open the table without a version to change it, or call refresh()."
            )

    def _follow(self) -> None:
        """Like :meth:`_require_newest`, for writes that are right whatever others appended since this was opened."""
        if self._pinned:
            self._require_newest()
        else:
            self.refresh()
