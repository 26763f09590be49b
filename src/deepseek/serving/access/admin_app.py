"""The admin port: keys, plans and usage over HTTP, as an RSGI application of its own.

It is meant for a loopback port beside the public ones, and asks for the admin token in every request all the same:
anything that runs on the machine can connect to loopback. Without a token there is no such application. No key opens
it, and the token opens nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.serving.access.admin import AccessAdmin, IssuedKey, usage_csv
from deepseek.serving.access.config import ADMIN_TOKEN_VARIABLE, SHORTEST_ADMIN_TOKEN
from deepseek.serving.access.lifetimes import day, duration, lifetime
from deepseek.serving.errors import AuthenticationError, BodyTooLargeError, RequestError, describe
from deepseek.serving.rest.bodies import BodyReader
from deepseek.serving.rest.http import (
    Response,
    Scope,
    Transport,
    failure_response,
    json_response,
    linger,
)

MAX_BODY_BYTES = 64 * 1024
_BODY_SECONDS = 10.0
_KEYS = "/admin/keys"
_PARAMETERS = ("from", "to", "key", "model", "format")
_NO_STORE = ("cache-control", "no-store")


class AdminScope(Scope, Protocol):
    """What is used of a request here."""

    query_string: str


class CreateKey(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /admin/keys``."""

    name: str
    plan: str | None = None
    models: list[str] = msgspec.field(default_factory=lambda: ["*"])
    owner: str = ""
    note: str = ""
    expires: str | None = None
    """A duration (``30d``) or a day (``2027-01-31``)."""


