"""A sliding window: never more than ``limit`` events within any 60 seconds, wherever they start.

Why a sliding window: a counter that starts anew every minute lets two minutes' worth through around its edge, and a
token bucket that holds ``limit`` tokens lets almost as much through within a minute after a rest. A log of all events
is exact, but at 100,000 requests a minute it is large. So the log is kept in slots of 100 ms: an event leaves
together with its slot, at most 100 ms later than it had to, which errs to the side of the limit. At most 601 slots
are held, whatever the limit; taking costs O(1), amortised.
"""

from __future__ import annotations

import math
from collections import deque

WINDOW_SECONDS = 60.0
SLOTS_PER_SECOND = 10


class SlidingWindow:
    """Counts events of the last 60 seconds; times are seconds on one monotonic clock, given in ascending order."""

    __slots__ = ("_leaves", "_newest", "_slot_ends", "_slots", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        """Events in the window, as of the last call."""
        self._slots: deque[list[float]] = deque()
        """(when the slot leaves, how many events it has), oldest first."""
        self._newest: list[float] = [0.0, 0]
        self._slot_ends = -math.inf
        self._leaves = math.inf

    def take(self, now: float) -> float:
        """Take one event and return 0.0, or return the seconds until one can be taken."""
        if now >= self._leaves:
            self._drop(now)
        if self.used >= self.limit:
            return self._wait(now)
        if now < self._slot_ends:
            self._newest[1] += 1
            self.used += 1
        else:
            self.add(now, 1)
        return 0.0

    def add(self, now: float, count: int) -> None:
        """Count events that happened elsewhere, whether they fit or not."""
        if now >= self._leaves:
            self._drop(now)
        if now >= self._slot_ends:
            self._slot_ends = (math.floor(now * SLOTS_PER_SECOND) + 1) / SLOTS_PER_SECOND
            self._newest = [self._slot_ends + WINDOW_SECONDS, 0]
            self._slots.append(self._newest)
            self._leaves = self._slots[0][0]
        self._newest[1] += count
        self.used += count

    def _drop(self, now: float) -> None:
        slots = self._slots
        while slots and slots[0][0] <= now:
            self.used -= int(slots.popleft()[1])
        self._leaves = slots[0][0] if slots else math.inf

    def _wait(self, now: float) -> float:
        over = self.used - self.limit
        for leaves, count in self._slots:
            over -= int(count)
            if over < 0:
                return leaves - now
        raise AssertionError("a window above its limit has slots to wait for")
