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
    events = _seconds(rows[view.event_time])
    known = events if view.created_time is None else _seconds(rows[view.created_time])
    features = list(zip(_keys([rows[name] for name in view.entities]), events, known, range(len(events)), strict=True))
    return np.array(
        [_winner(view, features, key, at) for key, at in zip(_keys(keys), _seconds(times), strict=True)], np.int64
    )


def _winner(view: FeatureView, features: list[Any], key: tuple[Any, ...], at: Fraction | None) -> int:
    if at is None or None in key:
        return -1
    visible = [
        (event, created, position)
        for feature_key, event, created, position in features
        if feature_key == key and event is not None and created is not None and event <= at and created <= at
    ]
    if not visible:
        return -1
    event, _, position = max(visible)
    expired = view.ttl is not None and event < at - Fraction(view.ttl // dt.timedelta(microseconds=1), 10**6)
    return -1 if expired else int(position)


def _keys(columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def _seconds(times: Any) -> list[Fraction | None]:
    """Exact seconds since 1970."""
    per_second = PER_SECOND[times.type.unit]
    return [None if count is None else Fraction(count, per_second) for count in times.cast(pa.int64()).to_pylist()]
