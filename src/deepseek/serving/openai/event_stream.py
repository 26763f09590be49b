"""Server-sent events as OpenAI sends them: ``data: {...}``, at the end ``data: [DONE]`` (WHATWG HTML, 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import msgspec
from granian.rsgi import ProtocolClosed

from deepseek.serving.openai.errors import error_body
from deepseek.serving.rest.http import Transport

HEADERS = [
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),  # nginx, in front of us, would gather events
]
DONE = b"data: [DONE]\n\n"
_encoder = msgspec.json.Encoder()


class EventStream:
    """The events of one response, which begins with the first of them: until then a failure has a status of its own."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stream: Any = None
        self.started = False
        """Whether the client has been sent the status."""

    async def send(self, events: Iterable[msgspec.Struct], *, last: bool = False) -> None:
        """Send events at once, and after the last one that it was.

        Raises ``CancelledError`` when the client has left.
        """
        body = b"".join([b"data: " + _encoder.encode(event) + b"\n\n" for event in events])
        await self._send(body + DONE if last else body)

    async def fail(self, error: BaseException) -> None:
        """End a stream that has begun with an error, in the shape of every other."""
        _, body = error_body(error)
        with contextlib.suppress(asyncio.CancelledError):  # the client has left, too
            await self._send(b"data: " + _encoder.encode(body) + b"\n\n")

    def close(self) -> None:
        """End the body. granian does when nobody refers to its stream, which a traceback would go on to do."""
        self._stream = None

    async def _send(self, body: bytes) -> None:
        if self._stream is None:
            self._stream, self.started = self._transport.response_stream(200, HEADERS), True
        try:
            await self._stream.send_bytes(body)
        except ProtocolClosed as error:
            raise asyncio.CancelledError("the client disconnected") from error
