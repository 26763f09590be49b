"""Reading request bodies within their limit, and the shape of a response."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, NamedTuple, Protocol

import msgspec

from deepseek.serving.errors import BodyTooLargeError, Failure, RequestError, UnsupportedMediaError, whole_seconds
from deepseek.serving.oip.json_codec import JSON_LENGTH

JSON_HEADERS = [("content-type", "application/json")]
OCTETS = [("content-type", "application/octet-stream")]
_LINGER_SECONDS = 5.0
_LINGER_BODIES = 8


class Scope(Protocol):
    """What we use of ``granian.rsgi.Scope``."""

    method: str
    path: str
    headers: Any


class Transport(Protocol):
    """What we use of ``granian.rsgi.HTTPProtocol``."""

    async def __call__(self) -> bytes: ...

    def __aiter__(self) -> Any: ...

    async def client_disconnect(self) -> None: ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Any: ...


class Response(NamedTuple):
    """A complete answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


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
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


def json_length(headers: Any) -> int | None:
    """How many bytes of the body are JSON, in the binary tensor extension; ``None``: all of them."""
    text = headers.get(JSON_LENGTH)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 12:
        raise RequestError(f"expected {JSON_LENGTH} to be a number of bytes, received {text!r:.60}")
    return int(text)


async def read_json_body(scope: Scope, transport: Transport, limit: int) -> bytes:
    """Read a JSON request's body of at most ``limit`` bytes; raises what :func:`read_body` raises."""
    return await read_body(scope.headers, transport, limit)


async def read_body(
    headers: Any, transport: Transport, limit: int, *, binary: bool = False, empty: bool = False
) -> bytes:
    """Read a request's body of at most ``limit`` bytes.

    Args:
        binary: it may be of any media type; otherwise it must be JSON.
        empty: there need not be one.

    Raises:
        BodyTooLargeError: from the content-length, or while reading a chunked body.
        UnsupportedMediaError: another media type, or compression.
        RequestError: it is empty.
    """
    kind = headers.get("content-type")
    if not binary and kind is not None and kind != "application/json" and not _is_json(kind):
        raise UnsupportedMediaError(f"expected content-type application/json, received {kind!r:.80}")
    encoding = headers.get("content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise UnsupportedMediaError(f"expected an uncompressed body, received content-encoding {encoding!r:.80}")
    length = headers.get("content-length")
    if length is not None and length.isdecimal():
        if int(length) > limit:
            raise BodyTooLargeError(f"expected a body of at most {limit} bytes, received {length}")
        body = await transport()
    else:
        body = await _read_chunks(transport, limit)
    if not body and not empty:
        raise RequestError("expected a JSON body, received an empty one")
    return body


def _is_json(kind: str) -> bool:
    media = kind.partition(";")[0].strip().lower()
    return media == "application/json" or (media.startswith("application/") and media.endswith("+json"))


async def _read_chunks(transport: Transport, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in transport:
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError(f"expected a body of at most {limit} bytes, received more")
        chunks.append(chunk)
    return b"".join(chunks)


async def linger(transport: Transport, limit: int) -> None:
    """Discard the rest of a refused body, within bounds, after the answer is on its way.

    Closing at once would reset the connection, and the client's kernel may then drop the answer before the client,
    still sending, reads it (RFC 9112, 9.6).
    """
    left = limit * _LINGER_BODIES
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_LINGER_SECONDS):
            async for chunk in transport:
                left -= len(chunk)
                if left < 0 or not chunk:
                    return
