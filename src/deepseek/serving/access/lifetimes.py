"""Times as people write them: how long a key lives, and how long an old secret works beside a new one."""

from __future__ import annotations

import datetime as dt
import re

from deepseek.errors import ConfigError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,9})\s*([smhdw])")
_LONGEST = dt.timedelta(days=36_500)


def duration(text: str) -> dt.timedelta:
    """``90s``, ``30m``, ``12h``, ``30d`` or ``2w``; also ``0``. Raises :class:`ConfigError`."""
    if text.strip() == "0":
        return dt.timedelta(0)
    found = _DURATION.fullmatch(text.strip().lower())
    if found is not None:
        try:
            length = dt.timedelta(**{_UNITS[found[2]]: int(found[1])})
        except OverflowError:
            length = dt.timedelta.max
        if length <= _LONGEST:
            return length
    raise ConfigError(f"expected a duration of at most 100 years such as 30d, 12h, 30m or 90s, received {text!r:.80}")


def lifetime(text: str, now: float) -> dt.timedelta:
    """A duration, or the time from ``now`` (Unix time) to the beginning of a UTC day, ``2027-01-31``."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text.strip()):
        return duration(text)
    left = dt.datetime.combine(day(text), dt.time(), dt.UTC) - dt.datetime.fromtimestamp(now, dt.UTC)
    if left <= dt.timedelta(0):
        raise ConfigError(f"expected a day in the future, received {text!r}")
    return left


def day(text: str) -> dt.date:
    """A day, ``2027-01-31``; raises :class:`ConfigError`."""
    try:
        return dt.date.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(f"expected a day such as 2027-01-31, received {text!r:.80}") from error
