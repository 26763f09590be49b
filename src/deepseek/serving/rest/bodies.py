"""Reading request bodies: at most ``max_body_bytes`` of each, within ``body_timeout_seconds``, and at most
``max_arriving_bytes`` of all that arrive at the same time.

Design: a timer for each request costs more than reading a small body does. Bodies that are being read are therefore
kept in the order of their deadlines, which is the order in which they began, and one timer looks at the oldest ones.

What granian (2.8) does, and this depends on: ``transport()`` gives the whole body and fails when the client leaves;
iterating gives its pieces and an empty one at its end, and when the client leaves a second empty one. After a read was
cancelled the transport must not be asked again: it would block the event loop until the client sends more.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar, cast

import msgspec

from deepseek.serving.errors import (
    BodiesFullError,
    BodyTimeoutError,
    BodyTooLargeError,
    RequestError,
    UnsupportedMediaError,
)
from deepseek.serving.rest.http import Transport

JSON = "application/json"
FORM = "multipart/form-data"
_SMALL = 64 * 1024
"""Bytes of a body that are not counted among those that arrive: even all connections together may hold that much."""
_ENDED_EARLY = "the body ended before its end; the client left, or announced more bytes than it sent"

T = TypeVar("T")


class BodyDeadlines:
    """Cancels the tasks that have waited too long for a body."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waiting: dict[asyncio.Task[Any], float] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> asyncio.Task[Any]:
        """Begin to wait for a body in the current task, which is returned; :meth:`end` must follow."""
        task = cast("asyncio.Task[Any]", current_task())
        self._waiting[task] = monotonic() + self.seconds
        if self._timer is None:
            loop = task.get_loop()
            self._timer = loop.call_later(self.seconds, self._sweep, loop)
        return task

    def end(self, task: asyncio.Task[Any]) -> None:
        """End to wait; raises :class:`BodyTimeoutError` in the place of the cancellation that the deadline caused."""
        if self._waiting.pop(task, None) is None and task in self._expired:
            self._expired.discard(task)
            task.uncancel()
            raise BodyTimeoutError(f"expected the whole body within {self.seconds:g} s, which have passed") from None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = monotonic()
        while self._waiting:
            task, deadline = next(iter(self._waiting.items()))
            if deadline > now:
                self._timer = loop.call_later(deadline - now, self._sweep, loop)
                return
            del self._waiting[task]
            self._expired.add(task)
            task.cancel()


class BodyReader:
    """Reads bodies within limits, given a request's headers: granian copies them whenever a scope is asked for them.

    Its errors are :class:`BodyTooLargeError`, :class:`BodiesFullError`, :class:`BodyTimeoutError`,
    :class:`UnsupportedMediaError` and :class:`RequestError`.
    """

    def __init__(self, limit: int, timeout_seconds: float, most_arriving: int = 1 << 30) -> None:
        self.limit = limit
        self.deadlines = BodyDeadlines(timeout_seconds)
        self._most_arriving = most_arriving
        self._arriving = 0

    def json(self, headers: Any, transport: Transport, *, empty: bool = False) -> Awaitable[bytes]:
        """The body of a JSON request; a content-type may be left out, another one, or compression, is refused.

        ``empty``: there need not be a body.
        """
        kind = headers.get("content-type")
        if kind is not None and kind != JSON and not _is_json(kind):
            raise UnsupportedMediaError(f"expected content-type application/json, received {kind!r:.80}")
        return self.whole(headers, transport, empty=empty)

    async def whole(self, headers: Any, transport: Transport, *, empty: bool = True) -> bytes:
        """The body, of whatever type; unless it may be ``empty``, one of JSON is expected."""
        length = self._length(headers)
        counted = self._make_room(length) if length is not None and length > _SMALL else 0
        task = self.deadlines.begin()
        try:
            if length is not None:
                body = await transport()
            else:
                body = b"".join([chunk async for chunk in self._pieces(transport)])
        except RuntimeError as error:  # granian's protocol errors
            raise RequestError(_ENDED_EARLY) from error
        finally:
            self._arriving -= counted
            self.deadlines.end(task)
        if not body and not empty:
            raise RequestError("expected a JSON body, received an empty one")
        return body

    def pieces(self, headers: Any, transport: Transport) -> AsyncIterator[bytes]:
        """The body as it arrives, without empty pieces; to be read between ``begin`` and ``end`` of the deadlines."""
        self._length(headers)
        return self._pieces(transport)

    async def discard(self, headers: Any, transport: Transport) -> None:
        """Read the body of a request whose method gives it no meaning (RFC 9110, 9.3.1), if it has one.

        Left unread it would make hyper close the connection; the client, still sending, would lose its answer.
        """
        if headers.get("content-length", "0") == "0" and headers.get("transfer-encoding") is None:
            return
        self._bounded_length(headers)
        task = self.deadlines.begin()
        try:
            async for _ in self._pieces(transport, held=False):
                pass
        finally:
            self.deadlines.end(task)

    def _length(self, headers: Any) -> int | None:
        encoding = headers.get("content-encoding")
        if encoding is not None and encoding.strip().lower() != "identity":
            raise UnsupportedMediaError(f"expected an uncompressed body, received content-encoding {encoding!r:.80}")
        return self._bounded_length(headers)

    def _bounded_length(self, headers: Any) -> int | None:
        length = headers.get("content-length")
        if length is None or not length.isdecimal():
            return None
        if int(length) > self.limit:
            raise BodyTooLargeError(f"expected a body of at most {self.limit} bytes, received {length}")
        return int(length)

    async def _pieces(self, transport: Transport, *, held: bool = True) -> AsyncIterator[bytes]:
        """``held``: whoever reads keeps the pieces, so they are counted."""
        size = empty = counted = 0
        try:
            async for chunk in transport:
                size += len(chunk)
                if size > self.limit:
                    raise BodyTooLargeError(f"expected a body of at most {self.limit} bytes, received more")
                if held and size > _SMALL:
                    counted += self._make_room(size - counted)
                if chunk:
                    yield chunk
                else:
                    empty += 1
        finally:
            self._arriving -= counted
        if empty > 1:
            raise RequestError(_ENDED_EARLY)

    def _make_room(self, size: int) -> int:
        """Count ``size`` bytes in and return them; whoever asked counts them out."""
        if self._arriving + size > self._most_arriving and self._arriving:  # one at a time fits, however large
            raise BodiesFullError(
                f"bodies of {self._arriving} bytes arrive at the moment, and of at most {self._most_arriving} may; "
                "retry later, or against another replica",
                retry_after=1.0,
            )
        self._arriving += size
        return size


def decoded(decode: Callable[[bytes], T], body: bytes, otherwise: str) -> T:
    """What msgspec decodes a body to; raises :class:`RequestError` that begins with ``otherwise`` and says why not."""
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"{otherwise}: {error}") from error


def is_form(kind: str | None) -> bool:
    """Whether a content-type is that of a form with files."""
    return kind is not None and kind[: len(FORM)].lower() == FORM


def _is_json(kind: str) -> bool:
    media = kind.partition(";")[0].strip().lower()
    return media == JSON or (media.startswith("application/") and media.endswith("+json"))
