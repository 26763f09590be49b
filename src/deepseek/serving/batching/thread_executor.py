"""One thread that runs one model, so that the event loop never blocks and the model needs no locks.

Not a ``ThreadPoolExecutor``: that one joins its threads when the interpreter ends, so a model that hangs would keep the
process from ending after the drain; and its futures cost more than the hand-over that a batch needs.

A thread cannot be ended from outside. A batch that takes too long therefore fails its requests, and the model stays
unready until the call returns; in a process of its own (:mod:`deepseek.serving.workers`) it would be replaced.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from queue import SimpleQueue

from deepseek.serving.batching.alarm import Alarm
from deepseek.serving.batching.answering import Predict, answer
from deepseek.serving.batching.executor import Changed, Finished
from deepseek.serving.batching.request import Batch, Outcome
from deepseek.serving.errors import DeadlineError

logger = logging.getLogger("deepseek.serving")

_CANCEL_SECONDS = 1.0


class ThreadExecutor:
    """Runs the batches of ``predict`` in a thread of this process, one at a time.

    ``cancel``, if the model has one, asks it to give up the call that runs: it is called from another thread, perhaps
    more than once, returns at once, and does nothing to later calls.
    """

    width = 1

    def __init__(self, predict: Predict, *, name: str = "model", cancel: Callable[[], object] | None = None) -> None:
        self.name = name
        self.free = 1
        self.refusal: str | None = None
        self._predict = predict
        self._cancel = cancel
        self._calls: SimpleQueue[tuple[asyncio.AbstractEventLoop, Batch] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._finished: Finished
        self._changed: Changed
        self._timeout = math.inf
        self._alarm = Alarm(self._overdue)
        self._running: Batch | None = None
        self._due = math.inf

    @property
    def ready(self) -> bool:
        """Whether it can answer: not while a call hangs."""
        return self.refusal is None

    def attach(self, finished: Finished, changed: Changed, timeout_seconds: float | None) -> None:
        """As :meth:`Executor.attach`."""
        self._finished, self._changed = finished, changed
        self._timeout = math.inf if timeout_seconds is None else timeout_seconds

    def run(self, batch: Batch) -> None:
        """Queue one batch; its outcomes arrive in the running loop."""
        assert self.free
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"deepseek-model-{self.name}", daemon=True)
            self._thread.start()
        self.free = 0
        self._running = batch
        self._due = loop.time() + self._timeout
        self._alarm.set(self._due, loop)
        self._calls.put((loop, batch))

    def cancel(self, batch: Batch) -> None:
        """Tell the model, if it can be told, that nobody waits for what it runs.

        It is told every second until it returns, because the first time may have been just before it began to listen.
        """
        if self._cancel is None or batch is not self._running:
            return
        asyncio.get_running_loop().call_later(_CANCEL_SECONDS, self.cancel, batch)
        try:
            self._cancel()
        except Exception:
            logger.exception("model %r failed to cancel its call", self.name)

    async def stop(self) -> None:
        """Let the thread end after the call that it is in."""
        self.close()

    def close(self) -> None:
        """Let the thread end after the call that it is in."""
        self._alarm.off()
        self._calls.put(None)

    def _work(self) -> None:
        """In the thread."""
        while (call := self._calls.get()) is not None:
            loop, batch = call
            outcomes: list[Outcome]
            try:
                if batch.cancelled:  # before it began, when the model could not be told
                    outcomes = [[] for _ in batch.chunks]
                else:
                    outcomes = answer(self._predict, batch.pieces, batch.parameters, batch.wanted, self.name)
            except BaseException as error:  # noqa: BLE001  a dead thread would leave every later request waiting forever
                failed = RuntimeError(f"the thread of model {self.name!r} was interrupted")
                failed.__cause__ = error
                outcomes = [failed] * len(batch.chunks)
            try:
                loop.call_soon_threadsafe(self._returned, batch, outcomes)
            except RuntimeError:
                logger.warning("a model finished after its event loop was closed; its answer is lost")
                return
            del call, batch, outcomes  # else an idle thread would hold the last rows and answers

    def _returned(self, batch: Batch, outcomes: list[Outcome]) -> None:
        self.free = 1
        self._running = None
        if self.refusal is None:
            self._finished(batch, outcomes)
        else:
            logger.warning("model %r returned from the call that took too long; it is ready again", self.name)
            self.refusal = None
            self._changed()

    def _overdue(self, now: float) -> float:
        batch = self._running
        if batch is None or self.refusal is not None:
            return math.inf
        if self._due > now:
            return self._due
        logger.error(
            "model %r has not returned after %g seconds; it is not ready until it does", self.name, self._timeout
        )
        self.refusal = (
            f"model {self.name!r} has worked for more than {self._timeout:g} seconds on one batch, and nothing else "
            f"can run until it returns; retry later or against another replica"
        )
        self.cancel(batch)
        message = f"model {self.name!r} took more than {self._timeout:g} seconds for a batch; it was given up"
        self._finished(batch, [DeadlineError(message) for _ in batch.chunks])
        self._changed()
        return math.inf
