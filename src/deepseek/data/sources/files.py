"""Several files as one source: a list, a glob pattern or a folder; the rows come file by file, in order of names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from deepseek.data.sources.base import Chunk, OnReject, Position, Source, refuse
from deepseek.errors import DataError


class InParts(Source):
    """A source that is read part by part; a position is the part's number and the position inside it."""

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows of all parts, one part after the other."""
        for chunk in self.chunks(None, on_reject):
            if chunk.batch.num_rows:
                yield chunk.batch

    def chunks(self, start: Position | None = None, on_reject: OnReject = refuse) -> Iterator[Chunk]:
        """The rows behind ``start`` (``part`` and ``inner``)."""
        first, inner = (start["part"], start["inner"]) if start else (0, None)
        for number, part in enumerate(self.parts()):
            if number >= first:
                for chunk in part.chunks(inner if number == first else None, on_reject):
                    yield Chunk(batch=chunk.batch, position={"part": number, "inner": chunk.position})


class Files(InParts):
    """Several sources of one format, one after the other.

    Columns must have the same types in all of them; types that are learnt from text widen over all files, as they do
    over all rows of one.
    """

    def __init__(self, sources: Sequence[Source], name: str) -> None:
        self._sources = list(sources)
        self.name = name
        self.metadata = {"source": name}
        self._united = False

    def schema(self) -> pa.Schema:
        """The columns of all files. Raises :class:`DataError` naming the first file that has others."""
        if not self._united:
            self._unite()
        return self._sources[0].schema()

    def parts(self) -> Sequence[Source]:
        """The parts of all files, in order."""
        self.schema()
        return [part for source in self._sources for part in source.parts()]

    def identity(self) -> Mapping[str, Any] | None:
        """The identities of all files, as one hash."""
        identities = [source.identity() for source in self._sources]
        if any(identity is None for identity in identities):
            return None
        text = json.dumps(identities, sort_keys=True)
        return {"kind": "files", "name": self.name, "files": hashlib.sha256(text.encode()).hexdigest()}

    def remember(self, schema: pa.Schema) -> None:
        """Take the types that were learnt over all files."""
        for source in self._sources:
            source.remember(schema)

    def _unite(self) -> None:
        schemas = [source.schema() for source in self._sources]  # remembered ones cost nothing
        if any(not schema.equals(schemas[0]) for schema in schemas[1:]):
            if not all(getattr(source, "learnt", False) for source in self._sources):
                self._refuse(schemas)
            self.remember(self._merged(schemas))
        self._united = True

    def _merged(self, schemas: list[pa.Schema]) -> pa.Schema:
        widened = self._sources[0].widened  # type: ignore[attr-defined]
        if hasattr(self._sources[0], "delimiter"):  # JSON rows name their columns, delimited ones must agree on them
            self._refuse([pa.schema([(name, pa.string()) for name in sorted(s.names)]) for s in schemas])
        kinds: dict[str, pa.DataType] = {}
        for schema in schemas:
            for field in schema:
                kinds[field.name] = widened(kinds[field.name], field.type) if field.name in kinds else field.type
        return pa.schema(list(kinds.items()))

    def _refuse(self, schemas: list[pa.Schema]) -> None:
        """Raise for the first file that has other columns than the first one, if there is one."""
        first = schemas[0]
        for source, schema in zip(self._sources, schemas, strict=True):
            if not schema.equals(first):
                other = sorted({f"{f.name} ({f.type})" for f in schema} ^ {f"{f.name} ({f.type})" for f in first})
                raise DataError(
                    f"{source.name} has other columns than {self._sources[0].name}: {', '.join(other[:4])}; ingest "
                    f"such files into tables of their own, or give schema="
                )
