"""Errors that repeat are written a few times a minute, then counted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic


class Suppression(logging.Filter):
    """Lets ``most`` warnings and errors of a kind through a minute; a kind is a logger, a level and a template.

    The first that passes in a later minute has the number that did not as its field ``suppressed``. Records below
    warning always pass. Kinds are bounded: beyond 1,000 all others are one.
    """

    MOST_KINDS = 1000

    def __init__(self, most: int, *, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._most = most
        self._clock = clock
        self._kinds: dict[tuple[str, int, str], list[float]] = {}
        self.total = 0
        """Records that were not let through."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record."""
        if record.levelno < logging.WARNING:
            return True
        kind = (record.name, record.levelno, str(record.msg))
        if kind not in self._kinds and len(self._kinds) >= self.MOST_KINDS:
            kind = ("", 0, "")
        now = self._clock()
        state = self._kinds.setdefault(kind, [now, 0.0, 0.0])  # when the minute began, passed, held back
        if now - state[0] >= 60:
            state[0], state[1] = now, 0.0
        if state[1] >= self._most:
            state[2] += 1
            self.total += 1
            return False
        state[1] += 1
        if state[2]:
            record.suppressed = int(state[2])
            state[2] = 0.0
        return True
