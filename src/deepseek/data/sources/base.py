"""What a source is: a schema, record batches, and the rows that it could not read.

A row that cannot be read becomes a :class:`Reject` with the reason, the source and the line, and reading goes on; a
caller that wants to stop at the first one passes :func:`refuse`. Sources stream: memory is bounded by a batch (and by
the longest line of a text file), never by the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow as pa

from deepseek.errors import DataError

EXCERPT_CHARS = 200
BATCH_ROWS = 4096
BATCH_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A row that could not be read. ``line`` is 1-based (``None`` where lines mean nothing); ``raw`` is an excerpt."""

    reason: str
    source: str
    line: int | None
    raw: str


OnReject = Callable[[Reject], None]


def refuse(reject: Reject) -> NoReturn:
    """The strict way to treat a reject: raise :class:`DataError`."""
    place = f", line {reject.line}" if reject.line is not None else ""
    raise DataError(f"{reject.source}{place}: {reject.reason}; received {reject.raw!r}")


class Source(ABC):
    """A place that rows come from; ``name`` is what reports call it, ``metadata`` goes into the table."""

    name: str
    metadata: Mapping[str, str]

    @abstractmethod
    def schema(self) -> pa.Schema:
        """The columns and their types; may read the source once to learn them. Raises :class:`DataError` if empty."""

    @abstractmethod
    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows; those that cannot be read go to ``on_reject``. May be called again to read again."""

    def rows(self, on_reject: OnReject = refuse) -> Iterator[dict[str, Any]]:
        """The rows as dicts."""
        for batch in self.batches(on_reject):
            yield from batch.to_pylist()


@dataclass(frozen=True, kw_only=True)
class Located:
    """A parsed row with the line that it begins on."""

    line: int
    values: Mapping[str, Any]


def encode(rows: Iterable[Located], schema: pa.Schema, name: str, on_reject: OnReject) -> Iterator[pa.RecordBatch]:
    """Gather parsed rows into record batches; a row with a value that its column cannot hold is rejected."""
    chunk: list[Located] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += sum(len(value) for value in row.values.values() if isinstance(value, str))
        if len(chunk) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield _encode_chunk(chunk, schema, name, on_reject)
            chunk, size = [], 0
    if chunk:
        yield _encode_chunk(chunk, schema, name, on_reject)


_UNFIT = (pa.ArrowException, OverflowError, TypeError, ValueError)


def _encode_chunk(chunk: list[Located], schema: pa.Schema, name: str, on_reject: OnReject) -> pa.RecordBatch:
    try:
        return _to_batch(chunk, schema)
    except _UNFIT:  # at least one row does not fit: find which, keep the others
        fitting = []
        for row in chunk:
            if reason := _unfit(row, schema):
                raw = repr(dict(row.values))[:EXCERPT_CHARS]
                on_reject(Reject(reason=reason, source=name, line=row.line, raw=raw))
            else:
                fitting.append(row)
        return _to_batch(fitting, schema)


def _to_batch(chunk: list[Located], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array([row.values.get(field.name) for row in chunk], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _unfit(row: Located, schema: pa.Schema) -> str:
    for field in schema:
        value = row.values.get(field.name)
        try:
            pa.array([value], field.type)
        except UnicodeEncodeError:
            return f"column {field.name!r} holds half of a surrogate pair, which no UTF-8 text can"
        except _UNFIT:
            return f"column {field.name!r}: expected {field.type}, received {type(value).__name__}"
    return ""
