"""The latest visible row of every key within one piece of a table, as records for an online store.

A piece is a run of rows of one fragment, so that memory is bounded by the piece; the store merges the pieces. A row is
visible at ``until`` as in :mod:`deepseek.data.features.point_in_time`: both its times are known and have passed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.features.online.keys import KeyCodec
from deepseek.data.features.online.record import NO_CREATED_TIME, header
from deepseek.data.features.online.store import KeyRecord
from deepseek.data.features.online.values import NO_FEATURES, ValueCodec
from deepseek.data.features.times import EARLIEST, LATEST, PER_SECOND, Integers, Mask, counts
from deepseek.data.features.view import FeatureView

PIECE_ROWS = 1 << 16
PIECE_BYTES = 32 << 20
_VARIABLE_BYTES = 64  # a guess for a text or list whose files do not say more
_DENSE = 0.1  # from this share of the rows on, reading all of them is faster than picking


@dataclass(frozen=True, kw_only=True)
class Source:
    """What to read: columns of a version of a table. With a ``signature`` of its rows, a process opens it once."""

    path: str
    version: int
    entities: tuple[str, ...]
    event_time: str
    created_time: str | None
    features: tuple[str, ...]
    signature: str = ""

    @property
    def times(self) -> tuple[str, ...]:
        """The time columns."""
        return (self.event_time, self.created_time) if self.created_time else (self.event_time,)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        return tuple(dict.fromkeys((*self.entities, *self.times, *self.features)))

    def open(self) -> Any:
        """The Lance data set at the version."""
        if self.signature:
            return _open(self.path, self.version, self.signature)
        return lance.dataset(self.path, version=self.version)


@functools.lru_cache(maxsize=2)
def _open(path: str, version: int, signature: str) -> Any:
    del signature  # tells tables apart that lay at one path one after the other
    return lance.dataset(path, version=version)


def source_of(view: FeatureView, schema: pa.Schema, path: str, version: int) -> Source:
    """The columns that a view's records are made of; transformations read theirs from among them."""
    return Source(
        path=path,
        version=version,
        entities=view.entities,
        event_time=view.event_time,
        created_time=view.created_time,
        features=view.stored_for(view.feature_names(schema)),
    )


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Rows ``start`` to ``start + rows`` of a fragment, which is the ``order``-th of its table.

    Only rows that became visible after ``since`` and until ``until`` count, both in microseconds since 1970.
    """

    source: Source
    fragment: int
    order: int
    start: int
    rows: int
    since: int | None
    until: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a piece gave: records by key, the rows read, and whether some of them become visible only later."""

    fragment: int
    rows: int
    pending: bool
    records: list[KeyRecord] = field(repr=False)


def pieces(
    source: Source,
    wanted: Sequence[tuple[int, int | None]],
    until: int,
    epoch: int,
    before: tuple[int, int] | None = None,
) -> list[Piece]:
    """Cut fragments, given with their ``since``, into pieces, from the table's end to its start.

    The newest rows mostly win, and a row that loses costs the store a look and no write, so the end comes first.

    Args:
        before: only rows that stand before this place, the order of a fragment and a row in it.
    """
    dataset = source.open()
    orders = {fragment.fragment_id: order for order, fragment in enumerate(dataset.get_fragments())}
    found = []
    for number, since in wanted:
        fragment = dataset.get_fragment(number)
        total, step = fragment.count_rows(), _step(fragment, source)
        if before is not None and orders[number] >= before[0]:
            total = min(total, before[1]) if orders[number] == before[0] else 0
        for start in range(0, total, step):
            rows = min(step, total - start)
            found.append(
                Piece(
                    source=source, fragment=number, order=orders[number], start=start, rows=rows, since=since,
                    until=until, epoch=epoch,
                )
            )  # fmt: skip
    return sorted(found, key=lambda piece: (piece.order, piece.start), reverse=True)


