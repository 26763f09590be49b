"""``/v1/features``: the newest features of entities, out of the online store.

- ``GET /v1/features`` lists the feature views, ``GET /v1/features/{view}`` describes one.
- ``GET /v1/features/{view}?entity=42&entity=43`` reads them for keys of views with one key column; for others the
  value is a JSON object. ``feature`` (may be repeated), ``at`` and ``full_feature_names`` as below.
- ``POST /v1/features/{view}``, or ``POST /v1/features`` for features of several views::

      {"entities": [{"customer": 42}] | {"customer": [42, 43]}, "features": ["amount", "shops:score"],
       "at": "2026-01-31T12:00:00Z", "full_feature_names": false}

  Without ``features`` all of the view's are read; a name without a view is a feature of the path's view.

The answer is ``{"rows": [{"customer": 42, "amount": 3.5}]}`` with one row for each entity, in their order, and nulls
where nothing is known or the row is older than the view's time to live. With ``accept:
application/vnd.apache.arrow.stream`` it is an Arrow IPC stream, which keeps types that JSON lacks.
"""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from deepseek.serving.errors import RequestError
from deepseek.serving.features.permission import admit
from deepseek.serving.features.proto_codec import arrow_stream
from deepseek.serving.features.reads import FeatureReads, FeatureRequest
from deepseek.serving.gateway import Call, Gateway
from deepseek.serving.rest.bodies import BodyReader, decoded
from deepseek.serving.rest.http import Handler, Response, Scope, Transport, json_response

ARROW = "application/vnd.apache.arrow.stream"
_MOST_QUERY_FIELDS = 1000


class FeatureBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a POST."""

    entities: list[dict[str, Any]] | dict[str, list[Any]]
    features: list[str] | None = None
    at: dt.datetime | None = None
    full_feature_names: bool = False


_decoder = msgspec.json.Decoder(FeatureBody)


class FeatureRoutes:
    """Handlers of ``/v1/features``."""

    def __init__(self, gateway: Gateway, bodies: BodyReader, reads: FeatureReads) -> None:
        self._gateway = gateway
        self._bodies = bodies
        self._reads = reads

    async def views(self, scope: Scope, transport: Transport) -> Response:
        """``GET /v1/features``."""
        with self._gateway.begin("rest", "features", scope.headers):
            catalogue = await self._reads.catalogue()
            return json_response({"views": [served.describe() for served in catalogue.values()]})

    def query(self, view: str) -> Handler:
        """``GET /v1/features/{view}``: with entities a read, without a description."""

        async def handle(scope: Scope, transport: Transport) -> Response:
            with self._gateway.begin("rest", "features", scope.headers) as call:
                request = _query_request(view, scope.query_string)
                if request is None:
                    (name,) = await self._reads.views((unquote(view),))
                    return json_response((await self._reads.catalogue())[name].describe())
                return await self._answer(call, request, scope)

        return handle

    def read(self, view: str = "") -> Handler:
        """``POST /v1/features[/{view}]``."""

        async def handle(scope: Scope, transport: Transport) -> Response:
            with self._gateway.begin("rest", "features", scope.headers) as call:
                body = await self._bodies.json(scope.headers, transport)
                asked = decoded(_decoder.decode, body, "the body is not a request for features")
                request = FeatureRequest(
                    features=_names(unquote(view), asked.features),
                    entities=_entities(asked.entities),
                    at=asked.at,
                    full_feature_names=asked.full_feature_names,
                )
                return await self._answer(call, request, scope)

        return handle

    async def _answer(self, call: Call, request: FeatureRequest, scope: Scope) -> Response:
        views = await self._reads.views(request.features)
        await admit(self._gateway, call, views, len(request.entities) or len(request.texts))
        if ARROW in (scope.headers.get("accept") or ""):
            stream = arrow_stream(await self._reads.table(request))
            return Response(200, [("content-type", ARROW)], stream)
        return json_response({"rows": await self._reads.rows(request)})


def _names(view: str, features: list[str] | None) -> tuple[str, ...]:
    if features is None:
        return (view,) if view else ()
    return tuple(f"{view}:{name}" if view and ":" not in name else name for name in features)


def _entities(given: list[dict[str, Any]] | dict[str, list[Any]]) -> list[dict[str, Any]]:
    if isinstance(given, list):
        return given
    lengths = {name: len(values) for name, values in given.items()}
    if len(set(lengths.values())) > 1:
        received = ", ".join(f"{name!r:.40} {length}" for name, length in lengths.items())
        raise RequestError(f"entities: expected columns of one length, received {received}")
    return [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]


def _query_request(view: str, query: str) -> FeatureRequest | None:
    try:
        fields = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_QUERY_FIELDS)
    except ValueError as error:  # UnicodeDecodeError is one
        raise RequestError(f"the query string cannot be read: {error}") from error
    texts: list[str] = []
    entities: list[dict[str, Any]] = []
    features: list[str] = []
    at: dt.datetime | None = None
    full = False
    for name, value in fields:
        if name == "entity":
            _entity(value, texts, entities)
        elif name == "feature":
            features.append(value)
        elif name == "at":
            at = _convert("at", value, dt.datetime)
        elif name == "full_feature_names":
            full = _convert("full_feature_names", value, bool)
        else:
            raise RequestError(f"unknown query parameter {name!r:.60}; known: entity, feature, at, full_feature_names")
    if texts and entities:
        raise RequestError("entity: expected either plain values or JSON objects, received both")
    if not texts and not entities:
        if fields:
            raise RequestError("expected at least one entity=..., received none")
        return None
    return FeatureRequest(
        features=_names(unquote(view), features or None),
        entities=entities,
        texts=tuple(texts),
        at=at,
        full_feature_names=full,
    )


def _entity(value: str, texts: list[str], entities: list[dict[str, Any]]) -> None:
    if not value.startswith("{"):
        texts.append(value)
        return
    try:
        entities.append(msgspec.json.decode(value, type=dict[str, Any]))
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError(f"entity: expected a value or a JSON object, received {value!r:.80}: {error}") from error


def _convert(name: str, value: str, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(f"{name}: {error}") from error
