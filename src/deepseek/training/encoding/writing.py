"""Encode rows into a folder that :class:`EncodedRows` opens.

The folder appears when it is complete, under the fingerprint of what it was made from, so that a run that is resumed
finds it and a run on other rows does not.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts.cache import staged_directory
from deepseek.errors import DataError
from deepseek.training.encoding.columns import ColumnReader, Kind, arrow_type, kind_of, to_arrow
from deepseek.training.encoding.encoded_rows import (
    ABOUT,
    FEATURES,
    FIRST,
    ID,
    LAST,
    LENGTH,
    EncodedRows,
    described,
    open_encoded,
)
from deepseek.training.encoding.limits import ModelLimits
from deepseek.training.encoding.row_source import Row, RowSource

if TYPE_CHECKING:
    from deepseek.tasks.base import Task

CHUNK = 1024
"""Rows that are encoded at a time; a task that packs does so inside a chunk."""
BLOB_CHUNK = 32
"""The same for rows with binary values, such as images, whose features are large."""

FORMAT = 1


def encode(
    rows: RowSource,
    task: Task,
    tokenizer: Any,
    folder: Path,
    *,
    limits: ModelLimits | None = None,
    fingerprint: str | None = None,
) -> EncodedRows:
    """Encode all rows into ``folder``, or open what is there if it was made from the same rows in the same way.

    Args:
        fingerprint: :func:`encoding_fingerprint` of the same, if it is known.

    Raises:
        DataError: a row lacks an input or its answer (the message has the row's number), or its features are of
            types that cannot be kept.
        ConfigError: a sequence is longer than the model's positions.
    """
    fingerprint = fingerprint or encoding_fingerprint(rows, task, tokenizer)
    for left in folder.parent.glob(f".{folder.name}.tmp-*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    found = open_encoded(folder, fingerprint)
    if found is not None:
        return found
    with staged_directory(folder, replace=True) as stage, progress.bar("encode", len(rows)) as bar:
        writer = _Writer(stage / FEATURES)
        try:
            for start, chunk in _chunks(rows):
                with rows.numbered(start):
                    features = task.encode(chunk, tokenizer)
                writer.add(features, _origins(rows, start, len(chunk), len(features)), chunk, task, limits)
                bar.advance(len(chunk))
        finally:
            writer.close()
        if not sum(writer.batches):
            raise DataError(f"{task.name} made no features of the {len(rows)} rows; expected at least one")
        about = {"fingerprint": fingerprint, "rows": len(rows), "batches": writer.batches, "task": task.name}
        (stage / ABOUT).write_text(json.dumps(about), encoding="utf-8")
    return EncodedRows(folder)


def encoding_fingerprint(rows: RowSource, task: Task, tokenizer: Any) -> str:
    """SHA-256 of what features depend on: the rows, the task with all that it learned, the tokenizer."""
    parts = {
        "format": FORMAT,
        "rows": rows.identity(),
        "task": [task.name, task.model_dump(mode="json")],
        "tokenizer": tokenizer_fingerprint(tokenizer),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer or image processor: its vocabulary and rules, and how it was set up."""
    digest = hashlib.sha256(type(tokenizer).__name__.encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = json.loads(backend.to_str())
        # a call leaves its own cut and padding behind in the tokenizer; a task says both in each call
        digest.update(json.dumps({**rules, "truncation": None, "padding": None}, sort_keys=True).encode())
    elif hasattr(tokenizer, "get_vocab"):
        digest.update(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
    for part in ("chat_template", "padding_side", "truncation_side", "special_tokens_map"):
        digest.update(repr(getattr(tokenizer, part, None)).encode())
    if hasattr(tokenizer, "to_json_string"):  # image processors
        digest.update(tokenizer.to_json_string().encode())
    return digest.hexdigest()


class _Writer:
    """An Arrow file whose columns widen when a chunk needs it: then what was written is written again, wider."""

    def __init__(self, path: Path) -> None:
        self.path, self.batches = path, list[int]()
        self._kinds: dict[str, Kind] = {}
        self._schema: pa.Schema | None = None
        self._file: Any = None

    def add(
        self,
        features: Sequence[dict[str, Any]],
        origins: Sequence[tuple[int, int]],
        rows: Sequence[Row],
        task: Task,
        limits: ModelLimits | None,
    ) -> None:
        if not features:
            return
        names = [f"row {first}" if first == last else f"rows {first} to {last}" for first, last in origins]
        _check_keys(features, names, known=list(self._kinds))
        if limits is not None:
            limits.check(features, names, task)
        columns = {key: [feature[key] for feature in features] for key in self._kinds or features[0]}
        kinds = {key: kind_of(values, key) for key, values in columns.items()}
        wider = {key: self._kinds[key].widened(kind, key) if self._kinds else kind for key, kind in kinds.items()}
        given = _ids(rows) if len(rows) == len(features) else [None] * len(features)
        has_ids = ID in self._schema.names if self._schema is not None else any(given)
        if self._schema is None or wider != self._kinds:
            self._widen(wider, has_ids)
        arrays = [to_arrow(columns[key], kind, key) for key, kind in self._kinds.items()]
        arrays += [pa.array(numbers) for numbers in np.asarray(origins, np.int64).T]
        arrays.append(pa.array(np.fromiter((task.length(f) for f in features), np.int32, len(features))))
        if has_ids:
            arrays.append(pa.array(given, pa.string()))
        self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
        self.batches.append(len(features))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _widen(self, kinds: dict[str, Kind], has_ids: bool) -> None:
        before, self._kinds = self._kinds, dict(kinds)
        fields = [described(key, kind, arrow_type(kind)) for key, kind in kinds.items()]
        fields += [pa.field(FIRST, pa.int64()), pa.field(LAST, pa.int64()), pa.field(LENGTH, pa.int32())]
        self._schema = pa.schema([*fields, *([pa.field(ID, pa.string())] if has_ids else [])])
        self.close()
        old = self.path.with_suffix(".narrow")
        if self.batches:
            self.path.rename(old)
        self._file = pa.ipc.new_file(str(self.path), self._schema)
        if not self.batches:
            return
        with pa.memory_map(str(old)) as source:
            narrow = pa.ipc.open_file(source)
            for number in range(narrow.num_record_batches):
                batch = narrow.get_batch(number)
                arrays = []
                for place, field in enumerate(self._schema):
                    array = batch.column(place)
                    if field.name in before and before[field.name] != kinds[field.name]:
                        reader = ColumnReader(array, before[field.name])
                        array = to_arrow([reader[i] for i in range(len(array))], kinds[field.name], field.name)
                    arrays.append(array)
                self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
        old.unlink()


def _chunks(rows: RowSource) -> Iterator[tuple[int, list[Row]]]:
    start, iterator = 0, iter(rows)
    while True:
        first = list(islice(iterator, 1))
        if not first:
            return
        blobs = any(isinstance(value, bytes | bytearray) for value in first[0].values())
        chunk = first + list(islice(iterator, (BLOB_CHUNK if blobs else CHUNK) - 1))
        yield start, chunk
        start += len(chunk)


def _origins(rows: RowSource, start: int, count: int, features: int) -> list[tuple[int, int]]:
    """The user's numbers of the rows that each feature was made from: one row, or the chunk if the task packs."""
    if features == count:
        numbers = [rows.number(start + i) for i in range(count)]
        return [(number, number) for number in numbers]
    return [(rows.number(start), rows.number(start + count - 1))] * features


def _ids(rows: Sequence[Row]) -> list[str | None]:
    """The rows' own names, if they have a column ``id``."""
    return [str(row["id"]) if isinstance(row.get("id"), str | int) else None for row in rows]


def _check_keys(features: Sequence[dict[str, Any]], names: Sequence[str], known: list[str]) -> None:
    expected = set(known or features[0])
    for feature, name in zip(features, names, strict=True):
        if feature.keys() != expected:
            raise DataError(
                f"{name}: expected the features {', '.join(sorted(expected))} in every row, "
                f"received {', '.join(sorted(feature))}"
            )
        if "row" in feature:
            raise DataError("a task's features may not be called 'row': that is the index of the feature")
        for key, value in feature.items():
            if value is None:
                raise DataError(f"{name}: feature {key!r} has no value")


def check_scorable(rows: RowSource, task: Task, tokenizer: Any) -> None:
    """Go through rows that are scored later, so that a row without an input or an answer is found before training.

    Raises:
        DataError: which row lacks what.
    """
    with progress.bar("check validation rows", len(rows)) as bar:
        for start, chunk in _chunks(rows):
            with rows.numbered(start):
                task.encode(chunk, tokenizer)
            bar.advance(len(chunk))
