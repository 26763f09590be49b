"""Open Inference Protocol v2 over REST (specification: open-inference-protocol, inference_rest.md), with the binary
tensor extension, and Triton's extensions for statistics and the model repository.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from deepseek.serving.errors import PermissionDeniedError
from deepseek.serving.gateway import Gateway
from deepseek.serving.oip import json_codec
from deepseek.serving.rest.bodies import BodyReader, decoded
from deepseek.serving.rest.disconnect import result_or_disconnect
from deepseek.serving.rest.http import JSON_HEADERS, OCTETS, Response, Scope, Transport, json_response
from deepseek.serving.version import server_version

Handler = Callable[[Scope, Transport], Awaitable[Response]]
_object = msgspec.json.Decoder(dict[str, Any])
EXTENSIONS = ["binary_tensor_data", "statistics", "model_repository"]
"""Names as Triton's server metadata has them."""


class OipRoutes:
    """Handlers of ``/v2``; those that concern a model are made for its name and version."""

    def __init__(self, gateway: Gateway, bodies: BodyReader, model_control: bool = False) -> None:
        self._gateway = gateway
        self._repository = gateway.repository
        self._bodies = bodies
        self._model_control = model_control

    async def server_metadata(self, scope: Scope, transport: Transport) -> Response:
        """``GET /v2``."""
        return json_response({"name": "deepseek", "version": server_version(), "extensions": EXTENSIONS})

    async def live(self, scope: Scope, transport: Transport) -> Response:
        """``GET /v2/health/live``: the loop answers."""
        return json_response({"live": True})

    async def ready(self, scope: Scope, transport: Transport) -> Response:
        """``GET /v2/health/ready``: 503 while models load and while shutting down."""
        ready = self._gateway.lifecycle.ready and self._repository.ready
        return json_response({"ready": ready}, 200 if ready else 503)

    def model_metadata(self, name: str, version: str) -> Handler:
        """``GET /v2/models/{name}[/versions/{version}]``."""

        async def handle(scope: Scope, transport: Transport) -> Response:
            self._gateway.identify(scope.headers)
            loaded = self._repository.get(name, version)
            return json_response(
                {
                    "name": loaded.name,
                    "versions": self._repository.versions(name),
                    "platform": loaded.model.platform,
                    "inputs": [field.metadata for field in loaded.codec.inputs.values()],
                    "outputs": [field.metadata for field in loaded.codec.outputs.values()],
                }
            )

        return handle

    def model_ready(self, name: str, version: str) -> Handler:
        """``GET /v2/models/{name}[/versions/{version}]/ready``: 503 while it loads."""

        async def handle(scope: Scope, transport: Transport) -> Response:
            loaded = self._repository.get(name, version)
            ready = loaded.answers and self._gateway.lifecycle.ready
            return json_response({"name": loaded.name, "ready": ready}, 200 if ready else 503)

        return handle

    def infer(self, name: str, version: str) -> Handler:
        """``POST /v2/models/{name}[/versions/{version}]/infer``."""

        async def handle(scope: Scope, transport: Transport) -> Response:
            headers = scope.headers
            with self._gateway.begin("rest", "infer", headers) as call:
                # First, whatever follows: a body left unread costs the client its connection.
                length = json_codec.json_length(headers)
                if length is None:
                    body = await self._bodies.json(headers, transport)
                else:
                    body = await self._bodies.whole(headers, transport)
                call.size_bytes = len(body)
                loaded = call.model(name, version)
                inference = json_codec.decode(loaded.codec, body, length)
                call.urge(inference.priority, inference.timeout)
                if (waiting := call.admit(len(inference.rows))) is not None:
                    await waiting
                future = call.submit(inference.rows, inference.parameters)
                rows = await result_or_disconnect(transport, future)
                call.answered(inference.rows, rows, inference.id)
                answer, length = json_codec.encode(loaded.name, loaded.version, inference, rows)
                if length is None:
                    return Response(200, JSON_HEADERS, answer)
                return Response(200, [*OCTETS, (json_codec.JSON_LENGTH, str(length))], answer)

        return handle

    def statistics(self, name: str = "", version: str = "") -> Handler:
        """``GET /v2/models[/{name}[/versions/{version}]]/stats`` (Triton's statistics extension)."""

        async def handle(scope: Scope, transport: Transport) -> Response:
            self._gateway.identify(scope.headers)
            chosen = self._repository.chosen(name, version)
            return json_response({"model_stats": [loaded.statistics.report(loaded) for loaded in chosen]})

        return handle

    async def index(self, scope: Scope, transport: Transport) -> Response:
        """``POST /v2/repository/index``: served models and those that could be loaded."""
        with self._gateway.begin("rest", "repository_index", scope.headers):
            request = await self._object(scope, transport)
            entries = self._repository.index(ready=request.get("ready") is True)
            return json_response([entry._asdict() for entry in entries])

    def load(self, name: str) -> Handler:
        """``POST /v2/repository/models/{name}/load``: load, or load again and swap in."""
        return self._control(name, "repository_load", self._repository.load)

    def unload(self, name: str) -> Handler:
        """``POST /v2/repository/models/{name}/unload``."""
        return self._control(name, "repository_unload", self._repository.unload)

    def _control(self, name: str, operation: str, act: Callable[[str], Awaitable[Any]]) -> Handler:
        async def handle(scope: Scope, transport: Transport) -> Response:
            with self._gateway.begin("rest", operation, scope.headers) as call:
                await self._object(scope, transport)
                call.permit(name)
                require_model_control(self._model_control)
                _refuse_other_pages(scope.headers)
                await act(name)
                return json_response({})

        return handle

    async def _object(self, scope: Scope, transport: Transport) -> dict[str, Any]:
        """A JSON object from the body; an empty body is an empty one."""
        body = await self._bodies.json(scope.headers, transport, empty=True)
        return decoded(_object.decode, body, "expected a JSON object or no body") if body else {}


def _refuse_other_pages(headers: Any) -> None:
    """Raise :class:`PermissionDeniedError` for a web page of another origin: on loopback its visitor has no key, and a
    form may post anywhere (OWASP, "Cross-Site Request Forgery Prevention", verifying the origin).
    """
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise PermissionDeniedError(f"models are not loaded or unloaded for a page of another origin, {origin!r:.80}")


def require_model_control(allowed: bool) -> None:
    """Raise :class:`PermissionDeniedError` unless the server was started with ``model_control``."""
    if not allowed:
        raise PermissionDeniedError(
            "models cannot be loaded or unloaded over the network here; start the server with model_control=True "
            "(deepseek serve --model-control)"
        )
