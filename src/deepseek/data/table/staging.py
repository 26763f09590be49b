"""Rows that must be read more than once: kept in memory while they are few, spilled to a temporary file otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek.data.table.rows import RowStream

MEMORY_BYTES = 32 << 20


class StagedRows:
    """Rows that can be read again and again, whole or some columns of them; ``count`` is how many there are."""

    def __init__(self, schema: pa.Schema, batches: list[pa.RecordBatch], file: Path | None, count: int) -> None:
        self.schema = schema
        self.count = count
        self._batches = batches
        self._file = file

    def reader(self, columns: list[str] | None = None) -> pa.RecordBatchReader:
        """The rows as an Arrow reader."""
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        return pa.RecordBatchReader.from_batches(schema, self._read(columns))

    def _read(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        if self._file is None:
            source: Any = self._batches
        else:
            # read, not mapped: mapped pages would count as this process's memory
            source = pa.ipc.open_stream(pa.OSFile(str(self._file)))
        for batch in source:
            yield batch if columns is None else batch.select(columns)


@contextmanager
def staged(rows: RowStream) -> Iterator[StagedRows]:
    """Read a stream to its end; the rows live until the ``with`` block is left."""
    held: list[pa.RecordBatch] = []
    size = count = 0
    with tempfile.TemporaryDirectory(prefix="deepseek-rows-") as folder:
        writer: Any = None
        file = Path(folder) / "rows.arrows"
        try:
            for batch in rows.reader(lambda _: None):
                count += batch.num_rows
                if writer is None and size + batch.nbytes <= MEMORY_BYTES:
                    held.append(batch)
                    size += batch.nbytes
                    continue
                if writer is None:
                    writer = pa.ipc.new_stream(str(file), rows.schema)
                    for earlier in held:
                        writer.write_batch(earlier)
                    held = []
                writer.write_batch(batch)
        except (OSError, ValueError):
            if rows.error is not None:
                raise rows.error from None
            raise
        finally:
            if writer is not None:
                writer.close()
        yield StagedRows(rows.schema, held, None if writer is None else file, count)
