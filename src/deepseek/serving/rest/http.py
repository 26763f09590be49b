"""What a request and a response look like here, and how a response is made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec

from deepseek.serving.errors import Failure, whole_seconds

JSON_HEADERS = [("content-type", "application/json")]
OCTETS = [("content-type", "application/octet-stream")]
_LINGER_SECONDS = 5.0
_LINGER_BODIES = 8


class Scope(Protocol):
    """What we use of ``granian.rsgi.Scope``."""

    method: str
    path: str
    query_string: str
    headers: Any


class Transport(Protocol):
    """What we use of ``granian.rsgi.HTTPProtocol``."""

    async def __call__(self) -> bytes: ...

    def __aiter__(self) -> Any: ...

    def __anext__(self) -> Awaitable[bytes]: ...

    async def client_disconnect(self) -> None: ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Any: ...


class Response(NamedTuple):
    """A complete answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Handler: TypeAlias = Callable[[Scope, Transport], Awaitable[Response]]


def json_response(content: Any, status: int = 200) -> Response:
    """Encode any content that msgspec can, numpy arrays and scalars included."""
    return Response(status, JSON_HEADERS, msgspec.json.encode(content, enc_hook=_plain))


def failure_response(failure: Failure) -> Response:
    """The protocol's error object, ``{"error": message}``, with ``Retry-After`` where retrying helps."""
    response = json_response({"error": failure.message}, failure.http_status)
    return response._replace(headers=[*JSON_HEADERS, *failure_headers(failure)])


def failure_headers(failure: Failure) -> list[tuple[str, str]]:
    """``Retry-After`` where retrying helps, ``WWW-Authenticate`` where a key does (RFC 9110, 10.2.3 and 11.6.1)."""
    if failure.retry_after is not None:
        return [("retry-after", whole_seconds(failure.retry_after))]
    return [("www-authenticate", "Bearer")] if failure.http_status == 401 else []


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):  # pandas' times, which Arrow gives for nanoseconds
        return value.isoformat()
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


async def linger(transport: Transport, limit: int) -> None:
    """Discard the rest of a refused body, within bounds, after the answer is on its way.

    Closing at once would reset the connection, and the client's kernel may then drop the answer before the client,
    still sending, reads it (RFC 9112, 9.6).
    """
    left = limit * _LINGER_BODIES
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_LINGER_SECONDS):
            try:
                chunks = transport.__aiter__()
            except RuntimeError:  # it was begun already: go on with it
                chunks = transport
            while chunk := await chunks.__anext__():
                left -= len(chunk)
                if left < 0:
                    return
