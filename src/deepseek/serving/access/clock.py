"""The two clocks of access control, and the UTC day.

Windows of seconds use the monotonic clock, which never jumps. Days, lifetimes of keys and overlaps need the wall clock,
which may be set back or forth at any time. What that can do is bounded by keeping counts *by day*: whoever is set back
to a day finds what was used on it, and whoever comes to a day again finds it used.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass

DAY_SECONDS = 86_400
_EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True)
class Clock:
    """Where time comes from; tests give their own."""

    wall: Callable[[], float] = time.time
    """Unix time in seconds."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds since an arbitrary moment, never backwards."""


def day_number(wall: float) -> int:
    """Days since 1970-01-01 in UTC; POSIX time has no leap seconds, so every day has 86,400 seconds."""
    return int(wall // DAY_SECONDS)


def date_of(day: int) -> dt.date:
    """The date of a day's number."""
    return _EPOCH + dt.timedelta(days=day)


def number_of(date: dt.date) -> int:
    """The day's number of a date."""
    return (date - _EPOCH).days
