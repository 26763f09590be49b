"""Arrow data: IPC files and streams (``.arrow``, ``.feather``), and tables, batches and readers in memory.

Arrow is typed, so there are no per-row rejects. Files are memory-mapped: reading copies nothing until Arrow must
decompress. A reader can be read once; reading it again is an error, not an empty result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek.data.sources.base import BATCH_ROWS, Chunk, OnReject, Position, Source, file_identity, refuse
from deepseek.data.sources.lines import check_file
from deepseek.errors import DataError


class Arrow(Source):
    """An IPC file, an IPC stream in a file, or a ``pa.Table``, ``pa.RecordBatch`` or ``pa.RecordBatchReader``."""

    def __init__(self, data: str | Path | pa.Table | pa.RecordBatch | pa.RecordBatchReader) -> None:
        self.path: Path | None = None
        self._data = data
        self._used = False
        if isinstance(data, str | Path):
            self.path = Path(data).expanduser()
            self.name = str(data)
            self.metadata = {"source": self.path.name}
        elif isinstance(data, pa.Table | pa.RecordBatch | pa.RecordBatchReader):
            self.name = f"Arrow {type(data).__name__}"
            self.metadata = {"source": self.name}
        else:
            raise DataError(f"expected a path, Arrow table, batch or reader, received {type(data).__name__}")

    def schema(self) -> pa.Schema:
        """The schema, without metadata."""
        if self.path is None:
            return self._data.schema.remove_metadata()  # type: ignore[union-attr]
        with opened(self.path) as (schema, _):
            return schema.remove_metadata()

    def identity(self) -> dict[str, Any] | None:
        """The file; data in memory has none."""
        return None if self.path is None else {"kind": "arrow", **file_identity(self.path)}

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows; raises :class:`DataError` when the file is damaged."""
        for chunk in self.chunks(None, on_reject):
            yield chunk.batch

    def chunks(self, start: Position | None = None, on_reject: OnReject = refuse) -> Iterator[Chunk]:
        """The rows behind ``start`` (``row``)."""
        if self.path is not None:
            with opened(self.path) as (_, batches):
                yield from sliced(batches, start)
        elif isinstance(self._data, pa.RecordBatchReader):
            if self._used:
                raise DataError("a RecordBatchReader can be read once; make a pa.Table of it, or open it again")
            self._used = True
            yield from sliced(self._data, start)
        else:
            table = self._data if isinstance(self._data, pa.Table) else pa.Table.from_batches([self._data])
            yield from sliced(table.to_batches(), start)


@contextmanager
def opened(path: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """The schema and the batches of an IPC file or stream; raises :class:`DataError` when it is neither or damaged."""
    check_file(path)
    with pa.memory_map(str(path)) as memory:
        try:
            try:
                file = pa.ipc.open_file(memory)
                schema, batches = file.schema, (file.get_batch(n) for n in range(file.num_record_batches))
            except pa.ArrowInvalid:
                memory.seek(0)
                reader = pa.ipc.open_stream(memory)
                schema, batches = reader.schema, iter(reader)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a readable Arrow file: {error}") from error
        yield schema, _guarded(batches, path)


def _guarded(batches: Iterator[pa.RecordBatch], path: Path) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged: {error}") from error


def sliced(batches: Any, start: Position | None) -> Iterator[Chunk]:
    """Batches of up to ``BATCH_ROWS`` rows behind the row ``start["row"]``, without metadata and without copies."""
    skip = start["row"] if start else 0
    row = 0
    for whole in batches:
        batch = whole.replace_schema_metadata(None)
        if row + batch.num_rows <= skip:
            row += batch.num_rows
            continue
        at = max(0, skip - row)
        while at < batch.num_rows:
            piece = batch.slice(at, BATCH_ROWS)
            at += piece.num_rows
            yield Chunk(batch=piece, position={"row": row + at})
        row += batch.num_rows
