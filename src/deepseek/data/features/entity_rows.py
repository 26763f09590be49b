"""The rows that ``history`` is asked about, whatever they come as, in chunks of Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import pyarrow as pa

from deepseek.data.table import Table
from deepseek.data.table.rows import RowsLike, check_schema, stream
from deepseek.errors import ConfigError, UnknownNameError

EntityRows: TypeAlias = "RowsLike | Table | Iterable[Mapping[str, Any]] | Any"
"""An Arrow table, batch or reader, a :class:`Table`, a pandas frame, or an iterable of dicts or record batches."""


class EntityStream:
    """Entity rows of one ``schema``; :meth:`chunks` gives them once, in order. ``total`` is ``None`` if not known."""

    def __init__(self, rows: EntityRows) -> None:
        self._whole: pa.Table | None = None
        self._batches: Iterable[pa.RecordBatch] = ()
        self.total: int | None = None
        if isinstance(rows, pa.RecordBatch):
            rows = pa.Table.from_batches([rows])
        elif hasattr(rows, "iloc") and hasattr(rows, "columns"):  # a pandas frame, without importing pandas
            rows = pa.Table.from_pandas(rows, preserve_index=False)
        if isinstance(rows, pa.Table):
            self.schema = check_schema(rows.schema, None, "entity_rows")
            self._whole, self.total = rows.cast(self.schema), rows.num_rows
        elif isinstance(rows, Table):
            self.schema, self.total = rows.schema.remove_metadata(), len(rows)
            self._batches = rows.batches(batch_size=1 << 16)
        else:
            read = stream(rows, None, purpose="entity_rows")
            self.schema, self.total = read.schema, read.total
            self._batches = read.reader(lambda count: None)

    def require(self, columns: Iterable[str], time: str) -> None:
        """Check that the columns are there, and that ``time`` is a timestamp.

        Raises:
            UnknownNameError: one is not there; the nearest names are in the message.
            ConfigError: ``time`` is of another type.
        """
        if time not in self.schema.names:
            hint = "It says at what time each row is; time= takes another column."
            raise UnknownNameError("column of the entity rows", time, self.schema.names, hint=hint)
        kind = self.schema.field(time).type
        if not pa.types.is_timestamp(kind):
            raise ConfigError(
                f"entity_rows: the time column {time!r} is {kind}; expected timestamps (datetimes; without a zone "
                f"they are taken as UTC)"
            )
        for name in columns:
            if name not in self.schema.names:
                raise UnknownNameError("column of the entity rows", name, self.schema.names)

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """The rows in tables of at most ``rows``."""
        if self._whole is not None:
            yield from (self._whole.slice(start, rows) for start in range(0, self._whole.num_rows, rows))
            return
        waiting: list[pa.RecordBatch] = []
        count = 0
        for batch in self._batches:
            while batch.num_rows:
                part = batch.slice(0, rows - count)
                waiting.append(part)
                count += part.num_rows
                batch = batch.slice(part.num_rows)
                if count == rows:
                    yield pa.Table.from_batches(waiting, self.schema)
                    waiting, count = [], 0
        if waiting:
            yield pa.Table.from_batches(waiting, self.schema)
