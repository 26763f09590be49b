"""pandas data frames. A column of mixed Python objects is typed as JSON Lines are; rows that contradict it are rejects.

pandas is imported only by whoever gave the frame. ``NaN`` and ``NA`` become null. An index other than 0, 1, 2, ...
becomes columns in front, as pandas itself does when it writes Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from deepseek.data.sources.base import BATCH_ROWS, Chunk, OnReject, Position, Source, refuse
from deepseek.data.sources.encoding import UNFIT, Located, encode_batch, inferred_schema, widened
from deepseek.errors import DataError


class Pandas(Source):
    """A ``pandas.DataFrame``; ``schema=`` fixes the types."""

    def __init__(self, frame: Any, *, schema: pa.Schema | None = None) -> None:
        if type(frame).__name__ != "DataFrame":
            raise DataError(f"expected a pandas DataFrame, received {type(frame).__name__}")
        default = type(frame.index).__name__ == "RangeIndex" and frame.index.start == 0 and frame.index.step == 1
        self._frame = frame if default else frame.reset_index(names=_index_names(frame))
        self.name = "pandas DataFrame"
        self.metadata = {"source": self.name}
        self._schema = schema
        names = list(map(str, self._frame.columns))
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"the frame has the column {twice[0]!r} twice (the index counts as a column)")
        self._names = names

    def schema(self) -> pa.Schema:
        """The columns; Arrow's types for pandas', learnt value by value where a column holds mixed objects."""
        if self._schema is None:
            if not len(self._frame):
                raise DataError("the data frame has no rows")
            kinds = {name: self._kind(position) for position, name in enumerate(self._names)}
            self._schema = inferred_schema(kinds)
        return self._schema

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows; a row with a value that its column cannot hold is a reject, ``line`` its 1-based position."""
        for chunk in self.chunks(None, on_reject):
            if chunk.batch.num_rows:
                yield chunk.batch

    def chunks(self, start: Position | None = None, on_reject: OnReject = refuse) -> Iterator[Chunk]:
        """The rows behind ``start`` (``row``)."""
        schema = self.schema()
        for first in range(start["row"] if start else 0, len(self._frame), BATCH_ROWS):
            piece = self._frame.iloc[first : first + BATCH_ROWS]
            yield Chunk(batch=self._batch(piece, first, schema, on_reject), position={"row": first + len(piece)})

    def _batch(self, piece: Any, first: int, schema: pa.Schema, on_reject: OnReject) -> pa.RecordBatch:
        places = {name: position for position, name in enumerate(self._names)}
        try:
            arrays = [
                pa.Array.from_pandas(piece.iloc[:, places[field.name]], field.type)
                if field.name in places
                else pa.nulls(len(piece), field.type)
                for field in schema
            ]
            flat = [array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array for array in arrays]
            return pa.RecordBatch.from_arrays(flat, schema=schema)
        except UNFIT:
            columns = [[_plain(value) for value in piece.iloc[:, place].tolist()] for place in places.values()]
            rows = [dict(zip(self._names, values, strict=True)) for values in zip(*columns, strict=True)]
            located = [Located(line=first + n, values=values) for n, values in enumerate(rows, start=1)]
            return encode_batch(located, schema, self.name, on_reject)

    def _kind(self, place: int) -> pa.DataType:
        column = self._frame.iloc[:, place]
        try:
            return pa.Array.from_pandas(column).type
        except UNFIT:
            kind: pa.DataType = pa.null()
            for value in column.tolist():
                try:
                    kind = widened(kind, pa.infer_type([_plain(value)]))
                except UNFIT:
                    continue
            return kind


def _index_names(frame: Any) -> list[str]:
    names = [name if name is not None else f"level_{level}" for level, name in enumerate(frame.index.names)]
    return ["index"] if names == ["level_0"] else [str(name) for name in names]


def _plain(value: Any) -> Any:
    """``None`` for pandas' ways to say that there is no value."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return None
    return None if isinstance(value, float) and value != value else value
