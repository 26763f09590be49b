"""One timer for many times: most deadlines and timeouts are never met, so none of them deserves a timer of its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

TOLERANCE = 0.001
"""Seconds by which an alarm may ring early: the event loop's timers count milliseconds."""


class Alarm:
    """Rings at, or within a millisecond before, the earliest time that was set, and then asks for the next one."""

    __slots__ = ("_at", "_handle", "_ring")

    def __init__(self, ring: Callable[[float], float]) -> None:
        """``ring(now)`` deals with what is due and returns the next time, or infinity."""
        self._ring = ring
        self._at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Whether it will ring."""
        return self._handle is not None

    def set(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        """Ring at ``at`` (on the loop's clock) or earlier."""
        if at >= self._at:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._at = at
        self._handle = loop.call_at(at, self._rang, loop)

    def off(self) -> None:
        """Forget all times."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._at = None, math.inf

    def _rang(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle, self._at = None, math.inf
        self.set(self._ring(loop.time() + TOLERANCE), loop)
