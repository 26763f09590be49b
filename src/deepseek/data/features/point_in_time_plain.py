"""The point-in-time rule row by row, as it reads: the reference that tests hold the fast search against."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.engines import Engine
from deepseek.data.features.times import PER_SECOND, Integers
from deepseek.data.features.view import FeatureView
from deepseek.data.table import Table


def find_rows(
    view: FeatureView, table: Table, keys: Sequence[pa.Array], times: pa.Array, engine: Engine | None = None
) -> Integers:
    """As :func:`deepseek.data.features.point_in_time.find_rows`, in time entity rows x feature rows; never parallel."""
    del engine
    rows = table.to_arrow()
    order = list(
        zip(*(_seconds(rows[name]) for name in (view.event_time, view.created_time or view.event_time)), strict=True)
    )
    found = []
    for at, visible in zip(_seconds(times), visible_rows(view, rows, keys, times), strict=True):
        winner = max(visible, key=lambda row: (*order[row], row), default=-1)
        found.append(-1 if winner >= 0 and _expired(view, order[winner][0], at) else winner)
    return np.array(found, np.int64)


def visible_rows(view: FeatureView, rows: pa.Table, keys: Sequence[pa.Array], times: pa.Array) -> list[list[int]]:
    """For each entity row the feature rows that it may see: those of its key that had happened and were known."""
    features = _keys([rows[name] for name in view.entities])
    events, created = _seconds(rows[view.event_time]), _seconds(rows[view.created_time or view.event_time])
    return [
        [
            row
            for row, (feature_key, event, known) in enumerate(zip(features, events, created, strict=True))
            if feature_key == key and None not in key and event is not None and known is not None
            if at is not None and event <= at and known <= at
        ]
        for key, at in zip(_keys(keys), _seconds(times), strict=True)
    ]


def _expired(view: FeatureView, event: Any, at: Any) -> bool:
    return view.ttl is not None and event < at - Fraction(view.ttl // dt.timedelta(microseconds=1), 10**6)


def _keys(columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def _seconds(times: Any) -> list[Fraction | None]:
    """Exact seconds since 1970."""
    per_second = PER_SECOND[times.type.unit]
    return [None if count is None else Fraction(count, per_second) for count in times.cast(pa.int64()).to_pylist()]
