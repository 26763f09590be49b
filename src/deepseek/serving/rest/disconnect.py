"""Cancelling the work of HTTP clients that leave.

Watching a connection costs a Rust future and a task, more than a fast prediction does; so a request is watched only
once it has taken long enough for a client to lose patience.

granian tells when a connection ends, not when an HTTP/2 client resets one of many streams on it: such a request is
computed and its answer dropped.
"""

from __future__ import annotations

import asyncio
from typing import Any

from deepseek.serving.rest.http import Transport

WATCH_AFTER_SECONDS = 0.1


async def result_or_disconnect(transport: Transport, future: asyncio.Future[Any]) -> Any:
    """Await ``future``; cancel it, and raise ``CancelledError``, when the client disconnects first."""
    loop = asyncio.get_running_loop()
    watchers: list[asyncio.Task[None]] = []

    async def watch() -> None:
        await transport.client_disconnect()
        future.cancel("the client disconnected")

    timer = loop.call_later(WATCH_AFTER_SECONDS, lambda: watchers.append(loop.create_task(watch())))
    try:
        return await future
    finally:
        timer.cancel()
        for watcher in watchers:
            watcher.cancel()