class RotateKey(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /admin/keys/{id}/rotate``; it may be left out."""

    overlap: str = "24h"
    """How long the current secret still works."""


class _Route(NamedTuple):
    method: str
    handler: Callable[[AdminScope, Transport], Awaitable[Response]]


class AdminApp:
    """Answers ``/admin/...`` for whoever has the ``token``; give it to granian as the RSGI target.

    Raises :class:`ConfigError` without a token of at least 16 characters.
    """

    def __init__(self, admin: AccessAdmin, token: str | None) -> None:
        if token is None or len(token) < SHORTEST_ADMIN_TOKEN:
            raise ConfigError(
                f"the admin port needs a token of at least {SHORTEST_ADMIN_TOKEN} characters; "
                f"set admin_token, or the environment variable {ADMIN_TOKEN_VARIABLE}"
            )
        self._admin = admin
        self._bodies = BodyReader(MAX_BODY_BYTES, _BODY_SECONDS)
        self._token = hashlib.sha256(token.encode()).digest()
        self._routes = {
            _KEYS: (_Route("GET", self._list), _Route("POST", self._create)),
            "/admin/plans": (_Route("GET", self._plans),),
            "/admin/usage": (_Route("GET", self._usage),),
        }

    async def __rsgi__(self, scope: AdminScope, transport: Transport) -> None:
        """Answer one request."""
        try:
            self._authenticate(scope)
            response = await self._answer(scope, transport)
        except Exception as error:  # noqa: BLE001  the boundary: every request gets an answer
            response = failure_response(describe(error))
            if response.status == 401:
                response = _with(response, ("www-authenticate", 'Bearer realm="deepseek admin"'))
            if isinstance(error, AuthenticationError | BodyTooLargeError):  # what of the body is unread stays so
                transport.response_bytes(response.status, [*response.headers, ("connection", "close")], response.body)
                await linger(transport, MAX_BODY_BYTES)
                return
        transport.response_bytes(*_with(response, _NO_STORE))

    def _authenticate(self, scope: AdminScope) -> None:
        value = scope.headers.get("authorization") or ""
        given = value[7:].strip() if value[:7].lower() == "bearer " else ""
        # of equal length whatever is sent, so that the comparison's time tells nothing about the token's length either
        if not hmac.compare_digest(hashlib.sha256(given.encode(errors="surrogatepass")).digest(), self._token):
            raise AuthenticationError("expected the admin token as 'Authorization: Bearer ...'")

    async def _answer(self, scope: AdminScope, transport: Transport) -> Response:
        path = scope.path.rstrip("/")
        routes = self._routes.get(path) or self._match(path)
        if scope.method != "POST" or not routes:
            await self._bodies.discard(scope.headers, transport)
        if not routes:
            raise UnknownNameError("URL", path, [*self._routes, f"{_KEYS}/{{id}}", f"{_KEYS}/{{id}}/rotate"])
        for route in routes:
            if route.method == scope.method:
                return await route.handler(scope, transport)
        allowed = ", ".join(route.method for route in routes)
        response = json_response({"error": f"expected {allowed} on {path}, received {scope.method}"}, 405)
        return _with(response, ("allow", allowed))

    def _match(self, path: str) -> tuple[_Route, ...]:
        key, _, action = path.removeprefix(f"{_KEYS}/").partition("/")
        if not path.startswith(f"{_KEYS}/") or not key:
            return ()
        key = unquote(key)
        if not action:
            return (_Route("DELETE", lambda scope, transport: self._revoke(key)),)
        if action == "rotate":
            return (_Route("POST", lambda scope, transport: self._rotate(key, scope, transport)),)
        return ()

    async def _list(self, scope: AdminScope, transport: Transport) -> Response:
        return json_response({"keys": [record.public(self._admin.now) for record in await self._admin.keys()]})

    async def _create(self, scope: AdminScope, transport: Transport) -> Response:
        asked = _decode(await self._bodies.json(scope.headers, transport), CreateKey)
        issued = await self._admin.create(
            asked.name,
            plan=asked.plan,
            models=asked.models,
            owner=asked.owner,
            note=asked.note,
            lifetime=None if asked.expires is None else lifetime(asked.expires, self._admin.now),
        )
        return self._issued(issued, 201)

    async def _revoke(self, key: str) -> Response:
        return json_response((await self._admin.revoke(key)).public(self._admin.now))

    async def _rotate(self, key: str, scope: AdminScope, transport: Transport) -> Response:
        asked = RotateKey()
        headers = scope.headers
        if headers.get("content-length", "0") != "0" or headers.get("transfer-encoding") is not None:
            asked = _decode(await self._bodies.json(scope.headers, transport), RotateKey)
        return self._issued(await self._admin.rotate(key, duration(asked.overlap)), 200)

    async def _plans(self, scope: AdminScope, transport: Transport) -> Response:
        return json_response({"plans": {name: plan.model_dump() for name, plan in self._admin.plans().items()}})

    async def _usage(self, scope: AdminScope, transport: Transport) -> Response:
        asked = dict(parse_qsl(scope.query_string, keep_blank_values=True))
        for name in asked:
            if name not in _PARAMETERS:
                raise UnknownNameError("parameter", name, _PARAMETERS)
        kind = asked.get("format") or "json"
        if kind not in {"csv", "json"}:
            raise RequestError(f"format: expected csv or json, received {kind!r:.80}")
        rows = await self._admin.usage(
            day(asked["from"]) if asked.get("from") else None,
            day(asked["to"]) if asked.get("to") else None,
            key=asked.get("key", ""),
            model=asked.get("model", ""),
        )
        if kind == "json":
            return json_response({"usage": rows})
        headers = [
            ("content-type", "text/csv; charset=utf-8"),
            ("content-disposition", 'attachment; filename="usage.csv"'),
        ]
        return Response(200, headers, usage_csv(rows).encode())

    def _issued(self, issued: IssuedKey, status: int) -> Response:
        return json_response({"key": issued.key, **issued.record.public(self._admin.now)}, status)


def _decode(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        fields = ", ".join(kind.__struct_fields__)
        raise RequestError(f"the body is not what is expected here: {error}. Fields: {fields}") from error


def _with(response: Response, header: tuple[str, str]) -> Response:
    return response._replace(headers=[*response.headers, header])
