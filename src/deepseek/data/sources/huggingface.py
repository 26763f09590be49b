"""Hugging Face data sets from local files, and ``datasets.Dataset`` and ``DatasetDict`` objects.

A folder written by ``save_to_disk`` and an ``.arrow`` file of the library's cache are Arrow streams with a description
of their features; they are read without the ``datasets`` library, and no code of a data set is ever run. ``ClassLabel``
columns become the names of the classes, ``Image`` and ``Audio`` columns their encoded bytes; the splits of a
``DatasetDict`` follow one another, told apart by the column ``split``. A file that an ``Image`` or ``Audio`` value
points to and that is missing makes the row a reject.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.sources.arrow import opened, sliced
from deepseek.data.sources.base import (
    BATCH_ROWS,
    EXCERPT_CHARS,
    Chunk,
    OnReject,
    Position,
    Reject,
    Source,
    file_identity,
    refuse,
)
from deepseek.data.sources.files import InParts
from deepseek.data.sources.lines import check_file
from deepseek.errors import DataError

SPLIT = "split"


class HuggingFace(InParts):
    """A ``save_to_disk`` folder, a cached ``.arrow`` file, or a ``Dataset`` or ``DatasetDict`` object.

    Args:
        split: only this split of a ``DatasetDict``; there is no column ``split`` then.
    """

    def __init__(self, data: Any, *, split: str | None = None) -> None:
        self._split = split
        self._parts: list[Source] | None = None
        self._data = data
        if isinstance(data, str | Path):
            self.name = str(data)
            self.metadata = {"source": Path(data).name}
        else:
            self.name = f"Hugging Face {type(data).__name__}"
            self.metadata = {"source": self.name}

    def schema(self) -> pa.Schema:
        """The columns with labels as text and media as bytes, and ``split`` where there are several."""
        schemas = [part.schema() for part in self.parts()]
        for part, schema in zip(self.parts(), schemas, strict=True):
            if not schema.equals(schemas[0]):
                raise DataError(f"{part.name} has other columns than {self.parts()[0].name}; give split= to read one")
        return schemas[0]

    def identity(self) -> Mapping[str, Any] | None:
        """The files, or the fingerprints that the library keeps of its objects."""
        identities = [part.identity() for part in self.parts()]
        return {"kind": "huggingface", "parts": identities} if all(identities) else None

    @property
    def travels(self) -> bool:
        """Files do; an object's fingerprint identifies it, but its data is in this process."""
        return isinstance(self._data, str | Path)

    def parts(self) -> Sequence[Source]:
        """The data files of all splits."""
        if self._parts is None:
            if isinstance(self._data, str | Path):
                self._parts = self._of_files(Path(self._data).expanduser())
            else:
                self._parts = self._of_object(self._data)
        return self._parts

    def _of_files(self, path: Path) -> list[Source]:
        if path.is_file():
            return [_Shard(path, None, None)]
        if (path / "dataset_dict.json").is_file():
            splits = self._chosen(_json(path / "dataset_dict.json").get("splits", []))
            named = [(path / name, name if self._split is None else None) for name in splits]
        else:
            named = [(path, None)]
        return [_Shard(file, features, name) for folder, name in named for file, features in _shards(folder)]

    def _of_object(self, data: Any) -> list[Source]:
        kind = type(data).__name__
        if kind == "DatasetDict":
            chosen = self._chosen(list(data))
            return [_Object(data[name], name if self._split is None else None) for name in chosen]
        if kind == "Dataset":
            return [_Object(data, None)]
        raise DataError(f"expected a Dataset, a DatasetDict or the folder of one, received {kind}")

    def _chosen(self, splits: Sequence[str]) -> list[str]:
        if self._split is None:
            return list(splits)
        if self._split not in splits:
            raise DataError(f"{self.name} has no split {self._split!r}; its splits: {', '.join(splits)}")
        return [self._split]


class _Typed(Source):
    """Arrow batches with features: maps labels to names and media to bytes."""

    features: Mapping[str, Any]
    split: str | None

    def _schema_of(self, raw: pa.Schema) -> pa.Schema:
        if self.split is not None and SPLIT in raw.names:
            raise DataError(f"{self.name} has a column 'split' of its own; give split= to read one split at a time")
        fields = [pa.field(f.name, _kind(f.type, self.features.get(f.name))) for f in raw]
        return pa.schema(fields + ([pa.field(SPLIT, pa.string())] if self.split is not None else []))

    def _mapped(self, chunk: Chunk, schema: pa.Schema, base: Path | None, on_reject: OnReject) -> Chunk:
        rows = chunk.batch.num_rows
        keep = np.ones(rows, bool)
        reasons: dict[int, tuple[str, str]] = {}
        columns = []
        for field in chunk.batch.schema:
            column = chunk.batch.column(field.name)
            feature = self.features.get(field.name)
            columns.append(_value(column, feature, base, field.name, reasons))
        first = chunk.position["row"] - rows
        for number, (reason, raw) in sorted(reasons.items()):
            keep[number] = False
            on_reject(Reject(reason=reason, source=self.name, line=first + number + 1, raw=raw[:EXCERPT_CHARS]))
        if self.split is not None:
            columns.append(pa.array([self.split] * rows, pa.string()))
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        return Chunk(batch=batch if keep.all() else batch.filter(pa.array(keep)), position=chunk.position)

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        for chunk in self.chunks(None, on_reject):
            if chunk.batch.num_rows:
                yield chunk.batch


