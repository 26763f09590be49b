"""One step of an ingest: reads a part of a source from a position on, and writes data files that no table refers to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from lance.fragment import write_fragments

from deepseek.data.sources.base import Chunk, Position, Reject, Source, refuse
from deepseek.data.sources.journal import StepDone
from deepseek.data.table.blobs import mark_blobs
from deepseek.data.table.lance_errors import LANCE_ERRORS, cause, write_error
from deepseek.data.table.lance_io import session
from deepseek.data.table.rows import RowStream, check_schema, is_bytes
from deepseek.data.table.transaction import as_stored


@dataclass(frozen=True, kw_only=True)
class Step:
    """What to read and where to write it; small, so that it can be sent to another machine.

    ``schema`` is the table's, with its metadata and its marks of blob columns; ``mode`` is Lance's; ``limit`` is how
    many bytes are about enough; ``alone`` says that no other step runs at the same time.
    """

    part: int
    source: Source
    start: Position | None
    target: str
    mode: str
    schema: pa.Schema
    strict: bool
    limit: int
    options: dict[str, str] | None
    alone: bool


def run_step(step: Step) -> StepDone:
    """Read one part from ``start`` on and write data files of up to about ``limit`` bytes; commits nothing."""
    rejects: list[Reject] = []
    if not step.alone:
        step.source.threads = 1  # the workers are busy with the other parts
    chunks = step.source.chunks(step.start, refuse if step.strict else rejects.append)
    reading = _Reading(chunks, step.limit)
    first = reading.first()
    fragments: Sequence[Any] = ()
    if first is not None:
        rows = RowStream(step.schema, reading.batches(first), None)
        as_stored(rows)
        try:
            fragments = write_fragments(
                rows.reader(lambda _rows: None),
                step.target,
                rows.schema,
                mode=step.mode,
                storage_options=step.options,
                session=session(),
            )
        except LANCE_ERRORS as error:
            if rows.error is not None:
                raise rows.error from None  # Lance wraps what the source raised into an error of its own
            raise write_error(error, step.target, step.mode) from cause(error)
    return StepDone(
        part=step.part,
        fragments=[json.dumps(fragment.to_json()) for fragment in fragments],
        rows=reading.rows,
        rejects=rejects,
        position=reading.position,
    )


class _Reading:
    """Takes chunks until the limit; ``position`` is where to go on, ``None`` at the source's end."""

    def __init__(self, chunks: Iterator[Chunk], limit: int) -> None:
        self._chunks, self._limit = chunks, limit
        self._bytes = 0
        self.rows = 0
        self.position: Position | None = None

    def first(self) -> pa.RecordBatch | None:
        """The first batch with rows; ``None`` when the source has none left."""
        for chunk in self._chunks:
            if (batch := self._take(chunk)) is not None:
                return batch
        self.position = None
        return None

    def _take(self, chunk: Chunk) -> pa.RecordBatch | None:
        self.position = chunk.position
        self.rows += chunk.batch.num_rows
        self._bytes += chunk.batch.nbytes
        return chunk.batch if chunk.batch.num_rows else None

    def batches(self, first: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        yield first
        while self._bytes < self._limit:
            chunk = next(self._chunks, None)
            if chunk is None:
                self.position = None
                return
            if (batch := self._take(chunk)) is not None:
                yield batch


def table_schema(source: Source, blobs: Sequence[str] | None, purpose: str) -> pa.Schema:
    """The table's columns. Which hold blobs is decided once, by the first rows, for all parts and every run."""
    schema = check_schema(source.schema(), None, purpose)
    rows = RowStream(schema, _first_rows(source) if any(is_bytes(field.type) for field in schema) else (), None)
    mark_blobs(rows, blobs, purpose)
    return rows.schema


def unmarked(schema: pa.Schema) -> pa.Schema:
    """The schema as a source has it: without the marks of blob columns."""
    return pa.schema([field.remove_metadata() for field in schema])


def _first_rows(source: Source) -> Iterator[pa.RecordBatch]:
    return (chunk.batch for chunk in source.chunks(None, lambda _reject: None) if chunk.batch.num_rows)
