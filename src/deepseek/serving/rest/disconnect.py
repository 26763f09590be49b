"""Cancelling the work of HTTP clients that leave.

Watching a connection costs a Rust future and a task, more than a fast prediction does; so a request is watched only
once it has taken long enough for a client to lose patience. One timer a loop looks for such requests, not one each.

granian tells when a connection ends, not when an HTTP/2 client resets one of many streams on it: such a request is
computed and its answer dropped.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from deepseek.serving.rest.http import Transport

WATCH_AFTER_SECONDS = 0.1
"""A request is watched after this time, at twice it at the latest."""

Future = asyncio.Future[Any]


class _Watch:
    """The requests of one event loop that are waiting for a model."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._fresh: dict[Future, Transport] = {}
        self._seen: dict[Future, Transport] = {}
        self._watchers: dict[Future, asyncio.Task[None]] = {}
        self._armed = False

    def add(self, transport: Transport, future: Future) -> None:
        self._fresh[future] = transport
        if not self._armed:
            self._armed = True
            self.loop.call_later(WATCH_AFTER_SECONDS, self._look)

    def remove(self, future: Future) -> None:
        if self._fresh.pop(future, None) is None and self._seen.pop(future, None) is None:
            watcher = self._watchers.pop(future, None)
            if watcher is not None:
                watcher.cancel()

    def _look(self) -> None:
        """Watch what was here at the last look already."""
        for future, transport in self._seen.items():
            self._watchers[future] = self.loop.create_task(_cancel_on_disconnect(transport, future))
        self._seen, self._fresh = self._fresh, {}
        self._armed = bool(self._seen)
        if self._armed:
            self.loop.call_later(WATCH_AFTER_SECONDS, self._look)


async def _cancel_on_disconnect(transport: Transport, future: Future) -> None:
    await transport.client_disconnect()
    future.cancel("the client disconnected")


class _Here(threading.local):
    """The watch of the loop that runs in this thread; a thread runs one at a time."""

    watch: _Watch | None = None


_here = _Here()


async def result_or_disconnect(transport: Transport, future: Future) -> Any:
    """Await ``future``; cancel it, and raise ``CancelledError``, when the client disconnects first."""
    loop = asyncio.get_running_loop()
    watch = _here.watch
    if watch is None or watch.loop is not loop:
        watch = _here.watch = _Watch(loop)
    watch.add(transport, future)
    try:
        return await future
    finally:
        watch.remove(future)