class _Shard(_Typed):
    """One Arrow file of a data set."""

    def __init__(self, path: Path, features: Mapping[str, Any] | None, split: str | None) -> None:
        self.path, self.split = path, split
        self.name = str(path)
        self.metadata = {"source": path.name}
        self.features = features if features is not None else _features(path)

    def schema(self) -> pa.Schema:
        with opened(self.path) as (raw, _):
            return self._schema_of(raw)

    def identity(self) -> dict[str, Any]:
        return {**file_identity(self.path), "split": self.split}

    def chunks(self, start: Position | None = None, on_reject: OnReject = refuse) -> Iterator[Chunk]:
        schema = self.schema()
        with opened(self.path) as (_, batches):
            for chunk in sliced(batches, start):
                yield self._mapped(chunk, schema, self.path.parent, on_reject)


class _Object(_Typed):
    """A ``datasets.Dataset`` in this process."""

    def __init__(self, data: Any, split: str | None) -> None:
        self._data, self.split = data.with_format("arrow"), split
        self.name = f"Hugging Face Dataset{f' {split}' if split else ''}"
        self.metadata = {"source": self.name}
        self.features = data.features.to_dict()

    def schema(self) -> pa.Schema:
        return self._schema_of(self._data.features.arrow_schema)

    def identity(self) -> dict[str, Any]:
        return {"fingerprint": self._data._fingerprint, "split": self.split}

    def chunks(self, start: Position | None = None, on_reject: OnReject = refuse) -> Iterator[Chunk]:
        schema = self.schema()
        for first in range(start["row"] if start else 0, len(self._data), BATCH_ROWS):
            table = self._data[first : first + BATCH_ROWS].combine_chunks()
            batch = table.to_batches(max_chunksize=table.num_rows)[0].replace_schema_metadata(None)
            yield self._mapped(Chunk(batch=batch, position={"row": first + batch.num_rows}), schema, None, on_reject)


def _shards(folder: Path) -> list[tuple[Path, Mapping[str, Any]]]:
    if not (folder / "state.json").is_file():
        raise DataError(f"{folder} is not a data set saved by save_to_disk (expected state.json in it)")
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise DataError(f"{folder} has a row selection beside its data; call flatten_indices() and save it again")
    files = [folder / entry["filename"] for entry in state.get("_data_files", [])]
    if not files:
        raise DataError(f"{folder} has no data files")
    features = _json(folder / "dataset_info.json").get("features") or {}
    return [(file, features) for file in files]


def _features(path: Path) -> Mapping[str, Any]:
    """The features that an Arrow file's schema describes; none for a plain Arrow file."""
    with opened(path) as (schema, _):
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    found = described.get("info", {}).get("features")
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    check_file(path)
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, received {type(value).__name__}")
    return value


def _feature_type(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, Mapping) else ""


def _kind(kind: pa.DataType, feature: Any) -> pa.DataType:
    """The column's type in the table."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if _feature_type(feature) == "ClassLabel":
        return pa.string()
    if _feature_type(feature) in {"Image", "Audio", "Video"} and pa.types.is_struct(kind):
        return pa.large_binary()
    return kind


def _value(
    column: pa.Array, feature: Any, base: Path | None, name: str, reasons: dict[int, tuple[str, str]]
) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if _feature_type(feature) == "ClassLabel":
        return _label_names(column, list(feature.get("names") or ()), name, reasons)
    if _feature_type(feature) in {"Image", "Audio", "Video"} and pa.types.is_struct(column.type):
        return _media(column, base, name, reasons)
    return column


def _label_names(column: pa.Array, names: list[str], name: str, reasons: dict[int, tuple[str, str]]) -> pa.Array:
    values = []
    for number, value in enumerate(column.to_pylist()):
        if value is not None and value != -1 and not 0 <= value < len(names):
            reasons.setdefault(number, (f"column {name!r}: there is no class of number {value}", str(value)))
            value = None
        values.append(None if value is None or value == -1 else names[value])  # -1 is the library's "no label"
    return pa.array(values, pa.string())


def _media(column: pa.Array, base: Path | None, name: str, reasons: dict[int, tuple[str, str]]) -> pa.Array:
    values: list[bytes | None] = []
    for number, value in enumerate(column.to_pylist()):
        data = value and value.get("bytes")
        if value and data is None and value.get("path"):
            path = Path(value["path"]) if base is None else base / value["path"]
            try:
                data = path.read_bytes()
            except OSError as error:
                reason = f"column {name!r}: the file it points to cannot be read ({error.strerror})"
                reasons.setdefault(number, (reason, value["path"]))
        values.append(data)
    return pa.array(values, pa.large_binary())
