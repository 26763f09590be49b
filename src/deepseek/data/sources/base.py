"""What a source is: a schema, record batches, the rows that it could not read, and where reading can go on.

A row that cannot be read becomes a :class:`Reject` with the reason, the source and the line, and reading goes on; a
caller that wants to stop at the first one passes :func:`refuse`. Sources stream: memory is bounded by a batch (and by
the longest line of a text file, or one volume), never by the source.

Two things make an ingest resumable and parallel. Each batch comes with a :data:`Position`, plain JSON that says where
the next batch begins; ``chunks(position)`` goes on there and gives exactly the rows and rejects that would have
followed. And a source that is made of several files or ranges names them as ``parts()``, in row order, each a source of
its own with the same schema. A new source needs ``schema`` and ``batches`` only: the rest has defaults that are right,
if not fast.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import pyarrow as pa

from deepseek.data.sources.lines import check_file
from deepseek.errors import DataError

EXCERPT_CHARS = 200
BATCH_ROWS = 4096
BATCH_BYTES = 16 << 20

Position: TypeAlias = "Mapping[str, Any]"
"""Where the next batch begins: plain JSON values that only the source that made it understands."""


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A row that could not be read.

    ``line`` is the 1-based line or row (``None`` where ``source`` alone names the row, such as an image file); ``raw``
    is an excerpt.
    """

    reason: str
    source: str
    line: int | None
    raw: str


OnReject = Callable[[Reject], None]


def refuse(reject: Reject) -> NoReturn:
    """The strict way to treat a reject: raise :class:`DataError`."""
    place = f", line {reject.line}" if reject.line is not None else ""
    raise DataError(f"{reject.source}{place}: {reject.reason}; received {reject.raw!r}")


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A batch of rows and the position behind it. All rejects before that position have been reported."""

    batch: pa.RecordBatch
    position: Position


class Source(ABC):
    """A place that rows come from; ``name`` is what reports call it, ``metadata`` goes into the table."""

    name: str
    metadata: Mapping[str, str]
    threads: int = min(4, os.cpu_count() or 1)
    """How many threads a source may use to parse; an ingest that reads many parts at a time leaves each one."""

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

    def chunks(self, start: Position | None = None, on_reject: OnReject = refuse) -> Iterator[Chunk]:
        """The rows behind ``start`` (all of them for ``None``), each batch with the position that follows it.

        This default reads from the beginning and drops what lies before ``start``; sources that can jump do.
        """
        skip_rows, skip_rejects = (start["rows"], start["rejects"]) if start else (0, 0)
        rows = rejects = 0

        def report(reject: Reject) -> None:
            nonlocal rejects
            rejects += 1
            if rejects > skip_rejects:
                on_reject(reject)

        for batch in self.batches(report):
            rows += batch.num_rows
            wanted = min(rows - skip_rows, batch.num_rows)
            if wanted > 0:
                rest = batch.slice(batch.num_rows - wanted)
                yield Chunk(batch=rest, position={"rows": rows, "rejects": rejects})

    def parts(self) -> Sequence[Source]:
        """The pieces that can be read independently, in row order; by default the source itself, undivided."""
        return [self]

    def identity(self) -> Mapping[str, Any] | None:
        """What tells this source from another or from a changed one, as JSON values; ``None`` if nothing does.

        An ingest is continued only from a source with the identity that it began with; without an identity, as for
        data in memory, it starts over.
        """
        return None

    def remember(self, schema: pa.Schema) -> None:  # noqa: B027 - nothing to remember is a fine default
        """Take a schema that a source of this identity reported before, and save the pass that learnt it."""

    @property
    def travels(self) -> bool:
        """Whether the source can be sent to another machine as a small description (paths, not data)."""
        return self.identity() is not None


_EDGE_BYTES = 64 << 10


def file_identity(path: Path) -> dict[str, Any]:
    """Path, size, time of change, and a hash of the first and last 64 KiB; raises :class:`DataError` if absent."""
    check_file(path)
    status = path.stat()
    with path.open("rb") as file:
        edges = hashlib.sha256(file.read(_EDGE_BYTES))
        file.seek(max(0, status.st_size - _EDGE_BYTES))
        edges.update(file.read(_EDGE_BYTES))
    return {
        "path": str(path.absolute()),
        "bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "edges": edges.hexdigest(),
    }


def files_identity(paths: Sequence[Path], root: Path) -> dict[str, Any]:
    """The identity of many files: a hash over their names, sizes and times of change (their contents are not read)."""
    total = hashlib.sha256()
    for path in paths:
        status = path.stat()
        total.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return {"path": str(root.absolute()), "files": len(paths), "listing": total.hexdigest()}


def schema_identity(schema: pa.Schema | None) -> str | None:
    """A schema as text, for :meth:`Source.identity`."""
    return None if schema is None else str(schema)
