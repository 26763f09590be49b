"""The rows that wait for one model, in the order of their turns.

- A lane holds the chunks that may share a batch: those with the same parameters and, if rows have lengths, of the same
  bucket. The next batch is taken from the lane whose head's turn is the earliest, so no lane waits longer than what
  came before it takes.
- A chunk's turn is the time of its arrival plus its priority times ``ageing_seconds``. It never changes, so nothing is
  sorted again, and nothing starves: whatever comes later than a chunk's turn goes behind it.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from collections.abc import Hashable
from typing import Any

from deepseek.serving.batching.request import Chunk, Request
from deepseek.serving.models.served_model import Parameters


class WaitingRows:
    """Chunks in lanes; ``rows`` and ``size_bytes`` are those of all chunks together."""

    __slots__ = ("_lanes", "rows", "size_bytes")

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[Chunk]] = {}
        self.rows = 0
        self.size_bytes = 0

    def add(self, key: Hashable, chunk: Chunk) -> None:
        """Put a chunk into the lane ``key``, behind those whose turn is not later."""
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = deque((chunk,))
        elif lane[-1].turn <= chunk.turn:
            lane.append(chunk)
        else:
            insort(lane, chunk, key=_turn)
        self.rows += len(chunk.rows)
        self.size_bytes += chunk.size_bytes

    def head(self) -> Chunk:
        """The chunk whose turn it is; there must be one."""
        return self._lanes[self._next()][0]

    def _next(self) -> Hashable:
        lanes = self._lanes
        return next(iter(lanes)) if len(lanes) == 1 else min(lanes, key=lambda key: lanes[key][0].turn)

    def take(self, most_rows: int, most_cost: float, share: int) -> tuple[list[Chunk], int]:
        """Take chunks that go together, the next in turn first, and return them with the number of their rows.

        They have at most ``most_rows`` rows and cost at most ``most_cost``. Taking ends with ``share`` rows. There must
        be something to take.
        """
        key = self._next()
        lane = self._lanes[key]
        taken: list[Chunk] = []
        rows = size_bytes = cost = 0
        while lane and rows < share:
            chunk = lane[0]
            count = len(chunk.rows)
            if rows + count > most_rows or cost + chunk.cost > most_cost:
                break
            taken.append(lane.popleft())
            rows += count
            cost += chunk.cost
            size_bytes += chunk.size_bytes
        if not lane:
            del self._lanes[key]
        self.rows -= rows
        self.size_bytes -= size_bytes
        return taken, rows

    def drop(self, request: Request) -> None:
        """Take out what waits of one request."""
        for key, lane in list(self._lanes.items()):
            self._keep(key, lane, [chunk for chunk in lane if chunk.request is not request])

    def expired(self, now: float) -> list[Request]:
        """Requests whose deadline has come."""
        # A dict, because a request can have chunks in many lanes, and its order, because a set has none.
        return list(
            dict.fromkeys(
                chunk.request for lane in self._lanes.values() for chunk in lane if chunk.request.deadline <= now
            )
        )

    def next_deadline(self) -> float:
        """The earliest deadline, or infinity."""
        return min((chunk.request.deadline for lane in self._lanes.values() for chunk in lane), default=math.inf)

    def clear(self) -> list[Request]:
        """Take out everything; returns the requests."""
        requests = list(dict.fromkeys(chunk.request for lane in self._lanes.values() for chunk in lane))
        self._lanes.clear()
        self.rows = self.size_bytes = 0
        return requests

    def _keep(self, key: Hashable, lane: deque[Chunk], kept: list[Chunk]) -> None:
        if len(kept) == len(lane):
            return
        self.rows -= sum(len(chunk.rows) for chunk in lane) - sum(len(chunk.rows) for chunk in kept)
        self.size_bytes -= sum(chunk.size_bytes for chunk in lane) - sum(chunk.size_bytes for chunk in kept)
        if kept:
            self._lanes[key] = deque(kept)
        else:
            del self._lanes[key]


def _turn(chunk: Chunk) -> float:
    return chunk.turn


def parameters_key(parameters: Parameters) -> str:
    """Equal only for equal names, values and types: ``1``, ``1.0`` and ``True`` must not share a batch."""
    items: list[tuple[str, Any]] = sorted(parameters.items(), key=lambda item: item[0])
    return repr(items)
