"""The RSGI application: finds the route, runs it, turns exceptions into answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from deepseek.errors import UnknownNameError
from deepseek.serving.config import ServingConfig
from deepseek.serving.console.routes import ConsoleRoutes
from deepseek.serving.errors import (
    AuthenticationError,
    BodiesFullError,
    BodyTimeoutError,
    BodyTooLargeError,
    NotReadyError,
    UnsupportedMediaError,
    describe,
)
from deepseek.serving.gateway import Gateway
from deepseek.serving.openai.errors import error_response
from deepseek.serving.openai.routes import MODELS, OpenAIRoutes
from deepseek.serving.rest.bodies import BodyReader
from deepseek.serving.rest.docs_page import docs_routes
from deepseek.serving.rest.http import JSON_HEADERS, Response, Scope, Transport, failure_response, json_response, linger
from deepseek.serving.rest.information import Information
from deepseek.serving.rest.monitoring_routes import MonitoringRoutes
from deepseek.serving.rest.oip_routes import OipRoutes
from deepseek.serving.rest.task_routes import TaskRoutes

if TYPE_CHECKING:
    from deepseek.serving.features.reads import FeatureReads

Handler = Callable[[Scope, Transport], Awaitable[Response | None]]
"""``None``: the handler has answered by itself."""
_MODELS = "/v2/models/"
_TASKS = "/v1/tasks/"
_FEATURES = "/v1/features"
_REPOSITORY = "/v2/repository/models/"
_V1_PREDICT = ":predict"
"""How a URL of KServe's v1 protocol ends, which its client speaks unless it is told otherwise."""
_REMEMBERED = 1024


def _failed(error: BaseException) -> Response:
    return failure_response(describe(error))


class _Route(NamedTuple):
    methods: Mapping[str, Handler]
    """A path's handlers by method; HEAD is answered as GET."""
    failed: Callable[[BaseException], Response] = _failed
    """How the route's protocol tells a failure."""


def _get(handler: Handler) -> _Route:
    return _Route({"GET": handler})


def _post(handler: Handler) -> _Route:
    return _Route({"POST": handler})


