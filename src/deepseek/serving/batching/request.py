"""Requests, the chunks that they are cut into, and the batches that chunks are put together to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from deepseek.errors import DataError
from deepseek.serving.models.served_model import Outputs, Parameters, Row

NORMAL_PRIORITY = 4
"""Of a request that says nothing; 0 is the highest."""
LOWEST_PRIORITY = 8

_ROW = re.compile(r"row (\d+)\b")

Outcome = Outputs | Exception
"""What became of one chunk: an output for each of its rows, or why there is none."""


class Request(asyncio.Future[Outputs]):
    """The rows of one call, and the future that its caller waits for.

    One object is both, and tells of its cancellation itself: a callback for that would be scheduled for each request.
    Its attributes are set after it is made, because an ``__init__`` in Python would cost more than the rest of it.
    """

    __slots__ = ("deadline", "left", "parameters")

    parameters: Parameters
    deadline: float
    """On the loop's clock; infinity: none."""
    left: Callable[[Request], None]
    """Told when the request is cancelled."""

    def cancel(self, msg: Any | None = None) -> bool:
        """Give up: its rows that wait are dropped, and a batch that nobody else is in is stopped if it can be."""
        cancelled = super().cancel(msg)
        if cancelled:
            self.left(self)
        return cancelled

    def take(self, chunk: Chunk, outcome: Outcome) -> None:
        """Take the outcome of its only chunk; a request that is over already takes nothing."""
        if self.done():
            return
        if isinstance(outcome, Exception):
            self.set_exception(outcome)
        else:
            self.set_result(outcome)


class CutRequest(Request):
    """A request of several chunks: answered with the last of them, or the first error."""

    __slots__ = ("answers", "missing")

    answers: list[Any]
    """Outputs in the order of the rows."""
    missing: int
    """Chunks without an outcome."""

    def take(self, chunk: Chunk, outcome: Outcome) -> None:
        """Take the outcome of one chunk; after an error, the rest of them is dropped."""
        if self.done():
            return
        if isinstance(outcome, Exception):
            self.set_exception(_renumbered(outcome, chunk.places))
            self.left(self)
            return
        for place, output in zip(chunk.places, outcome, strict=True):
            self.answers[place] = output
        self.missing -= 1
        if self.missing == 0:
            self.set_result(self.answers)


def _renumbered(error: Exception, places: Sequence[int]) -> Exception:
    """What a task says of a row of its chunk ("row 0: ..."), said of that row of the request."""
    found = _ROW.match(str(error)) if isinstance(error, DataError) else None
    if found is None or int(found[1]) >= len(places):
        return error
    renumbered = type(error)(f"row {places[int(found[1])]}{str(error)[found.end() :]}")
    renumbered.__cause__ = error
    return renumbered


class Chunk:
    """Rows of one request that stay together: at most a batch, of one bucket of lengths."""

    __slots__ = ("arrived", "cost", "places", "request", "rows", "size_bytes", "turn")

    def __init__(
        self,
        request: Request,
        rows: Sequence[Row],
        arrived: float,
        turn: float,
        size_bytes: int = 0,
        cost: int = 0,
        places: Sequence[int] = (),
    ) -> None:
        self.request = request
        self.rows = rows
        self.arrived = arrived
        self.turn = turn
        self.size_bytes = size_bytes
        self.cost = cost
        self.places = places


class Batch:
    """Whole chunks with the same parameters, which a model runs at once."""

    __slots__ = ("began", "cancelled", "chunks", "parameters", "rows", "started")

    def __init__(self, chunks: list[Chunk], rows: int, began: float) -> None:
        self.chunks = chunks
        self.rows = rows
        self.parameters = chunks[0].request.parameters
        self.began = began
        self.started = perf_counter()
        """For how long it runs: the loop's clock stands still within a turn, and uvloop's counts milliseconds."""
        self.cancelled = False

    @property
    def pieces(self) -> list[Sequence[Row]]:
        """The rows of each chunk."""
        return [chunk.rows for chunk in self.chunks]

    def wanted(self, piece: int) -> bool:
        """Whether anybody still waits for a chunk; may be asked in any thread."""
        return not self.chunks[piece].request.done()

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for any of it."""
        return all(chunk.request.done() for chunk in self.chunks)
