"""Columns computed by a Python function: fragment by fragment, in parallel, resumable, visible in one commit.

Each fragment gets one more data file with the new columns; the others are not rewritten. A finished fragment is noted
in a :class:`~deepseek.data.table.journal.Journal` under a name made of the fragment's state, the table's columns, the
new columns, and the function's code. A process that is killed and run again finds the notes and computes only what is
missing. When all fragments are there one commit makes the columns visible.
"""

from __future__ import annotations

import base64
import hashlib
import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import lance
import pyarrow as pa
from lance.file import LanceFileSession
from lance.schema import LanceSchema

from deepseek import progress
from deepseek.data.engines import Engine
from deepseek.data.table import batching, storage
from deepseek.data.table.blobs import logical_schema, stored_schema
from deepseek.data.table.journal import Journal
from deepseek.data.table.lance_errors import LANCE_ERRORS, cause, is_conflict, write_error
from deepseek.data.table.lance_io import open_dataset
from deepseek.data.table.reading import scan_batches
from deepseek.data.table.rows import RowStream, conform
from deepseek.data.table.staging import staged
from deepseek.data.table.transaction import as_stored
from deepseek.errors import TableError

ComputeFunction = Callable[[pa.RecordBatch], "pa.RecordBatch | pa.Array | Mapping[str, Any]"]
_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class _Job:
    path: str
    version: int
    options: dict[str, str] | None
    function: ComputeFunction
    schema: pa.Schema
    read: tuple[str, ...]
    batch_size: int
    identity: str


def compute_columns(
    path: str,
    function: ComputeFunction,
    schema: pa.Schema,
    read: Sequence[str],
    *,
    engine: Engine,
    batch_size: int,
    resume_key: str | None,
) -> int:
    """Compute, stage and commit; returns the new version. Repeats what others changed meanwhile, a few times.

    Raises:
        TableError: the function returned something else than the columns in ``schema``.
        ConflictError: other writers kept changing the table.
    """
    options = storage.options_for(path)
    for attempt in range(_ATTEMPTS):
        dataset = open_dataset(path, options=options)
        identity = _identity(dataset, function, schema, read, resume_key)
        job = _Job(
            path=path,
            version=int(dataset.version),
            options=options,
            function=function,
            schema=schema,
            read=tuple(read),
            batch_size=batch_size,
            identity=identity,
        )
        fragments = dataset.get_fragments()
        notes: list[dict[str, Any]] = []
        rows = dataset.count_rows()
        with progress.bar(f"compute {', '.join(schema.names)}", rows) as bar:
            for fragment, note in zip(
                fragments,
                engine.map(partial(_compute_fragment, job), [fragment.fragment_id for fragment in fragments]),
                strict=True,
            ):
                notes.append(note)
                bar.advance(fragment.count_rows())
        try:
            version = _commit(dataset, schema, notes, options)
        except LANCE_ERRORS as error:
            if is_conflict(error) and attempt + 1 < _ATTEMPTS:
                continue
            raise write_error(error, path, "add_columns") from cause(error)
        Journal(path, identity, options).clear()
        return version
    raise AssertionError("unreachable")


def _commit(dataset: Any, schema: pa.Schema, notes: list[dict[str, Any]], options: dict[str, str] | None) -> int:
    if not notes:
        dataset.add_columns(stored_schema(schema))
        return int(dataset.version)
    fragments = [lance.FragmentMetadata.from_json(json.dumps(note["fragment"])) for note in notes]
    operation = lance.LanceOperation.Merge(fragments, _read_schema(notes[0]["schema"]))
    # no retries inside Lance: rows appended meanwhile have to be computed first
    done = lance.LanceDataset.commit(
        dataset, operation, read_version=dataset.version, storage_options=options, max_retries=0
    )
    return int(done.version)


def _compute_fragment(job: _Job, fragment_id: int) -> dict[str, Any]:
    """Compute one fragment, or find that it is computed; returns its note."""
    dataset = open_dataset(job.path, job.version, job.options)
    fragment = dataset.get_fragment(fragment_id)
    state = json.dumps(fragment.metadata.to_json(), sort_keys=True, default=str)
    part = f"{fragment_id}-{hashlib.sha256(state.encode()).hexdigest()[:24]}"
    journal = Journal(job.path, job.identity, job.options)
    note = journal.read(part)
    if note is not None and _staged_files_exist(job, note):
        return note
    wanted = pa.schema([logical_schema(dataset.schema).field(name) for name in job.read])
    rows = batching.batch_rows([fragment], dataset.schema, job.read, job.batch_size)
    # The results are gathered before Lance reads them: it would call a function from inside its own runtime, where
    # neither this code nor the user's may ask Lance for anything, blobs for instance.
    results = (
        _shaped(job.function(batch), batch.num_rows, job)
        for batch in scan_batches(dataset, wanted, rows, fragments=[fragment])
    )
    with staged(RowStream(job.schema, results, None)) as held:
        stream = RowStream(job.schema, held.reader(), None)
        as_stored(stream)
        try:
            metadata, widened = fragment.merge_columns(stream.reader(lambda _: None))
        except LANCE_ERRORS as error:
            raise write_error(error, job.path, "add_columns") from cause(error)
    made: dict[str, Any] = {"fragment": metadata.to_json(), "schema": _schema_note(widened)}
    journal.write(part, made)
    return made


