"""Cross-origin resource sharing (the Fetch standard, "CORS protocol"): which web pages may use the server.

Off by default: no origin but the server's own may read its answers. Wildcards are left out on purpose, since a page on
any origin would then reach a server on its visitor's loopback; credentials are, because keys travel in a header that
a page sets by itself.

The application is wrapped only when origins are allowed, so a server without them runs none of this.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from deepseek.serving.rest.http import Scope, Transport

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
_METHODS = "GET, HEAD, POST"
_REQUEST_HEADERS = "authorization, content-type, x-api-key, x-request-id"
_EXPOSED = "retry-after, x-request-id"

Headers = list[tuple[str, str]]


class CorsConfig(BaseModel):
    """The allow-list; raises ``pydantic.ValidationError`` for what is no origin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow_origins: tuple[str, ...] = Field(
        default=(),
        description="Origins of web pages that may call the REST side, such as https://app.example.com. None: off.",
    )
    max_age_seconds: int = Field(
        default=600, ge=0, le=86400, description="How long a browser may remember that it may call, in seconds."
    )

    @field_validator("allow_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"expected an origin: scheme, host and port in lower case without a path, such as "
                    f"https://app.example.com or http://localhost:3000; received {origin!r}"
                )
        return origins


class Application(Protocol):
    """An RSGI application."""

    async def __rsgi__(self, scope: Scope, transport: Transport) -> None: ...


class CorsApp:
    """An RSGI application in front of another: answers preflights, and marks answers to allowed origins."""

    def __init__(self, inner: Application, config: CorsConfig) -> None:
        self._inner = inner
        self._origins = frozenset(config.allow_origins)
        self._max_age = str(config.max_age_seconds)

    async def __rsgi__(self, scope: Scope, transport: Transport) -> None:
        """Answer one request."""
        headers = scope.headers
        origin = headers.get("origin")
        allowed = origin if origin in self._origins else None
        if scope.method == "OPTIONS" and origin is not None and "access-control-request-method" in headers:
            transport.response_bytes(204 if allowed else 403, self._preflight(allowed), b"")
            return
        await self._inner.__rsgi__(scope, _Marking(transport, _marks(allowed)))

    def _preflight(self, allowed: str | None) -> Headers:
        if allowed is None:
            return [("vary", "origin")]
        return [
            ("access-control-allow-origin", allowed),
            ("access-control-allow-methods", _METHODS),
            ("access-control-allow-headers", _REQUEST_HEADERS),
            ("access-control-max-age", self._max_age),
            ("vary", "origin"),
        ]


def _marks(allowed: str | None) -> Headers:
    if allowed is None:
        return [("vary", "origin")]
    return [
        ("access-control-allow-origin", allowed),
        ("access-control-expose-headers", _EXPOSED),
        ("vary", "origin"),
    ]


class _Marking:
    """A transport that adds headers to whatever is answered through it."""

    def __init__(self, transport: Any, marks: Headers) -> None:
        self._transport = transport
        self._marks = marks

    def __call__(self) -> Any:
        return self._transport()

    def __aiter__(self) -> Any:
        return self._transport.__aiter__()

    def __anext__(self) -> Any:
        return self._transport.__anext__()

    def client_disconnect(self) -> Any:
        return self._transport.client_disconnect()

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        self._transport.response_bytes(status, [*headers, *self._marks], body)

    def response_str(self, status: int, headers: Headers, body: str) -> None:
        self._transport.response_str(status, [*headers, *self._marks], body)

    def response_empty(self, status: int, headers: Headers) -> None:
        self._transport.response_empty(status, [*headers, *self._marks])

    def response_stream(self, status: int, headers: Headers) -> Any:
        return self._transport.response_stream(status, [*headers, *self._marks])