class RestApp:
    """Answers every REST route of one gateway, and the console's; give it to granian as the RSGI target."""

    def __init__(
        self,
        config: ServingConfig,
        gateway: Gateway,
        features: FeatureReads | None = None,
        console: ConsoleRoutes | None = None,
    ) -> None:
        self._limit = config.max_body_bytes
        self._bodies = bodies = BodyReader(
            config.max_body_bytes, config.rest.body_timeout_seconds, config.rest.max_arriving_bytes
        )
        self._oip = OipRoutes(gateway, bodies, config.model_control)
        self._tasks = TaskRoutes(gateway, bodies, config.rest.max_form_parts)
        self._monitoring = MonitoringRoutes(gateway, bodies)
        self._openai = OpenAIRoutes(gateway, bodies)
        self._features = None
        self._routes: dict[str, _Route] = {}
        information = Information(gateway, features, console is not None)
        self._static: dict[str, _Route] = {
            "/": _get(information.index),
            "/metrics": _get(self._monitoring.metrics),
            "/openapi.json": _get(information.openapi),
            "/v2": _get(self._oip.server_metadata),
            "/v2/health/live": _get(self._oip.live),
            "/v2/health/ready": _get(self._oip.ready),
            "/v2/models/stats": _get(self._oip.statistics()),
            "/v2/repository/index": _post(self._oip.index),
            **{path: _Route(methods) for path, methods in docs_routes().items()},
            **{path: _Route({method: h}, error_response) for path, (method, h) in self._openai.static.items()},
        }
        if features is not None:
            from deepseek.serving.rest.feature_routes import FeatureRoutes  # with pyarrow, which others do not need

            self._features = FeatureRoutes(gateway, bodies, features)
            self._static[_FEATURES] = _Route({"GET": self._features.views, "POST": self._features.read()})
        if console is not None:
            self._static |= {path: _Route(methods) for path, methods in console.routes().items()}

    async def __rsgi__(self, scope: Scope, transport: Transport) -> None:
        """Answer one request."""
        path, method = scope.path, scope.method
        route = self._static.get(path) or self._routes.get(path) or self._match(path)
        handler = None if route is None else route.methods.get("GET" if method == "HEAD" else method)
        if route is None or handler is None:
            refusal = self._unknown(path) if route is None else _method_not_allowed(method, path, route.methods)
            await self._refuse(transport, refusal)
            return
        response: Response | None
        try:
            if method != "POST":
                await self._bodies.discard(scope.headers, transport)
            response = await handler(scope, transport)
        except asyncio.CancelledError:
            # The client left, or the drain ran out of time; in the second case somebody still listens.
            response = route.failed(NotReadyError("the request was cancelled before it was answered"))
        except BodyTimeoutError as error:
            _answer_and_close(transport, route.failed(error))
            return
        except (AuthenticationError, BodiesFullError, BodyTooLargeError, UnsupportedMediaError, NotReadyError) as error:
            await self._refuse(transport, route.failed(error))
            return
        except Exception as error:  # noqa: BLE001  the boundary: every request gets an answer
            response = route.failed(error)
        if response is not None:
            transport.response_bytes(*response)

    async def _refuse(self, transport: Transport, response: Response) -> None:
        """Answer a request whose body may be unread: the connection cannot be used again."""
        _answer_and_close(transport, response)
        await linger(transport, self._limit)

    def _unknown(self, path: str) -> Response:
        known = ["/v2/models/{model}", "/v2/models/{model}/infer", "/v1/tasks/{task}"]
        if self._features is not None:
            known.append("/v1/features/{view}")
        known += [each for each in self._static if not each.startswith(("/docs/", "/console/"))]
        error = UnknownNameError("URL", path, known, "GET / lists the URLs.")
        return failure_response(describe(error))

    def _match(self, path: str) -> _Route | None:
        """Find the route of a path that names something; names may contain slashes, percent-encoded or not."""
        if path.startswith(_MODELS):
            return self._of_model(path)
        if path.startswith(MODELS) and len(path) > len(MODELS):
            return _Route({"GET": self._openai.model(path.removeprefix(MODELS))}, error_response)
        if path.startswith(_TASKS):
            return self._remember(path, _post(self._tasks.run(path.removeprefix(_TASKS).rstrip("/"))))
        if path.startswith(_REPOSITORY):
            name, _, action = path.removeprefix(_REPOSITORY).rpartition("/")
            if action in ("load", "unload") and name:
                return _post((self._oip.load if action == "load" else self._oip.unload)(name))
        if self._features is not None and path.startswith(_FEATURES + "/") and len(path) > len(_FEATURES) + 1:
            view = path.removeprefix(_FEATURES + "/").rstrip("/")
            return _Route({"GET": self._features.query(view), "POST": self._features.read(view)})
        return self._static.get(path.rstrip("/"))

    def _of_model(self, path: str) -> _Route:
        name, _, action = path.removeprefix(_MODELS).rpartition("/")
        if action == "infer" and name:
            return self._remember(path, _post(self._oip.infer(*_versioned(name))))
        if action == "labels" and name:
            return self._remember(path, _post(self._monitoring.labels(*_versioned(name))))
        if action == "ready" and name:
            return _get(self._oip.model_ready(*_versioned(name)))
        if action == "stats" and name:
            return _get(self._oip.statistics(*_versioned(name)))
        return _get(self._oip.model_metadata(*_versioned(path.removeprefix(_MODELS).rstrip("/"))))

    def _remember(self, path: str, route: _Route) -> _Route:
        """Keep a route that clients ask for again and again; a handler knows names, not models, so it never ages."""
        if len(self._routes) >= _REMEMBERED:
            self._routes.clear()
        self._routes[path] = route
        return route


def _answer_and_close(transport: Transport, response: Response) -> None:
    transport.response_bytes(response.status, [*response.headers, ("connection", "close")], response.body)


def _versioned(name: str) -> tuple[str, str]:
    before, separator, version = name.rpartition("/versions/")
    return (before, version) if separator else (name, "")


def _method_not_allowed(method: str, path: str, methods: Mapping[str, Handler]) -> Response:
    allow = ", ".join("GET, HEAD" if each == "GET" else each for each in methods)
    message = f"expected {allow} on {path}, received {method}"
    if path.startswith(MODELS) and path.endswith(_V1_PREDICT):
        name = path.removeprefix(MODELS).removesuffix(_V1_PREDICT)
        message += f"; KServe's v1 protocol is not served, use its v2: POST {_MODELS}{name}/infer"
    response = json_response({"error": message}, 405)
    return response._replace(headers=[*JSON_HEADERS, ("allow", allow)])