def _shaped(result: pa.RecordBatch | pa.Array | Mapping[str, Any], rows: int, job: _Job) -> pa.RecordBatch:
    """What the function returned as a batch of the wanted schema."""
    schema = job.schema
    if isinstance(result, pa.Table):
        result = result.combine_chunks().to_batches()[0] if result.num_rows else schema.empty_table().to_batches()[0]
    if not isinstance(result, pa.RecordBatch):
        if not isinstance(result, Mapping):
            if len(schema) != 1:
                raise TableError(
                    f"add_columns: the function returned {type(result).__name__} for the {len(schema)} columns "
                    f"{', '.join(schema.names)}; expected a record batch or a dict of column to values"
                )
            result = {schema.names[0]: result}
        if missing := [name for name in schema.names if name not in result]:
            raise TableError(f"add_columns: the function returned no column {missing[0]!r}; it returned {list(result)}")
        try:
            arrays = [_array(result[field.name], field.type) for field in schema]
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise TableError(f"add_columns: what the function returned does not fit {schema}: {error}") from error
        lengths = {len(array) for array in arrays}
        if lengths != {rows}:
            raise TableError(f"add_columns: expected {rows} values for {rows} rows, received {sorted(lengths)}")
        return pa.RecordBatch.from_arrays(arrays, schema=schema)
    if result.schema.names != schema.names or result.num_rows != rows:
        raise TableError(
            f"add_columns: expected the columns {schema.names} with {rows} rows, received {result.schema.names} with "
            f"{result.num_rows}"
        )
    try:
        return conform(result, schema)
    except (pa.ArrowException, ValueError) as error:
        raise TableError(f"add_columns: what the function returned does not fit {schema}: {error}") from error


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values if values.type == kind else values.cast(kind)
    if pa.types.is_fixed_size_list(kind) and getattr(values, "ndim", 0) == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind.value_type), kind.list_size)
    return pa.array(values, kind)


def _staged_files_exist(job: _Job, note: dict[str, Any]) -> bool:
    """Whether nobody cleaned the staged data file away, since it belongs to no version yet."""
    files = LanceFileSession(job.path, storage_options=job.options)
    return all(files.contains(f"data/{entry['path']}") for entry in note["fragment"]["files"][-1:])


def _schema_note(schema: Any) -> list[str]:
    _, (metadata, *fields) = schema.__reduce__()
    return [metadata, *(base64.b64encode(field).decode() for field in fields)]


def _read_schema(note: list[str]) -> Any:
    metadata, *fields = note
    return LanceSchema._from_protos(metadata, *(base64.b64decode(field) for field in fields))


def _identity(
    dataset: Any, function: ComputeFunction, schema: pa.Schema, read: Sequence[str], resume_key: str | None
) -> str:
    """What the staged results depend on, beside the fragment's own state."""
    digest = hashlib.sha256()
    # the field numbers that Lance gives to the new columns follow the largest one in use
    digest.update(f"{dataset.max_field_id}|{schema.names}|{[str(f.type) for f in schema]}|{list(read)}|".encode())
    digest.update(resume_key.encode() if resume_key is not None else _code_of(function))
    return f"add-columns-{digest.hexdigest()[:24]}"


def _code_of(function: Any) -> bytes:
    """The function's name and code, so that changed code does not go on with the old code's results."""
    if isinstance(function, partial):
        return _code_of(function.func) + repr((function.args, sorted(function.keywords.items()))).encode()
    if isinstance(function, types.MethodType):
        return _code_of(function.__func__)
    if not isinstance(function, types.FunctionType):
        call = type(function).__call__
        inner = _code_of(call) if isinstance(call, types.FunctionType) else b""
        return f"{type(function).__module__}.{type(function).__qualname__}".encode() + inner
    return f"{function.__module__}.{function.__qualname__}".encode() + _bytecode(function.__code__)


def _bytecode(code: types.CodeType) -> bytes:
    parts = [code.co_code, repr(code.co_names).encode()]
    parts += [_bytecode(c) if isinstance(c, types.CodeType) else repr(c).encode() for c in code.co_consts]
    return b"|".join(parts)
