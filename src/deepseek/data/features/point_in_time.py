"""Point-in-time search: for each entity row, the feature row that was visible and current at its time.

The rule. A feature row is visible to an entity row of the same key at time t iff ``event_time <= t`` and, where the
view has a created time, ``created_time <= t``. Of the visible rows the greatest ``(event_time, created_time,
position)`` wins; if it is older than the ttl, nothing does. Null keys and null times match nothing: a time that is not
known cannot be shown to have passed.

The method. Visibility grows with t, so the winner is a running maximum over the entity rows of a key in time order.
Each feature row becomes a candidate of one slot, the first entity row that sees it; a slot keeps the greatest; at the
end a running maximum along each key hands the candidates on. So the feature table is read once, in pieces whose results
merge by maximum: results are the same however it is cut and wherever the pieces run. Memory is bounded by the entity
rows (about 100 bytes each) and a batch of keys and times per worker. Time is linear in the feature rows, times the
logarithm of the entity rows of one key.

``deepseek.data.features.point_in_time_plain`` does the same, row by row, for tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from deepseek.data.engines import Engine
from deepseek.data.features.fragments import Piece, pieces
from deepseek.data.features.keys import KeyNumbers, as_key, key_type
from deepseek.data.features.times import EARLIEST, Integers, Mask, counts, expired, floor_to
from deepseek.data.features.view import FeatureView
from deepseek.data.table import Table

_BLOCK = 1 << 14  # feature rows worked on at once: their temporary arrays stay in the processor's cache


def find_rows(view: FeatureView, table: Table, keys: Sequence[pa.Array], times: pa.Array, engine: Engine) -> Integers:
    """For each entity row, the position in ``table`` of its feature row, or -1.

    Args:
        keys: the entity rows' key columns, in the order of ``view.entities``.
        times: their timestamps.
    """
    slots = _Slots(view, table.schema, keys, times)
    best = _Best(slots.count, view.created_time is not None)
    work = pieces(table) if slots.count else []
    shared = engine.broadcast(slots.search)
    for candidates in engine.map(_search, work, shared=shared, description=f"search {view.name}"):
        best.add(*candidates)
    return slots.rows(best, view, table.schema)


@dataclass(frozen=True, kw_only=True)
class _Search:
    """What a worker needs: the entity rows with key and time, in order of key number and time (the slots)."""

    view: FeatureView
    numbers: KeyNumbers
    starts: Integers  # key number -> its first slot, and one past the last
    seen: tuple[Integers, ...]  # slot -> its time, in the unit of the event time, and of the created time if it differs

    @property
    def columns(self) -> list[str]:
        view = self.view
        return [*view.entities, view.event_time, *([view.created_time] if view.created_time else [])]


class _Slots:
    """The entity rows in search order, and the way back."""

    def __init__(self, view: FeatureView, schema: pa.Schema, keys: Sequence[pa.Array], times: pa.Array) -> None:
        kinds = [schema.field(name).type for name in view.entities]
        normal = [
            as_key(key, kind, f"entity column {name!r}")
            for key, kind, name in zip(keys, kinds, view.entities, strict=True)
        ]
        self.total = len(times)
        self.times, usable = counts(times)
        self.unit = times.type.unit
        units = dict.fromkeys(schema.field(name).type.unit for name in (view.event_time, view.created_time) if name)
        floors = []
        for unit in units:
            floor, possible = floor_to(self.times, self.unit, unit)
            floors.append(floor)
            usable = _both(usable, possible)
        numbers = KeyNumbers(normal)
        usable = _both(usable, numbers.codes >= 0)
        rows = np.arange(self.total) if usable is None else np.flatnonzero(usable)
        codes = numbers.codes[rows]
        order = _order(codes, self.times[rows])
        self.order = rows[order]  # slot -> entity row
        self.codes = codes[order]  # slot -> key number
        self.count = len(rows)
        starts = np.searchsorted(self.codes, np.arange(numbers.size + 1))
        self.search = _Search(
            view=view, numbers=numbers, starts=starts, seen=tuple(floor[self.order] for floor in floors)
        )

    def rows(self, best: _Best, view: FeatureView, schema: pa.Schema) -> Integers:
        """The position of the winner of each entity row, or -1."""
        winner = self._hand_on(best)
        found = winner >= 0
        rows, winner = self.order[found], winner[found]
        result = np.full(self.total, -1, np.int64)
        result[rows] = best.position[winner]
        if view.ttl is not None:
            unit = schema.field(view.event_time).type.unit
            result[rows[expired(best.event[winner], unit, self.times[rows], self.unit, view.ttl)]] = -1
        return result

    def _hand_on(self, best: _Best) -> Integers:
        """Slot -> the slot whose candidate wins there, or -1: a running maximum along the slots of each key."""
        filled = np.flatnonzero(best.position >= 0)
        rank = np.zeros(self.count, np.int64)
        by_rank = filled  # without a created time a row is seen from its event on, so events ascend with the slots
        if best.created is not None:  # of equal events, the one that is seen later was created later: keep their order
            by_rank = filled[np.argsort(best.event[filled], kind="stable")]
        rank[by_rank] = np.arange(1, len(filled) + 1)
        base = self.codes * (len(filled) + 1)  # a later key's ranks are above all of an earlier one's
        reached = np.maximum.accumulate(base + rank) - base
        winner = np.full(self.count, -1, np.int64)
        has = reached > 0
        winner[has] = by_rank[reached[has] - 1]
        return winner


class _Best:
    """The greatest candidate of each slot; ``position`` is -1 where there is none yet."""

    def __init__(self, slots: int, with_created: bool) -> None:
        self.event = np.full(slots, EARLIEST, np.int64)
        self.created = np.full(slots, EARLIEST, np.int64) if with_created else None
        self.position = np.full(slots, -1, np.int64)

    def add(self, slot: Integers, event: Integers, created: Integers | None, position: Integers) -> None:
        """Take in candidates. Positions are above all that were added before, and ascend within a slot."""
        before = self.event.take(slot)
        np.maximum.at(self.event, slot, event)
        keep = np.flatnonzero(event == self.event.take(slot))
        slot, position = slot.take(keep), position.take(keep)
        if self.created is not None and created is not None:
            created = created.take(keep)
            self.created[slot[event.take(keep) > before.take(keep)]] = EARLIEST
            np.maximum.at(self.created, slot, created)
            keep = np.flatnonzero(created == self.created.take(slot))
            slot, position = slot.take(keep), position.take(keep)
        self.position[slot] = position  # of equal slots the last one stays: the highest position

    def candidates(self) -> tuple[Integers, Integers, Integers | None, Integers]:
        """Slot, event, created, position of the slots that have a candidate."""
        slot = np.flatnonzero(self.position >= 0)
        created = None if self.created is None else self.created[slot]
        return slot, self.event[slot], created, self.position[slot]


def _search(piece: Piece, search: _Search) -> tuple[Integers, Integers, Integers | None, Integers]:
    """The best candidates among the rows of a piece."""
    view = search.view
    best = _Best(len(search.seen[0]), view.created_time is not None)
    for start, batch in piece.batches(search.columns):
        codes = search.numbers.find([_key(batch.column(name)) for name in view.entities])
        event, known = counts(batch.column(view.event_time))
        created = None
        if view.created_time is not None:
            created, created_known = counts(batch.column(view.created_time))
            known = _both(known, created_known)
        if known is not None:
            codes[~known] = -1
        for block in range(0, len(codes), _BLOCK):
            rows = np.arange(block, min(block + _BLOCK, len(codes)))
            rows = rows.take(np.flatnonzero(codes.take(rows) >= 0))
            events = event.take(rows)
            createds = None if created is None else created.take(rows)
            slot = _first_slots(search, codes.take(rows), events, createds)
            seen = np.flatnonzero(slot >= 0)
            createds = None if createds is None else createds.take(seen)
            best.add(slot.take(seen), events.take(seen), createds, rows.take(seen) + start)
    return best.candidates()


def _first_slots(search: _Search, codes: Integers, events: Integers, createds: Integers | None) -> Integers:
    """The first slot of each row's key whose time has reached the row's times; -1 where none does."""
    low, high = search.starts.take(codes), search.starts.take(codes + 1)
    if createds is None or len(search.seen) == 1:
        times = events if createds is None else np.maximum(events, createds)
        slot = _first_reached(search.seen[0], low, high, times)
    else:
        slot = _first_reached(search.seen[0], low, high, events)
        slot = np.maximum(slot, _first_reached(search.seen[1], low, high, createds))
    slot[slot >= high] = -1
    return slot


def _first_reached(seen: Integers, low: Integers, high: Integers, times: Integers) -> Integers:
    """For each row the first index in ``[low, high)`` with ``seen[index] >= time``, or ``high`` (or more) if none.

    A binary search of all rows at once, without branches: how a row's range shrinks does not depend on what is found.
    """
    at = low.copy()
    _narrow(seen, at, high - low, times)
    at += seen.take(at, mode="clip") < times
    return at


def _narrow(seen: Integers, at: Integers, left: Integers, times: Integers) -> None:
    """Move ``at``, in place, to the last index that is left of its range of ``left`` indices."""
    longest = int(left.max(initial=0))
    while longest > 1:
        wide = left > 1
        if np.count_nonzero(wide) < len(left) // 2:  # keys with few slots are done early; go on with the others
            rows = np.flatnonzero(wide)
            part = at[rows]
            _narrow(seen, part, left[rows], times[rows])
            at[rows] = part
            return
        half = left >> 1
        at += half * (seen.take(at + (half - 1), mode="clip") < times)
        left -= half
        longest -= longest >> 1


def _order(codes: Integers, times: Integers) -> Integers:
    """Sorts by key number, then time. One combined number sorts several times faster, where it fits."""
    if len(codes) == 0:
        return np.zeros(0, np.int64)
    low, span = int(times.min()), int(times.max()) - int(times.min()) + 1
    if span * (int(codes.max()) + 1) < 1 << 63:
        return np.argsort(codes * span + (times - low))
    return np.lexsort((times, codes))


def _key(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = key_type(column.type)
    return column if column.type == kind else column.cast(kind)


def _both(left: Mask | None, right: Mask | None) -> Mask | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right