def _step(fragment: Any, source: Source) -> int:
    wide = sum(_width(fragment.schema.field(name).type) for name in source.columns)
    stored = sum(file.file_size_bytes or 0 for file in fragment.metadata.files) / max(1, fragment.physical_rows)
    for name in _blobs(fragment, source.features):  # whose bytes may lie in files of their own
        sizes = pc.struct_field(fragment.to_table(columns=[name], limit=1024).column(0), "size")
        wide += pc.mean(sizes).as_py() or 0
    return int(max(1, min(PIECE_ROWS, PIECE_BYTES // max(wide, 2 * stored, 1))))


def _width(kind: pa.DataType) -> float:
    if pa.types.is_fixed_size_list(kind):
        return float(kind.list_size * _width(kind.value_type))
    try:
        return kind.bit_width / 8  # type: ignore[no-any-return]
    except (ValueError, AttributeError):
        return _VARIABLE_BYTES


def _blobs(fragment: Any, names: Sequence[str]) -> list[str]:
    """The columns that Lance keeps as blobs, of which a plain scan gives descriptors instead of bytes."""

    def is_blob(field: pa.Field) -> bool:
        return "blob" in str(field.type) or any(b"blob" in key for key in field.metadata or {})

    return [name for name in names if is_blob(fragment.schema.field(name))]


def find_latest(piece: Piece, only: frozenset[bytes] | None = None) -> Found:
    """The latest visible row of each key in the piece, or of those in ``only``."""
    source = piece.source
    fragment = source.open().get_fragment(piece.fragment)
    names = [*source.entities, *source.times]
    table = fragment.to_table(columns=names, offset=piece.start, limit=piece.rows).combine_chunks()
    keys = [_flat(table.column(name)) for name in source.entities]
    times = [_flat(table.column(name)) for name in source.times]
    visible, pending = _visible(keys, times, piece)
    rows = _newest(keys, times, np.flatnonzero(visible))
    codec = KeyCodec(source.entities, [key.type for key in keys])
    taken = pa.array(rows)
    names_of = codec.from_arrow([key.take(taken) for key in keys])
    if only is not None:
        kept = [index for index, name in enumerate(names_of) if name in only]
        names_of, rows = [names_of[index] for index in kept], rows[kept]
    records = _records(piece, fragment, names_of, rows, [counts(time)[0] for time in times]) if len(rows) else []
    return Found(fragment=piece.fragment, rows=piece.rows, pending=pending, records=records)


def _visible(keys: list[pa.Array], times: list[pa.Array], piece: Piece) -> tuple[Mask, bool]:
    usable = np.ones(piece.rows, np.bool_)
    for column in (*keys, *times):
        if column.null_count:
            usable &= pc.is_valid(column).to_numpy(zero_copy_only=False)
    seen = usable & _passed(times, piece.until)
    pending = bool((usable & ~seen).any())
    if piece.since is not None:
        seen &= ~_passed(times, piece.since)
    return seen, pending


def _passed(times: list[pa.Array], moment: int) -> Mask:
    """Rows all of whose times are at or before a moment in microseconds."""
    passed = np.ones(len(times[0]), np.bool_)
    for column in times:
        limit = moment * PER_SECOND[column.type.unit] // 10**6  # Python's integers: no overflow
        passed &= (counts(column)[0] <= min(limit, LATEST)) & (limit >= EARLIEST)
    return passed


def _newest(keys: list[pa.Array], times: list[pa.Array], rows: Integers) -> Integers:
    """Of each key among ``rows`` the one with the greatest times, and the last of equal ones."""
    codes = np.zeros(len(rows), np.int64)
    taken = pa.array(rows)
    for key in keys:
        column = key.take(taken)
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        pairs = codes * max(1, len(encoded.dictionary)) + encoded.indices.to_numpy().astype(np.int64)
        codes = np.unique(pairs, return_inverse=True)[1] if len(keys) > 1 else pairs
    order = np.lexsort((rows, *(counts(time)[0][rows] for time in reversed(times)), codes))
    last = np.append(codes[order][1:] != codes[order][:-1], True) if len(order) else np.zeros(0, np.bool_)
    return np.sort(rows[order[last]])


def _records(piece: Piece, fragment: Any, keys: list[bytes], rows: Integers, times: list[Integers]) -> list[KeyRecord]:
    """Records of the rows, whose offsets within the piece ascend."""
    source = piece.source
    names = list(source.features)
    blobs = _blobs(fragment, names)
    if blobs or (names and len(rows) >= _DENSE * piece.rows):
        handling = {"blob_handling": "all_binary"} if blobs else {}
        table = fragment.to_table(columns=names, offset=piece.start, limit=piece.rows, **handling).take(pa.array(rows))
    elif names:  # counts the rows that are there, as the piece does
        table = fragment.take((rows + piece.start).tolist(), columns=names)
    values = ValueCodec(table.schema).encode(table) if names else [NO_FEATURES] * len(rows)
    events = times[0][rows].tolist()
    createds = times[1][rows].tolist() if len(times) > 1 else [NO_CREATED_TIME] * len(rows)
    base = (piece.order << 32) + piece.start
    epoch, version = piece.epoch, source.version
    heads = (
        header(epoch, event, created, version, base + row)
        for event, created, row in zip(events, createds, rows.tolist(), strict=True)
    )
    return [(key, head + value) for key, head, value in zip(keys, heads, values, strict=True)]


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def removed_keys(
    old: Source, new: Source, fragments: Mapping[int, bool]
) -> Iterator[tuple[list[bytes], list[tuple[int, int]]]]:
    """Keys, with event and created times, of the rows of ``old``'s ``fragments`` that ``new`` lacks, batch by batch.

    Where a fragment's value is true, all of its rows count.
    """
    before, after = old.open(), new.open()
    names = [*old.entities, *old.times]
    for number, whole in fragments.items():
        kept = np.zeros(0, np.uint64)
        if not whole:
            fragment = after.get_fragment(number)
            kept = fragment.to_table(columns=[old.event_time], with_row_address=True).column("_rowaddr").to_numpy()
        scanner = before.get_fragment(number).scanner(columns=names, with_row_address=True, batch_size=8192)
        for batch in scanner.to_batches():
            gone = ~np.isin(batch.column("_rowaddr").to_numpy(), kept)
            for name in names:
                if batch.column(name).null_count:
                    gone &= pc.is_valid(batch.column(name)).to_numpy(zero_copy_only=False)
            rows = np.flatnonzero(gone)
            columns = [batch.column(name).take(pa.array(rows)) for name in old.entities]
            codec = KeyCodec(old.entities, [column.type for column in columns])
            stamps = [counts(batch.column(name))[0][rows].tolist() for name in old.times]
            yield (
                codec.from_arrow(columns),
                list(zip(*stamps, strict=True))
                if len(stamps) > 1
                else [(event, NO_CREATED_TIME) for event in stamps[0]],
            )
