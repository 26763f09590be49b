"""Open Inference Protocol v2 over REST (specification: open-inference-protocol, inference_rest.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from deepseek.serving.lifecycle import Lifecycle
from deepseek.serving.oip import json_codec
from deepseek.serving.repository import ModelRepository
from deepseek.serving.rest.disconnect import result_or_disconnect
from deepseek.serving.rest.http import JSON_HEADERS, Response, Scope, Transport, json_response, read_json_body
from deepseek.serving.version import server_version

Handler = Callable[[Scope, Transport], Awaitable[Response]]


class OipRoutes:
    """Handlers of ``/v2``; those that concern a model are made for its name and version."""

    def __init__(self, repository: ModelRepository, lifecycle: Lifecycle, body_limit: int) -> None:
        self._repository = repository
        self._lifecycle = lifecycle
        self._limit = body_limit

    async def server_metadata(self, scope: Scope, transport: Transport) -> Response:
        """``GET /v2``."""
        return json_response({"name": "deepseek", "version": server_version(), "extensions": []})

    async def live(self, scope: Scope, transport: Transport) -> Response:
        """``GET /v2/health/live``: the loop answers."""
        return json_response({"live": True})

    async def ready(self, scope: Scope, transport: Transport) -> Response:
        """``GET /v2/health/ready``: 503 while models load and while shutting down."""
        ready = self._lifecycle.ready and self._repository.ready
        return json_response({"ready": ready}, 200 if ready else 503)

    def model_metadata(self, name: str, version: str) -> Handler:
        """``GET /v2/models/{name}[/versions/{version}]``."""

        async def handle(scope: Scope, transport: Transport) -> Response:
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
            ready = loaded.ready and self._lifecycle.ready
            return json_response({"name": loaded.name, "ready": ready}, 200 if ready else 503)

        return handle

    def infer(self, name: str, version: str) -> Handler:
        """``POST /v2/models/{name}[/versions/{version}]/infer``."""

        async def handle(scope: Scope, transport: Transport) -> Response:
            lifecycle = self._lifecycle
            lifecycle.enter()
            try:
                # First, whatever follows: a body left unread costs the client its connection.
                body = await read_json_body(scope, transport, self._limit)
                loaded = self._repository.get(name, version)
                loaded.require_ready()
                inference = json_codec.decode(loaded.codec, body)
                future = loaded.batcher.submit(inference.rows, inference.parameters)
                rows = await result_or_disconnect(transport, future)
                answer = json_codec.encode(loaded.name, loaded.version, inference, rows)
                return Response(200, JSON_HEADERS, answer)
            finally:
                lifecycle.leave()

        return handle
