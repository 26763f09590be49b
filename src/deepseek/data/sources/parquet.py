"""Parquet files, read row group by row group. Parquet is typed and checked, so there are no per-row rejects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from deepseek.data.sources.base import BATCH_ROWS, OnReject, Source, refuse
from deepseek.data.sources.lines import check_file
from deepseek.errors import DataError


class Parquet(Source):
    """One Parquet file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.name = str(path)
        self.metadata = {"source": self.path.name}

    def schema(self) -> pa.Schema:
        """The file's Arrow schema, without metadata."""
        with self._open() as file:
            return file.schema_arrow.remove_metadata()

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows; raises :class:`DataError` when the file is damaged or empty."""
        with self._open() as file:
            if file.metadata.num_rows == 0:
                raise DataError(f"{self.name} has no rows")
            try:
                for batch in file.iter_batches(batch_size=BATCH_ROWS):
                    yield batch.replace_schema_metadata(None)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{self.name} is damaged: {error}") from error

    def _open(self) -> pq.ParquetFile:
        check_file(self.path)
        try:
            return pq.ParquetFile(self.path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name} is not a readable Parquet file: {error}") from error
