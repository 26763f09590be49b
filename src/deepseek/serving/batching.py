"""Adaptive micro-batching on the event loop.

Choices
- A list of futures that ``call_soon``/``call_later`` flushes: no queue object, no task for each request.
- A row waits for company only while the model is idle, only up to ``max_batch_delay_ms`` since the oldest row arrived,
  and only until as many rows are there as the last batch had. So a lone client never waits, and many clients are
  gathered again after each batch. While a batch runs, arriving rows simply accumulate.
- A request is cut into chunks of at most ``max_batch_size`` rows, and chunks are never cut again: a batch is a list of
  whole chunks, so the limit holds by construction and re-joining is by index.
- Requests with different parameters wait in different groups, which take turns.
- When a batch of several chunks fails, its chunks are run one by one, whatever the exception (torch raises
  ``RuntimeError`` for a bad index or shape too), so that only the guilty request gets its error.

Not covered: priorities, and limits in tokens rather than rows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from deepseek.serving.errors import NotReadyError, QueueFullError, RequestError
from deepseek.serving.model import Outputs, Parameters, Row
from deepseek.serving.model_thread import ModelThread

Predict = Callable[[Sequence[Row], Parameters], Outputs]
Outcome = Outputs | Exception
OnBatch = Callable[[int, float, float], None]


class _Request:
    __slots__ = ("future", "key", "missing", "parameters", "parts")

    def __init__(self, future: asyncio.Future[Outputs], key: str, parameters: Parameters, parts: int) -> None:
        self.future = future
        self.key = key
        self.parameters = parameters
        self.parts: list[Outputs] = [[]] * parts
        self.missing = parts


class _Chunk:
    __slots__ = ("arrived", "index", "request", "rows")

    def __init__(self, request: _Request, index: int, rows: Sequence[Row], arrived: float) -> None:
        self.request = request
        self.index = index
        self.rows = rows
        self.arrived = arrived


class MicroBatcher:
    """Gathers the rows of concurrent requests into batches for one model.

    ``predict`` is called in a dedicated thread with at most ``max_batch_size`` rows, at most ``max_queue`` rows wait,
    and ``max_batch_delay_ms`` is in milliseconds. Use it from one event loop; it must not be shared between loops.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        name: str = "model",
        max_batch_size: int = 32,
        max_batch_delay_ms: float = 2.0,
        max_queue: int = 1024,
    ) -> None:
        self.name = name
        self.max_batch_size = max_batch_size
        self.max_queue = max_queue
        self._predict = predict
        self._delay = max_batch_delay_ms / 1000
        self._groups: dict[str, deque[_Chunk]] = {}
        self._queued = 0
        self._running: list[_Chunk] | None = None
        self._target = 1
        self._handle: asyncio.Handle | None = None
        self._soon = False
        self._closed = False
        self._idle: asyncio.Event | None = None
        self.on_batch: OnBatch | None = None
        """Told of each batch when it has ended: rows, seconds that the oldest row waited, seconds that it ran."""
        self._waited = 0.0
        self._seconds = 0.0
        self._began = 0.0
        self._thread: ModelThread[list[_Chunk], list[Outcome]] = ModelThread(name, self._run, self._finished)

    @property
    def queued_rows(self) -> int:
        """Rows that wait for the model (the ones that it is working on are not counted)."""
        return self._queued

    @property
    def busy(self) -> bool:
        """Whether any row waits or runs."""
        return self._queued > 0 or self._running is not None

    def submit(self, rows: Sequence[Row], parameters: Parameters | None = None) -> asyncio.Future[Outputs]:
        """Queue the rows of one request; the future gives one output row for each, in order.

        Cancelling the future drops those of its rows that have not started. Raises :class:`QueueFullError` when there
        is no room now, :class:`RequestError` for no rows or more than can ever fit, :class:`NotReadyError` after
        :meth:`drain`; the future raises whatever ``predict`` raised for this request.
        """
        count = len(rows)
        if self._closed:
            raise NotReadyError(f"model {self.name!r} is shutting down; retry against another replica")
        if count == 0:
            raise RequestError("expected at least one row, received none")
        if self._queued + count > self.max_queue:
            raise self._no_room(count)
        loop = asyncio.get_running_loop()
        now = loop.time()
        size = self.max_batch_size
        key = _key(parameters) if parameters else ""
        request = _Request(loop.create_future(), key, parameters or {}, -(-count // size))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = deque()
        if count <= size:
            group.append(_Chunk(request, 0, rows, now))
        else:
            group.extend(_Chunk(request, i, rows[i * size : (i + 1) * size], now) for i in range(request.missing))
        self._queued += count
        request.future.add_done_callback(lambda future: self._left(request) if future.cancelled() else None)
        if self._running is None:
            self._arm(loop)
        return request.future

    def _no_room(self, count: int) -> Exception:
        if count > self.max_queue:
            return RequestError(
                f"expected at most {self.max_queue} rows in a request, received {count}; split the request"
            )
        batches = self._queued / self.max_batch_size + 1
        return QueueFullError(
            f"model {self.name!r} has {self._queued} rows waiting of at most {self.max_queue}, "
            f"no room for {count} more; retry later",
            retry_after=batches * self._seconds,
        )

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Schedule the next batch: at once when enough rows wait, else when the oldest has waited long enough."""
        if self._soon or not self._groups:
            return
        oldest = next(iter(self._groups.values()))[0].arrived
        wait = oldest + self._delay - loop.time()
        if self._queued >= self._target or wait <= 0:
            if self._handle is not None:
                self._handle.cancel()
            self._soon = True
            self._handle = loop.call_soon(self._flush, loop)
        elif self._handle is None:
            self._handle = loop.call_later(wait, self._flush, loop)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle, self._soon = None, False
        if self._running is not None or not self._groups:
            return
        key = next(iter(self._groups))
        group = self._groups.pop(key)
        batch: list[_Chunk] = []
        total = 0
        while group and total + len(group[0].rows) <= self.max_batch_size:
            chunk = group.popleft()
            batch.append(chunk)
            total += len(chunk.rows)
        if group:
            self._groups[key] = group  # at the end: groups take turns
        self._queued -= total
        self._target = total
        self._running = batch
        self._began = perf_counter()  # the loop's clock stands still within a turn, and uvloop's counts milliseconds
        self._waited = loop.time() - batch[0].arrived
        self._thread.call(loop, batch)

    def _run(self, batch: list[_Chunk]) -> list[Outcome]:
        """In the model's thread: one outcome for each chunk."""
        parameters = batch[0].request.parameters
        if len(batch) == 1:
            return [self._attempt(batch[0].rows, parameters)]
        together = self._attempt([row for chunk in batch for row in chunk.rows], parameters)
        if isinstance(together, Exception):
            return [[] if c.request.future.cancelled() else self._attempt(c.rows, parameters) for c in batch]
        outcomes: list[Outcome] = []
        start = 0
        for chunk in batch:
            outcomes.append(together[start : start + len(chunk.rows)])
            start += len(chunk.rows)
        return outcomes

    def _attempt(self, rows: Sequence[Row], parameters: Parameters) -> Outcome:
        try:
            outputs = self._predict(rows, parameters)
        except Exception as error:  # noqa: BLE001  it is handed to the request that it belongs to
            # A future cannot carry StopIteration.
            return RuntimeError("the model raised StopIteration") if isinstance(error, StopIteration) else error
        if len(outputs) != len(rows):
            return RuntimeError(f"model {self.name!r} returned {len(outputs)} rows for {len(rows)}")
        return outputs

    def _finished(self, batch: list[_Chunk], outcomes: list[Outcome] | BaseException) -> None:
        loop = asyncio.get_running_loop()
        self._running = None
        seconds = perf_counter() - self._began
        if self.on_batch is not None:
            self.on_batch(sum(len(chunk.rows) for chunk in batch), self._waited, seconds)
        self._seconds = seconds if self._seconds == 0 else 0.8 * self._seconds + 0.2 * seconds
        if isinstance(outcomes, BaseException):
            failed = RuntimeError(f"the thread of model {self.name!r} was interrupted")
            failed.__cause__ = outcomes
            outcomes = [failed] * len(batch)
        for chunk, outcome in zip(batch, outcomes, strict=True):
            self._deliver(chunk, outcome)
        if self._groups:
            self._arm(loop)
        elif self._idle is not None:
            self._idle.set()

    def _deliver(self, chunk: _Chunk, outcome: Outcome) -> None:
        request = chunk.request
        if request.future.done():
            return
        if isinstance(outcome, Exception):
            request.future.set_exception(outcome)
            self._left(request)
            return
        request.parts[chunk.index] = outcome
        request.missing -= 1
        if request.missing == 0:
            parts = request.parts
            request.future.set_result(parts[0] if len(parts) == 1 else [row for part in parts for row in part])

    def _left(self, request: _Request) -> None:
        """Drop the waiting chunks of a request whose client left or that failed already."""
        group = self._groups.get(request.key)
        if group is None:
            return
        kept = deque(chunk for chunk in group if chunk.request is not request)
        self._queued -= sum(len(chunk.rows) for chunk in group) - sum(len(chunk.rows) for chunk in kept)
        if kept:
            self._groups[request.key] = kept
        else:
            del self._groups[request.key]
        if not self.busy and self._idle is not None:
            self._idle.set()

    async def drain(self) -> None:
        """Refuse new requests, wait until every queued row is answered, and end the model's thread."""
        self._closed = True
        if self.busy:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()
        self._thread.close()

    def close(self) -> None:
        """Refuse new requests and fail the waiting ones with :class:`NotReadyError`; what runs is not interrupted."""
        self._closed = True
        for group in list(self._groups.values()):
            for chunk in list(group):
                if not chunk.request.future.done():
                    chunk.request.future.set_exception(NotReadyError(f"model {self.name!r} was shut down"))
        self._groups.clear()
        self._queued = 0
        self._thread.close()


def _key(parameters: Parameters) -> str:
    """Equal only for equal names, values and types: ``1``, ``1.0`` and ``True`` must not share a batch."""
    items: list[tuple[str, Any]] = sorted(parameters.items(), key=lambda item: item[0])
    return repr(items)
