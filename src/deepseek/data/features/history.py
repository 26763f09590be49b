"""Training rows: the features of entities as they were known at given times.

Entity rows are worked on in chunks, each of which reads the views' tables once; rows do not influence one another, so
chunks change nothing but the memory needed: about 100 bytes for an entity row of the chunk and view, and the features.
Several views are joined one after another, each by its own keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa

from deepseek.data.engines import Engine
from deepseek.data.features.arrow_types import parse_type
from deepseek.data.features.entity_rows import EntityStream
from deepseek.data.features.gathering import Winners
from deepseek.data.features.point_in_time import find_rows
from deepseek.data.features.selection import Selection

METADATA_KEY = b"deepseek.features"
"""Schema metadata of a result: JSON that says which view versions and table versions it was made from."""

_BATCH_BYTES = 64 << 20
_BATCH_ROWS = 1 << 20


def history_batches(
    rows: EntityStream, selections: Sequence[Selection], *, time: str, engine: Engine, chunk_rows: int
) -> pa.RecordBatchReader:
    """The entity rows in their order, each with its features, batch by batch; errors in arguments are raised at once.

    Raises:
        UnknownNameError: the entity rows lack a column.
        ConfigError: the time column is not a timestamp.
        DataError: a key has another type than in the view's table, or a transformation failed.
    """
    needed = [name for each in selections for name in (*each.view.entities, *each.view.request_columns(each.features))]
    rows.require(needed, time)
    schema = _schema(rows.schema, selections, time)

    def batches() -> Iterator[pa.RecordBatch]:
        for chunk in rows.chunks(chunk_rows):
            yield from _join(chunk, selections, schema, time, engine)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _join(
    chunk: pa.Table, selections: Sequence[Selection], schema: pa.Schema, time: str, engine: Engine
) -> Iterator[pa.RecordBatch]:
    times = _whole(chunk[time])
    winners = []
    for each in selections:
        keys = [_whole(chunk[name]) for name in each.view.entities]
        positions = find_rows(each.view, each.table, keys, times, engine)
        winners.append(Winners(each.table, each.view.stored_for(each.features), positions, engine))
    width = sum(each.width for each in winners)
    step = max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(width, 1.0))))
    for start in range(0, chunk.num_rows, step):
        part = chunk.slice(start, step).combine_chunks()
        given = {name: _whole(part[name]) for name in part.column_names}
        columns = list(given.values())
        for each, found in zip(selections, winners, strict=True):
            columns += _features(each, found.read(start, start + part.num_rows), given)
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _features(selection: Selection, stored: dict[str, pa.Array], given: dict[str, pa.Array]) -> list[pa.Array]:
    """The selected features of a batch: those stored, and those computed from them and the entity rows."""
    features = dict(stored)
    for step in selection.view.transformations_for(selection.features):
        inputs = {name: stored[name] for name in step.inputs} | {name: given[name] for name in step.request}
        features.update(step.apply(inputs, check=True))
    return [features[name] for name in selection.features]


def _schema(entity: pa.Schema, selections: Sequence[Selection], time: str) -> pa.Schema:
    fields = list(entity)
    for each in selections:
        kinds = {field.name: field.type for field in each.table.schema}
        for step in each.view.transformations:
            kinds |= {name: parse_type(kind) for name, kind in step.outputs.items()}
        fields += [pa.field(name, kinds[feature]) for name, feature in zip(each.names, each.features, strict=True)]
    origin = [
        {
            "view": each.view.name,
            "version": each.view.version,
            "table": each.view.source,
            "table_version": each.table.version,
            "features": dict(zip(each.names, each.features, strict=True)),
        }
        for each in selections
    ]
    return pa.schema(fields, {METADATA_KEY: json.dumps({"time": time, "views": origin}).encode()})


def _whole(values: pa.ChunkedArray) -> pa.Array:
    """One array. (Beyond 2 GB a text column cannot be one: use smaller chunks, or large_string.)"""
    if values.num_chunks == 1:
        return values.chunk(0)
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
