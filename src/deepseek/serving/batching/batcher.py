"""Adaptive micro-batching on the event loop.

Choices
- A queue of chunks that ``call_soon``/``call_later`` flushes: no queue object of asyncio's, no task for each request.
- A row waits for company only while the model is idle, only up to ``max_batch_delay_ms`` since it arrived, and only
  until as many rows are there as the last batch had. So a lone client never waits, and many clients are gathered again
  after each batch. While a batch runs, arriving rows simply accumulate; where several can run, the rows that wait are
  shared out among those that are idle.
- A request is cut into chunks that fit a batch (rows, cost, bucket of lengths), and chunks are never cut again: a batch
  is a list of whole chunks, so the limits hold by construction and re-joining is by index.
- Chunks share a batch when they have the same parameters and bucket, whatever their priority. Turns are kept in
  :mod:`deepseek.serving.batching.waiting`; nothing starves.
- When a batch of several chunks fails, its chunks are run one by one, so that only the guilty request gets its error.
- Rows whose client has left, or whose deadline has come, never reach the model. A batch that nobody waits for any more
  is cancelled, if the model has a way to.

Not covered: counting a batch's padding into its cost (the buckets bound it), and interrupting a batch for a request of
higher priority.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from time import perf_counter

from deepseek.serving.batching.alarm import Alarm
from deepseek.serving.batching.answering import Predict
from deepseek.serving.batching.config import BatchingConfig
from deepseek.serving.batching.cutting import Measure, cut
from deepseek.serving.batching.executor import Executor
from deepseek.serving.batching.refusals import no_room, too_late
from deepseek.serving.batching.request import (
    LOWEST_PRIORITY,
    NORMAL_PRIORITY,
    Batch,
    Chunk,
    CutRequest,
    Outcome,
    Request,
)
from deepseek.serving.batching.thread_executor import ThreadExecutor
from deepseek.serving.batching.waiting import WaitingRows, parameters_key
from deepseek.serving.errors import DeadlineError, NotReadyError, RequestError
from deepseek.serving.models.served_model import Outputs, Parameters, Row

OnBatch = Callable[[int, float, float], None]
"""Told of each batch: its rows, the seconds that its oldest row waited, and the seconds that it ran."""

logger = logging.getLogger("deepseek.serving")

_DEADLINE_SECONDS = 0.01
"""Between two looks for deadlines that have come. It only delays the error: such rows do not run in any case."""


class MicroBatcher:
    """Gathers the rows of concurrent requests into batches for one model.

    Args:
        model: what runs batches: ``predict(rows, parameters)``, which is called in a thread of its own, or an executor.
        config: the limits.
        name: the model's name, for messages.
        length: how long a row is, e.g. its text's characters; rows of similar length then go together.
        cost: what a row counts towards ``max_batch_cost``, e.g. its tokens or bytes.
        on_batch: told of each batch when it has ended: rows, seconds waited, seconds run.

    Use it from one event loop; it must not be shared between loops.
    """

    def __init__(
        self,
        model: Predict | Executor,
        config: BatchingConfig | None = None,
        *,
        name: str = "model",
        length: Measure | None = None,
        cost: Measure | None = None,
        on_batch: OnBatch | None = None,
    ) -> None:
        self.name = name
        self.config = config = config or BatchingConfig()
        self.on_batch = on_batch
        self.executor = ThreadExecutor(model, name=name) if callable(model) else model
        self.executor.attach(self._finished, self._changed, config.timeout_seconds)
        self._size = config.max_batch_size
        self._most_cost = math.inf if config.max_batch_cost is None or cost is None else config.max_batch_cost
        self._most_rows, self._most_bytes = config.max_queue, config.max_queue_bytes
        self._delay = config.max_batch_delay_ms / 1000
        self._ageing = config.ageing_seconds
        self._length, self._cost = length, cost
        self._plain = length is None and cost is None
        self._waiting = WaitingRows()
        self._running: list[Batch] = []
        self._target = 1
        self._handle: asyncio.Handle | None = None
        self._soon = False
        self._refusal: str | None = None
        self._closed = False
        self._idle: asyncio.Event | None = None
        self._seconds = 0.0
        self._deadlines = Alarm(self._expire)
        self._on_left = self._left  # bound once, not for each request

    @property
    def queued_rows(self) -> int:
        """Rows that wait for the model (the ones that it is working on are not counted)."""
        return self._waiting.rows

    @property
    def queued_bytes(self) -> int:
        """Bytes that the waiting rows hold, as far as :meth:`submit` was told."""
        return self._waiting.size_bytes

    @property
    def busy(self) -> bool:
        """Whether any row waits or runs."""
        return self._waiting.rows > 0 or bool(self._running)

    @property
    def ready(self) -> bool:
        """Whether requests are taken and the model can answer them now."""
        return self._refusal is None and self.executor.ready

    def submit(
        self,
        rows: Sequence[Row],
        parameters: Parameters | None = None,
        *,
        priority: int = NORMAL_PRIORITY,
        deadline: float | None = None,
        size_bytes: int = 0,
    ) -> asyncio.Future[Outputs]:
        """Queue the rows of one request; the future gives one output row for each, in order.

        Cancelling the future drops those of its rows that have not started.

        Args:
            rows: input rows.
            parameters: of the call; only rows with equal parameters share a batch.
            priority: 0 (first) to ``LOWEST_PRIORITY``.
            deadline: when the client stops waiting, on the event loop's clock. Rows that have not started by then never
                do, and the future raises :class:`DeadlineError`.
            size_bytes: what the rows hold in memory, which counts towards ``max_queue_bytes``; the length of the
                request's body will do.

        Raises:
            QueueFullError: there is no room now.
            RequestError: no rows, more than can ever fit, or a priority that does not exist.
            DeadlineError: the deadline has passed already.
            NotReadyError: after :meth:`drain`, or while the model cannot answer.

        The future raises whatever the model raised for this request.
        """
        count = len(rows)
        waiting = self._waiting
        if self._refusal is not None:
            raise NotReadyError(self._refusal)
        if count == 0:
            raise RequestError("expected at least one row, received none")
        if waiting.rows + count > self._most_rows or waiting.size_bytes + size_bytes > self._most_bytes:
            batches = waiting.rows / self._size + 1
            raise no_room(
                self.name, self.config, waiting, count, size_bytes, batches * self._seconds / self.executor.width
            )
        if not 0 <= priority <= LOWEST_PRIORITY:
            raise RequestError(f"expected a priority from 0 (first) to {LOWEST_PRIORITY}, received {priority}")
        loop = asyncio.get_running_loop()
        now = loop.time()
        if deadline is None:
            deadline = math.inf
        elif deadline <= now:
            raise DeadlineError(f"the deadline had passed when the request reached model {self.name!r}")
        key = parameters_key(parameters) if parameters else ""
        turn = now + priority * self._ageing
        request: Request
        if self._plain and count <= self._size:
            request = Request(loop=loop)
            waiting.add(key, Chunk(request, rows, now, turn, size_bytes))
        else:
            request = self._add_cut(loop, rows, key, now, turn, size_bytes)
        request.parameters = parameters or {}
        request.deadline = deadline
        request.left = self._on_left
        if deadline != math.inf:
            self._deadlines.set(deadline, loop)
        if self.executor.free:
            self._arm(loop)
        return request

    def _add_cut(
        self,
        loop: asyncio.AbstractEventLoop,
        rows: Sequence[Row],
        key: str,
        now: float,
        turn: float,
        size_bytes: int,
    ) -> Request:
        pieces = list(cut(rows, most_rows=self._size, most_cost=self._most_cost, length=self._length, cost=self._cost))
        request: Request
        if len(pieces) == 1:
            request = Request(loop=loop)
        else:
            request = parts = CutRequest(loop=loop)
            parts.missing = len(pieces)
            parts.answers = [None] * len(rows)
        left = len(rows)
        for number, places, cost in pieces:
            share = size_bytes * len(places) // left
            size_bytes -= share
            left -= len(places)
            held = rows if len(pieces) == 1 else [rows[place] for place in places]
            lane = key if self._plain else (number, key)
            self._waiting.add(lane, Chunk(request, held, now, turn, share, cost, places))
        return request

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Schedule the next batch: at once when enough rows wait, else when the oldest has waited long enough."""
        if self._soon:
            return
        enough = self._waiting.rows >= self._target
        if self._handle is not None and not enough:
            return
        if not enough:
            wait = self._waiting.head().arrived + self._delay - loop.time()
            if wait > 0:
                self._handle = loop.call_later(wait, self._flush, loop)
                return
        if self._handle is not None:
            self._handle.cancel()
        self._soon = True
        self._handle = loop.call_soon(self._flush, loop)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle, self._soon = None, False
        executor, waiting = self.executor, self._waiting
        free = executor.free
        if not free or not waiting.rows:
            return
        now = loop.time()
        share = self._size if free == 1 else min(self._size, -(-waiting.rows // free))
        chunks, rows = waiting.take(self._size, self._most_cost, share)
        if self._deadlines.is_set and (late := [chunk for chunk in chunks if chunk.request.deadline <= now]):
            chunks = [chunk for chunk in chunks if chunk.request.deadline > now]
            rows = sum(len(chunk.rows) for chunk in chunks)
            for chunk in late:
                self._fail(chunk.request, too_late(self.name))
        if chunks:
            self._target = rows
            batch = Batch(chunks, rows, now)
            self._running.append(batch)
            executor.run(batch)
        self._go_on(loop)

    def _finished(self, batch: Batch, outcomes: list[Outcome]) -> None:
        loop = asyncio.get_running_loop()
        self._running.remove(batch)
        seconds = perf_counter() - batch.started
        self._seconds = seconds if self._seconds == 0 else 0.8 * self._seconds + 0.2 * seconds
        for chunk, outcome in zip(batch.chunks, outcomes, strict=True):
            chunk.request.take(chunk, outcome)
        if self.on_batch is not None:
            try:
                self.on_batch(batch.rows, batch.began - min([c.arrived for c in batch.chunks]), seconds)
            except Exception:
                logger.exception("counting a batch of model %r failed", self.name)
        self._go_on(loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting.rows:
            if self.executor.free:
                self._arm(loop)
        elif self._idle is not None and not self._running:
            self._idle.set()

    def _changed(self) -> None:
        """The executor can run more, or nothing any more."""
        refusal = self.executor.refusal
        if not self._closed:
            self._refusal = refusal
        if refusal is not None:
            self._fail_waiting(refusal)
        self._go_on(asyncio.get_running_loop())

    def _fail(self, request: Request, error: Exception) -> None:
        if not request.done():
            request.set_exception(error)
        self._left(request)

    def _left(self, request: Request) -> None:
        """Drop what waits of a request that is over, and stop what runs of it if nothing else runs with it."""
        self._waiting.drop(request)
        for batch in self._running:
            if not batch.cancelled and batch.abandoned:
                batch.cancelled = True
                self.executor.cancel(batch)
        if not self.busy and self._idle is not None:
            self._idle.set()

    def _expire(self, now: float) -> float:
        running = [chunk.request for batch in self._running for chunk in batch.chunks]
        for request in [*self._waiting.expired(now), *running]:
            if request.deadline <= now and not request.done():
                self._fail(request, too_late(self.name))
        later = min((request.deadline for request in running if not request.done()), default=math.inf)
        return max(min(later, self._waiting.next_deadline()), now + _DEADLINE_SECONDS)

    async def drain(self) -> None:
        """Refuse new requests, wait until every queued row is answered, and end what runs the model."""
        self._close()
        if self.busy:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()
        self._deadlines.off()
        await self.executor.stop()

    def close(self) -> None:
        """Refuse new requests and fail the waiting ones with :class:`NotReadyError`; what runs is not interrupted."""
        self._close()
        self._fail_waiting(f"model {self.name!r} was shut down")
        self._deadlines.off()
        self.executor.close()

    def _close(self) -> None:
        self._closed = True
        self._refusal = f"model {self.name!r} is shutting down; retry against another replica"

    def _fail_waiting(self, why: str) -> None:
        for request in self._waiting.clear():
            if not request.done():
                request.set_exception(NotReadyError(why))
