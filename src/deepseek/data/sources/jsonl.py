"""JSON Lines: one object a line, UTF-8 unless told otherwise.

Column types are learnt from the whole file (one streaming pass) unless ``schema=`` is given: integers widen to floats,
and the first other type seen in a column is its type; rows that contradict it are rejected, not converted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from deepseek.data.sources.base import Located, OnReject, Reject, Source, encode, refuse
from deepseek.data.sources.lines import excerpt, invalid_reason, open_text, undecodable
from deepseek.errors import DataError


class JSONL(Source):
    """A file of JSON objects, one a line; blank lines are skipped."""

    def __init__(self, path: str | Path, *, encoding: str = "utf-8", schema: pa.Schema | None = None) -> None:
        self.path = Path(path).expanduser()
        self.name = str(path)
        self.metadata = {"source": self.path.name}
        self.encoding = encoding
        self._schema = schema

    def schema(self) -> pa.Schema:
        """The columns; reads the file once if no schema was given."""
        if self._schema is None:
            self._schema = self._infer()
        return self._schema

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows; keys outside the schema make a row a reject."""
        schema = self.schema()
        known = set(schema.names)

        def checked() -> Iterator[Located]:
            for row in self._objects(on_reject):
                if extra := row.values.keys() - known:
                    raw = str(dict(row.values))
                    self._reject(on_reject, f"unknown column {min(extra)!r}", row.line, raw)
                else:
                    yield row

        yield from encode(checked(), schema, self.name, on_reject)

    def _infer(self) -> pa.Schema:
        kinds: dict[str, pa.DataType] = {}
        for row in self._objects(lambda _reject: None):
            for name, value in row.values.items():
                try:
                    kind = pa.infer_type([value])
                except (pa.ArrowException, OverflowError, ValueError):
                    continue
                kinds[name] = _widened(kinds.get(name, pa.null()), kind)
        if not kinds:
            raise DataError(f"{self.name} has no readable rows")
        return pa.schema([pa.field(n, pa.string() if pa.types.is_null(kind) else kind) for n, kind in kinds.items()])

    def _objects(self, on_reject: OnReject) -> Iterator[Located]:
        with open_text(self.path, self.encoding, newline="\n") as text:
            for line, raw in enumerate(text, start=1):
                if undecodable(raw):
                    self._reject(on_reject, invalid_reason(self.encoding), line, raw)
                    continue
                if not raw.strip():
                    continue
                try:
                    value = json.loads(raw)
                except (ValueError, RecursionError) as error:
                    self._reject(on_reject, f"not valid JSON: {error}", line, raw)
                    continue
                if isinstance(value, dict):
                    yield Located(line=line, values=value)
                else:
                    self._reject(on_reject, f"expected a JSON object, received {type(value).__name__}", line, raw)

    def _reject(self, on_reject: OnReject, reason: str, line: int, raw: str) -> None:
        on_reject(Reject(reason=reason, source=self.name, line=line, raw=excerpt(raw)))


def _widened(known: pa.DataType, seen: pa.DataType) -> pa.DataType:
    """The type for both; the known one when they contradict each other."""
    if known.equals(seen) or pa.types.is_null(seen):
        return known
    if pa.types.is_null(known):
        return seen
    if {str(known), str(seen)} == {"int64", "double"}:
        return pa.float64()
    if pa.types.is_nested(known) and pa.types.is_nested(seen):
        try:
            fields = [pa.schema([pa.field("value", kind)]) for kind in (known, seen)]
            return pa.unify_schemas(fields, promote_options="permissive").field("value").type
        except (pa.ArrowException, ValueError):
            return known
    return known
