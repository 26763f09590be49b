"""Reads from an online store: features of given keys, as rows or as an Arrow table, equal to what ``history`` gives.

Everything that does not depend on the keys is prepared once: names, key and value codecs, transformations. A read
is then one round trip to the store for each view, and per key one unpacking of times and one msgpack decoding. No
table is opened: the store holds the columns' types, by epoch, next to the records.

Time. A row's time to live is applied at ``at``. The store keeps the newest row of a key only, so a read at an
``at`` before that row was visible cannot be answered, and says so. Without ``at`` the time is now, and rows are not
checked for lying in the future, which clocks that differ by some milliseconds would otherwise make them."""

from __future__ import annotations

import datetime as dt
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa

from deepseek.data.features.arrow_types import parse_type
from deepseek.data.features.materialization_progress import decode_progress
from deepseek.data.features.online.keys import KeyCodec
from deepseek.data.features.online.record import EPOCH_BYTES, HEADER_BYTES, times
from deepseek.data.features.online.store import OnlineStore, Space
from deepseek.data.features.online.values import Row, ValueCodec
from deepseek.data.features.selection import Selection
from deepseek.data.features.times import PER_SECOND
from deepseek.data.features.view import FeatureView
from deepseek.errors import DataError, OnlineStoreError

Keys: TypeAlias = "Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]"

_decode = msgspec.msgpack.Decoder(list).decode
_EVENT = struct.Struct(">Q")
_SHIFT = 1 << 63
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def stored_schema(store: OnlineStore, view: FeatureView) -> pa.Schema:
    """The key, time and feature columns of a view as they were materialised last.

    Raises:
        OnlineStoreError: the view was never materialised into this store.
    """
    state = store.state(Space(view.name, view.version))
    if state is None:
        known = ", ".join(map(str, store.spaces())) or "none"
        raise OnlineStoreError(
            f"the view {view.label} is not in the online store {store.address} (there: {known}); materialise it first"
        )
    progress = decode_progress(state.progress)
    return progress.schema(progress.epoch)


class _Layout:
    """How records of one epoch are read: which of their values are wanted, and what their times count."""

    def __init__(self, view: FeatureView, schema: pa.Schema, wanted: Sequence[str]) -> None:
        stored = view.stored_for(view.feature_names(schema))
        self.codec = ValueCodec(pa.schema([schema.field(name) for name in stored]))
        self.picks = [stored.index(name) for name in wanted]
        self.plain = self.picks == list(range(len(stored)))
        self.event = PER_SECOND[schema.field(view.event_time).type.unit]
        self.created = PER_SECOND[schema.field(view.created_time).type.unit] if view.created_time else 1


