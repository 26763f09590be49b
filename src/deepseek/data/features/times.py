"""Exact comparison of timestamps in different units: whole numbers only, no overflow, nothing cut off.

A time is an int64 count of its unit since 1970 in UTC; Arrow stores zoned timestamps in UTC as well, and a naive one is
taken as UTC. Counts are never widened to nanoseconds, which overflow in 2262: a time is rounded down to the other
side's unit, which changes no comparison "that side <= time", or both are split into seconds and nanoseconds.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Integers: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
LATEST = np.iinfo(np.int64).max
EARLIEST = np.iinfo(np.int64).min


def counts(array: pa.Array) -> tuple[Integers, Mask | None]:
    """The counts of a timestamp array without copying them, and which are valid (``None``: all)."""
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array), np.int64), None if array.null_count == 0 else np.zeros(len(array), np.bool_)
    values = np.frombuffer(buffer, np.int64, count=len(array), offset=array.offset * 8)
    return values, valid(array)


def valid(array: pa.Array) -> Mask | None:
    """Which values are not null (``None``: all)."""
    return None if array.null_count == 0 else pc.is_valid(array).to_numpy(zero_copy_only=False)


def floor_to(times: Integers, unit: str, other: str) -> tuple[Integers, Mask | None]:
    """``times`` in units of ``other``, so that for any count ``x`` of ``other``: ``x <= time`` iff ``x <= result``.

    Times later than ``other`` can count become its latest one, which is exact; those earlier than it can count have
    nothing before them, and the mask says which are not (``None``: all are fine).
    """
    here, there = PER_SECOND[unit], PER_SECOND[other]
    if here == there:
        return times, None
    if here > there:
        return times // (here // there), None
    ratio = there // here
    highest, lowest = LATEST // ratio, -((LATEST + 1) // ratio)
    result = np.clip(times, lowest, highest) * ratio
    result[times > highest] = LATEST
    return result, times >= lowest if bool((times < lowest).any()) else None


def expired(events: Integers, event_unit: str, times: Integers, unit: str, ttl: dt.timedelta) -> Mask:
    """Which events are older than ``ttl`` at their time: ``event + ttl < time``, exactly."""
    whole, micros = divmod(ttl // dt.timedelta(microseconds=1), 10**6)
    seconds, nanos = _split(events, event_unit)
    at_seconds, at_nanos = _split(times, unit)
    endless = seconds > LATEST - whole - 1  # the sum would overflow: such an event outlives every time there is
    nanos = nanos + micros * 1000
    carry = nanos >= 10**9
    seconds = np.where(endless, 0, seconds) + whole + carry
    nanos = nanos - carry * 10**9
    late = (seconds < at_seconds) | ((seconds == at_seconds) & (nanos < at_nanos))
    return np.asarray(late & ~endless)


def _split(times: Integers, unit: str) -> tuple[Integers, Any]:
    per_second = PER_SECOND[unit]
    if per_second == 1:
        return times, np.zeros(len(times), np.int64)
    seconds, rest = np.divmod(times, per_second)
    return seconds, rest * (10**9 // per_second)
