"""JSON Lines: one object a line, UTF-8 unless told otherwise.

Column types are learnt from the whole file (one streaming pass) unless ``schema=`` is given: integers widen to floats,
and the first other type seen in a column is its type; rows that contradict it are rejected, not converted.

The reference parser is Python's ``json``. Blocks of lines on which Arrow's parser must give the same values go through
that instead (:mod:`deepseek.data.sources.jsonl_blocks` says when); ``fast=False`` turns it off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek.data.engines import LocalEngine
from deepseek.data.sources import jsonl_blocks as blocks
from deepseek.data.sources.base import Chunk, OnReject, Position, Reject, Source, file_identity, refuse, schema_identity
from deepseek.data.sources.encoding import Located, encode_batch, inferred_schema, widened
from deepseek.data.sources.lines import Window, decode, excerpt, invalid_reason, line_block, open_utf8, undecodable
from deepseek.errors import DataError


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """A ``block`` of whole lines, the number of its ``first`` line, and the position behind it."""

    block: bytes
    first: int
    position: Position


class JSONL(Source):
    """A file of JSON objects, one a line; blank lines are skipped."""

    def __init__(
        self, path: str | Path, *, encoding: str = "utf-8", schema: pa.Schema | None = None, fast: bool = True
    ) -> None:
        self.path = Path(path).expanduser()
        self.name = str(path)
        self.metadata = {"source": self.path.name}
        self.encoding = encoding
        self.fast = fast
        self._schema = schema
        self.learnt = False

    def schema(self) -> pa.Schema:
        """The columns; reads the file once if no schema was given."""
        if self._schema is None:
            self._schema = self._infer()
            self.learnt = True
        return self._schema

    def remember(self, schema: pa.Schema) -> None:
        """Take types that were learnt before, from this file or from it and its siblings."""
        if self._schema is None or self.learnt:
            self._schema, self.learnt = schema, True

    widened = staticmethod(widened)

    def identity(self) -> dict[str, Any]:
        """The file and the options that decide what its values mean."""
        given = None if self.learnt else schema_identity(self._schema)
        return {"kind": "jsonl", **file_identity(self.path), "encoding": self.encoding, "schema": given}

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows; keys outside the schema make a row a reject."""
        for chunk in self.chunks(None, on_reject):
            if chunk.batch.num_rows:
                yield chunk.batch

    def chunks(self, start: Position | None = None, on_reject: OnReject = refuse) -> Iterator[Chunk]:
        """The rows behind ``start`` (``offset`` and ``line`` of the UTF-8 stream), a block of lines at a time."""
        schema = self.schema()
        fast = self.fast and blocks.suits(schema)

        def parse(piece: _Piece) -> tuple[_Piece, pa.RecordBatch, list[Reject]]:
            if fast and (batch := blocks.batch(piece.block, schema)) is not None:
                return piece, batch, []
            return piece, *self._reference(piece, schema)

        for piece, batch, rejects in LocalEngine(self.threads).map(parse, self._pieces(start)):
            for reject in rejects:
                on_reject(reject)
            yield Chunk(batch=batch, position=piece.position)

    def _reference(self, piece: _Piece, schema: pa.Schema) -> tuple[pa.RecordBatch, list[Reject]]:
        """One block by the reference parser; its rejects in the order of their lines."""
        known = set(schema.names)
        rejects: list[Reject] = []
        rows = []
        for row in self._objects(piece, rejects.append):
            if extra := row.values.keys() - known:
                raw = str(dict(row.values))
                self._reject(rejects.append, f"unknown column {min(extra)!r}", row.line, raw)
            else:
                rows.append(row)
        batch = encode_batch(rows, schema, self.name, rejects.append)
        return batch, sorted(rejects, key=lambda reject: reject.line or 0)

    def _pieces(self, start: Position | None = None) -> Iterator[_Piece]:
        offset, line = (start["offset"], start["line"]) if start else (0, 0)
        with open_utf8(self.path, self.encoding, offset) as stream:
            window = Window(stream, offset, line)
            while window.fill():
                first = window.line + 1
                block = window.use(line_block(window))
                yield _Piece(block=block, first=first, position={"offset": window.offset, "line": window.line})

    def _infer(self) -> pa.Schema:
        def parse(piece: _Piece) -> tuple[_Piece, pa.Schema | None]:
            return piece, blocks.learn(piece.block) if self.fast else None

        kinds: dict[str, pa.DataType] = {}
        for piece, found in LocalEngine(self.threads).map(parse, self._pieces()):
            if found is not None and (merged := blocks.merged(kinds, found)) is not None:
                kinds = merged
                continue
            for row in self._objects(piece, _ignore):
                for name, value in row.values.items():
                    try:
                        kind = pa.infer_type([value])
                    except (pa.ArrowException, OverflowError, ValueError):
                        continue
                    kinds[name] = widened(kinds.get(name), kind)
        if not kinds:
            raise DataError(f"{self.name} has no readable rows")
        return inferred_schema(kinds)

    def _objects(self, piece: _Piece, on_reject: OnReject) -> Iterator[Located]:
        for line, raw in enumerate(piece.block.removesuffix(b"\n").split(b"\n"), start=piece.first):
            text = decode(raw)
            if undecodable(text):
                self._reject(on_reject, invalid_reason(self.encoding), line, text)
                continue
            if not text.strip():
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                self._reject(on_reject, f"not valid JSON: {error}", line, text)
                continue
            if isinstance(value, dict):
                yield Located(line=line, values=value)
            else:
                self._reject(on_reject, f"expected a JSON object, received {type(value).__name__}", line, text)

    def _reject(self, on_reject: OnReject, reason: str, line: int | None, raw: str) -> None:
        on_reject(Reject(reason=reason, source=self.name, line=line, raw=excerpt(raw)))


def _ignore(_reject: Reject) -> None:
    pass