class _Part:
    """Reads the features of one view."""

    def __init__(self, store: OnlineStore, selection: Selection) -> None:
        self.store, self.view = store, selection.view
        self.space = Space(self.view.name, self.view.version)
        self.selection = selection
        schema = selection.table.schema
        self.keys = KeyCodec(self.view.entities, [schema.field(name).type for name in self.view.entities])
        self.stored = self.view.stored_for(selection.features)
        self.steps = self.view.transformations_for(selection.features)
        self.schema = pa.schema([schema.field(name) for name in self.stored])
        self.ttl = None if self.view.ttl is None else self.view.ttl // dt.timedelta(microseconds=1)
        self.nothing = dict.fromkeys(selection.names)
        self.layouts: dict[bytes, _Layout] = {}

    def layout(self, record: bytes) -> _Layout:
        """The layout of a record, from the store when its epoch is new to this reader."""
        epoch = record[:EPOCH_BYTES]
        found = self.layouts.get(epoch)
        if found is None:
            state = self.store.state(self.space)
            number = int.from_bytes(epoch[1:], "big")
            try:
                assert state is not None
                schema = decode_progress(state.progress).schema(number)
            except (KeyError, AssertionError):
                raise OnlineStoreError(
                    f"{self.space} in {self.store.address} has records of an epoch that its state does not know; "
                    f"clear the view there and materialise it again"
                ) from None
            found = self.layouts[epoch] = _Layout(self.view, schema, self.stored)
        return found

    def records(self, keys: Sequence[bytes | None], at: int, checked: bool) -> list[bytes | None]:
        """The record of each key that is valid at ``at`` (microseconds since 1970)."""
        if None in keys:
            known = iter(self.store.read(self.space, [key for key in keys if key is not None]))
            records = [None if key is None else next(known) for key in keys]
        else:
            records = self.store.read(self.space, keys)  # type: ignore[arg-type]
        if checked:
            for record in records:
                if record is not None:
                    self._check_visible(record, at)
        if self.ttl is None:
            return records
        limits: dict[int, int] = {}
        for index, record in enumerate(records):
            if record is not None:
                unit = self.layout(record).event
                limit = limits.get(unit)
                if limit is None:  # event < at - ttl, in whole units of the event's: rounded up, which changes nothing
                    limit = limits[unit] = -((self.ttl - at) * unit // 1_000_000) + _SHIFT
                if _EVENT.unpack_from(record, EPOCH_BYTES)[0] < limit:
                    records[index] = None
        return records

    def rows(self, records: Sequence[bytes | None]) -> list[Row | None]:
        """The wanted stored values of each record, as stored values."""
        rows: list[Row | None] = []
        for record in records:
            if record is None:
                rows.append(None)
                continue
            layout = self.layout(record)
            values = _decode(record[HEADER_BYTES:])
            rows.append(values if layout.plain else [values[index] for index in layout.picks])
        return rows

    def fill(self, results: list[dict[str, Any]], records: Sequence[bytes | None]) -> None:
        """Add the features of each record to the result of its key, as Python values."""
        names = self.selection.names
        get = self.layouts.get
        for result, record in zip(results, records, strict=True):
            if record is None:
                result.update(self.nothing)
                continue
            layout = get(record[:EPOCH_BYTES]) or self.layout(record)
            values = layout.codec.python(_decode(record[HEADER_BYTES:]))
            result.update(
                zip(names, values if layout.plain else [values[index] for index in layout.picks], strict=True)
            )

    def arrow(self, records: Sequence[bytes | None], given: Callable[[str], pa.Array]) -> list[pa.Array]:
        """The selected features of each record as arrays; transformations get ``given`` request columns."""
        columns = self._stored(records)
        for step in self.steps:
            inputs = {name: columns[name] for name in step.inputs} | {name: given(name) for name in step.request}
            columns.update(step.apply(inputs))
        return [columns[name] for name in self.selection.features]

    def _stored(self, records: Sequence[bytes | None]) -> dict[str, pa.Array]:
        epochs = {record[:EPOCH_BYTES]: record for record in records if record is not None}
        if len(epochs) <= 1:  # all alike, unless the view is being written anew at this moment
            codec = ValueCodec(self.schema)
            for record in epochs.values():
                if not self._alike(record):
                    codec = ValueCodec(pa.schema([self.layout(record).codec.schema.field(n) for n in self.stored]))
            table = codec.arrow(self.rows(records)) if self.stored else None
        else:
            single = [self._stored([record]) for record in records]
            arrays = {name: [row[name] for row in single] for name in self.stored}
            return {
                name: pa.concat_arrays(
                    [
                        a if a.type == self.schema.field(name).type else a.cast(self.schema.field(name).type)
                        for a in each
                    ]
                )
                for name, each in arrays.items()
            }
        columns = {name: table.column(name).combine_chunks() for name in self.stored} if table is not None else {}
        return {
            name: column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for name, column in columns.items()
        }

    def _alike(self, record: bytes) -> bool:
        schema = self.layout(record).codec.schema
        return all(schema.field(name).type == self.schema.field(name).type for name in self.stored)

    def _check_visible(self, record: bytes, at: int) -> None:
        layout = self.layout(record)
        event, created = times(record)
        late = event > at * layout.event // 1_000_000
        if late or (self.view.created_time and created > at * layout.created // 1_000_000):
            count, unit = (event, layout.event) if late else (created, layout.created)
            raise DataError(
                f"at={_EPOCH + dt.timedelta(microseconds=at)}: the row of {self.space} that is online became visible "
                f"at {_EPOCH + dt.timedelta(microseconds=count * 1_000_000 // unit)}. The online store keeps the "
                f"newest row of a key only; use history for earlier times, or materialise with until= that time."
            )


class OnlineReader:
    """Prepared reads of some features; see :meth:`FeatureStore.online`. Threads may share one."""

    def __init__(self, store: OnlineStore, selections: Sequence[Selection]) -> None:
        self.store = store
        self._parts = [_Part(store, selection) for selection in selections]
        self._names = frozenset(name for each in selections for name in each.names)
        self._request = {
            name: kind for each in selections for name, kind in each.view.request_columns(each.features).items()
        }

    def rows(self, keys: Keys, at: dt.datetime | None = None) -> list[dict[str, Any]]:
        """The keys, each with its features, as dicts in the order of the keys.

        Raises:
            DataError: a key lacks a column or has a value of the wrong type, or ``at`` is before a row was visible.
            OnlineStoreError: the store cannot be read.
        """
        given = _listed(keys)
        results = [dict(key) for key in given]
        moment, checked = _moment(at)
        for key in given:
            if not self._names.isdisjoint(key):
                self._clash(key)
        for part in self._parts:
            from_row = part.keys.from_row
            records = part.records([from_row(key) for key in given], moment, checked)
            if not part.steps:
                part.fill(results, records)
            elif results:
                columns = [array.to_pylist() for array in part.arrow(records, lambda name: self._given(given, name))]
                names = part.selection.names
                for result, values in zip(results, zip(*columns, strict=True), strict=True):
                    result.update(zip(names, values, strict=True))
        return results

    def table(self, keys: Keys | pa.Table, at: dt.datetime | None = None) -> pa.Table:
        """As :meth:`rows`, as an Arrow table: the columns of ``keys``, then the features, typed as in ``history``."""
        given = keys.to_pylist() if isinstance(keys, pa.Table) else _listed(keys)
        asked = keys if isinstance(keys, pa.Table) else self._keys_table(given)
        moment, checked = _moment(at)
        for name in asked.column_names:
            if name in self._names:
                self._clash({name: None})
        columns = list(asked.columns)
        names = list(asked.column_names)
        for part in self._parts:
            records = part.records([part.keys.from_row(key) for key in given], moment, checked)
            columns += part.arrow(records, lambda name: self._given(given, name))
            names += part.selection.names
        return pa.Table.from_arrays(columns, names=names)

    def _keys_table(self, given: Sequence[Mapping[str, Any]]) -> pa.Table:
        kinds = {
            name: kind for part in self._parts for name, kind in zip(part.keys.names, part.keys.kinds, strict=True)
        }
        names = list(dict.fromkeys(name for key in given for name in key)) if given else list(kinds)
        try:
            return pa.table({name: pa.array([key.get(name) for key in given], kinds.get(name)) for name in names})
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise DataError(
                f"keys: values of one column have different types, or do not fit the key's: {error}"
            ) from error

    def _given(self, given: Sequence[Mapping[str, Any]], name: str) -> pa.Array:
        kind = parse_type(self._request[name])
        try:
            return pa.array([key[name] for key in given], kind)
        except KeyError:
            raise DataError(f"the keys lack the column {name!r} ({kind}), which a transformation needs") from None
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise DataError(f"column {name!r} of the keys: expected {kind}: {error}") from error

    def _clash(self, key: Mapping[str, Any]) -> None:
        name = next(name for name in key if name in self._names)
        raise DataError(f"the keys have a column {name!r}, which is a feature; ask with full_feature_names=True")


def _listed(keys: Keys) -> Sequence[Mapping[str, Any]]:
    if isinstance(keys, Mapping):
        lengths = {len(values) for values in keys.values()}
        if len(lengths) > 1:
            raise DataError(f"keys: expected columns of one length, received lengths {sorted(lengths)}")
        return [dict(zip(keys, values, strict=True)) for values in zip(*keys.values(), strict=True)]
    if isinstance(keys, list | tuple):
        return keys
    raise DataError(f"keys: expected a list of dicts or a dict of lists, received {type(keys).__name__}")


def _moment(at: dt.datetime | None) -> tuple[int, bool]:
    if at is None:
        return time.time_ns() // 1000, False
    aware = at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at
    return (aware - _EPOCH) // dt.timedelta(microseconds=1), True
