"""The RSGI application: finds the route, runs it, turns exceptions into answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from deepseek.errors import UnknownNameError
from deepseek.serving.config import ServingConfig
from deepseek.serving.errors import (
    AuthenticationError,
    BodyTooLargeError,
    NotReadyError,
    UnsupportedMediaError,
    describe,
)
from deepseek.serving.gateway import Gateway
from deepseek.serving.openai.errors import error_response
from deepseek.serving.openai.routes import MODELS, OpenAIRoutes
from deepseek.serving.rest.http import JSON_HEADERS, Response, Scope, Transport, failure_response, json_response, linger
from deepseek.serving.rest.information import Information
from deepseek.serving.rest.monitoring_routes import MonitoringRoutes
from deepseek.serving.rest.oip_routes import OipRoutes
from deepseek.serving.rest.task_routes import TaskRoutes

Handler = Callable[[Scope, Transport], Awaitable[Response | None]]
"""``None``: the handler has answered by itself."""
_MODELS = "/v2/models/"
_TASKS = "/v1/tasks/"
_REPOSITORY = "/v2/repository/models/"
_REMEMBERED = 1024


def _failed(error: BaseException) -> Response:
    return failure_response(describe(error))


class _Route(NamedTuple):
    method: str
    handler: Handler
    failed: Callable[[BaseException], Response] = _failed
    """How the route's protocol tells a failure."""


class RestApp:
    """Answers every REST route of one gateway; give it to granian as the RSGI target."""

    def __init__(self, config: ServingConfig, gateway: Gateway) -> None:
        self._limit = config.max_body_bytes
        self._openai = OpenAIRoutes(gateway, self._limit)
        self._oip = OipRoutes(gateway, self._limit, config.model_control)
        self._tasks = TaskRoutes(gateway, self._limit)
        self._monitoring = MonitoringRoutes(gateway, self._limit)
        self._routes: dict[str, _Route] = {}
        information = Information(gateway)
        self._static: dict[str, _Route] = {
            "/": _Route("GET", information.index),
            "/metrics": _Route("GET", self._monitoring.metrics),
            "/openapi.json": _Route("GET", information.openapi),
            "/v2": _Route("GET", self._oip.server_metadata),
            "/v2/health/live": _Route("GET", self._oip.live),
            "/v2/health/ready": _Route("GET", self._oip.ready),
            "/v2/models/stats": _Route("GET", self._oip.statistics()),
            "/v2/repository/index": _Route("POST", self._oip.index),
        }
        for path, (method, handler) in self._openai.static.items():
            self._static[path] = _Route(method, handler, error_response)

    async def __rsgi__(self, scope: Scope, transport: Transport) -> None:
        """Answer one request."""
        path, method = scope.path, scope.method
        route = self._static.get(path) or self._routes.get(path) or self._match(path)
        if route is None or (method != route.method and not (method == "HEAD" and route.method == "GET")):
            refusal = self._unknown(path) if route is None else _method_not_allowed(method, path, route.method)
            await self._refuse(transport, refusal)
            return
        response: Response | None
        try:
            response = await route.handler(scope, transport)
        except asyncio.CancelledError:
            # The client left, or the drain ran out of time; in the second case somebody still listens.
            response = route.failed(NotReadyError("the request was cancelled before it was answered"))
        except (AuthenticationError, BodyTooLargeError, UnsupportedMediaError, NotReadyError) as error:
            await self._refuse(transport, route.failed(error))
            return
        except Exception as error:  # noqa: BLE001  the boundary: every request gets an answer
            response = route.failed(error)
        if response is not None:
            transport.response_bytes(*response)

    async def _refuse(self, transport: Transport, response: Response) -> None:
        """Answer a request whose body may be unread: the connection cannot be used again."""
        transport.response_bytes(response.status, [*response.headers, ("connection", "close")], response.body)
        await linger(transport, self._limit)

    def _unknown(self, path: str) -> Response:
        patterns = ("/v2/models/{model}", "/v2/models/{model}/infer", "/v1/tasks/{task}", "/v2/repository/index")
        error = UnknownNameError("URL", path, [*self._static, *patterns], "GET / lists the URLs.")
        return failure_response(describe(error))

    def _match(self, path: str) -> _Route | None:
        """Find the route of a path that names a model or a task; names may contain slashes, percent-encoded or not."""
        if path.startswith(_MODELS):
            name, _, action = path.removeprefix(_MODELS).rpartition("/")
            if action == "infer" and name:
                return self._remember(path, _Route("POST", self._oip.infer(*_versioned(name))))
            if action == "ready" and name:
                return _Route("GET", self._oip.model_ready(*_versioned(name)))
            if action == "labels" and name:
                return self._remember(path, _Route("POST", self._monitoring.labels(*_versioned(name))))
            if action == "stats" and name:
                return _Route("GET", self._oip.statistics(*_versioned(name)))
            return _Route("GET", self._oip.model_metadata(*_versioned(path.removeprefix(_MODELS).rstrip("/"))))
        if path.startswith(MODELS) and len(path) > len(MODELS):
            return _Route("GET", self._openai.model(path.removeprefix(MODELS)), error_response)
        if path.startswith(_TASKS):
            return _Route("POST", self._tasks.run(path.removeprefix(_TASKS).rstrip("/")))
        if path.startswith(_REPOSITORY):
            name, _, action = path.removeprefix(_REPOSITORY).rpartition("/")
            if action in ("load", "unload") and name:
                return _Route("POST", (self._oip.load if action == "load" else self._oip.unload)(name))
        return self._static.get(path.rstrip("/"))

    def _remember(self, path: str, route: _Route) -> _Route:
        """Keep a route that clients ask for again and again; a handler knows names, not models, so it never ages."""
        if len(self._routes) >= _REMEMBERED:
            self._routes.clear()
        self._routes[path] = route
        return route


def _versioned(name: str) -> tuple[str, str]:
    before, separator, version = name.rpartition("/versions/")
    return (before, version) if separator else (name, "")


def _method_not_allowed(method: str, path: str, allowed: str) -> Response:
    allow = "GET, HEAD" if allowed == "GET" else allowed
    response = json_response({"error": f"expected {allow} on {path}, received {method}"}, 405)
    return response._replace(headers=[*JSON_HEADERS, ("allow", allow)])
