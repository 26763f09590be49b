"""One thread that runs one model, so that the event loop never blocks and the model needs no locks.

Not a ``ThreadPoolExecutor``: that one joins its threads when the interpreter ends, so a model that hangs would keep the
process from ending after the drain; and its futures cost more than the hand-over that a batch needs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")

logger = logging.getLogger("deepseek.serving")


class ModelThread(Generic[A, R]):
    """Calls ``work(argument)`` in its own thread and hands ``(argument, result)`` back to the loop, in order."""

    def __init__(self, name: str, work: Callable[[A], R], done: Callable[[A, R | BaseException], None]) -> None:
        self._work = work
        self._done = done
        self._calls: SimpleQueue[tuple[asyncio.AbstractEventLoop, A] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"deepseek-model-{name}", daemon=True)
        self._started = False

    def call(self, loop: asyncio.AbstractEventLoop, argument: A) -> None:
        """Queue one call; its result arrives in ``loop``."""
        if not self._started:
            self._started = True
            self._thread.start()
        self._calls.put((loop, argument))

    def close(self) -> None:
        """Let the thread end after the call that it is in."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            loop, argument = call
            result: R | BaseException
            try:
                result = self._work(argument)
            except BaseException as error:  # noqa: BLE001  a dead thread would leave every later request waiting forever
                result = error
            try:
                loop.call_soon_threadsafe(self._done, argument, result)
            except RuntimeError:
                logger.warning("a model finished after its event loop was closed; its answer is lost")
                return
