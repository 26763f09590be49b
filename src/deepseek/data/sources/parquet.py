"""Parquet files, read row group by row group. Parquet is typed and checked, so there are no per-row rejects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deepseek.data.sources.base import BATCH_ROWS, Chunk, OnReject, Position, Source, file_identity, refuse
from deepseek.data.sources.lines import check_file
from deepseek.errors import DataError

READ_BYTES = 1 << 20
"""How much of a column is read at once."""
PART_BYTES = 64 << 20
"""Row groups are gathered into parts of at least this many (uncompressed) bytes."""

WIDE_ROWS = 256
"""Rows read at a time when a row is large (a blob); see :func:`_batch_rows`."""


class Parquet(Source):
    """One Parquet file, or with ``groups`` only those row groups of it (first, and one behind the last)."""

    def __init__(self, path: str | Path, *, groups: tuple[int, int] | None = None) -> None:
        self.path = Path(path).expanduser()
        self.name = str(path)
        self.metadata = {"source": self.path.name}
        self._groups = groups

    def schema(self) -> pa.Schema:
        """The file's Arrow schema, without metadata."""
        with self._open() as file:
            return file.schema_arrow.remove_metadata()

    def identity(self) -> dict[str, Any]:
        """The file and the row groups."""
        return {"kind": "parquet", **file_identity(self.path), "groups": list(self._groups or ())}

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows; raises :class:`DataError` when the file is damaged or empty."""
        for chunk in self.chunks(None, on_reject):
            yield chunk.batch

    def chunks(self, start: Position | None = None, on_reject: OnReject = refuse) -> Iterator[Chunk]:
        """The rows behind ``start`` (row ``group``, and ``row`` in it)."""
        with self._open() as file:
            if file.metadata.num_rows == 0:
                raise DataError(f"{self.name} has no rows")
            begin, end = self._groups or (0, file.metadata.num_row_groups)
            group, skip = (start["group"], start["row"]) if start else (begin, 0)
            for number in range(group, end):
                row = 0
                try:
                    rows = _batch_rows(file.metadata.row_group(number))
                    for batch in file.iter_batches(batch_size=rows, row_groups=[number]):
                        row += batch.num_rows
                        wanted = min(batch.num_rows, row - skip)
                        if wanted > 0:
                            rest = batch.slice(batch.num_rows - wanted).replace_schema_metadata(None)
                            yield Chunk(batch=rest, position={"group": number, "row": row})
                except (pa.ArrowException, OSError) as error:
                    raise DataError(f"{self.name} is damaged: {error}") from error
                skip = 0

    def parts(self) -> Sequence[Source]:
        """Runs of row groups of at least :data:`PART_BYTES`."""
        if self._groups is not None:
            return [self]
        with self._open() as file:
            found: list[Source] = []
            first = size = 0
            for number in range(file.metadata.num_row_groups):
                size += file.metadata.row_group(number).total_byte_size
                if size >= PART_BYTES or number == file.metadata.num_row_groups - 1:
                    found.append(self._part(first, number + 1))
                    first, size = number + 1, 0
        return found if len(found) > 1 else [self]

    def _part(self, first: int, end: int) -> Parquet:
        part = Parquet(self.path, groups=(first, end))
        part.name, part.metadata = self.name, self.metadata
        return part

    def _open(self) -> pq.ParquetFile:
        check_file(self.path)
        try:
            # a buffer: without one, whole column chunks are read, which for blobs can be the whole file
            return pq.ParquetFile(self.path, pre_buffer=False, buffer_size=READ_BYTES)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name} is not a readable Parquet file: {error}") from error


def _batch_rows(group: Any) -> int:
    """Rows of a batch: the usual number, fewer where rows are so large that a batch would not fit in 16 MB."""
    width = group.total_byte_size / max(1, group.num_rows)
    return BATCH_ROWS if width * BATCH_ROWS <= 16 << 20 else max(1, min(WIDE_ROWS, int((16 << 20) / width)))
