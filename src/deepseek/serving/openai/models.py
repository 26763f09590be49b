"""``GET /v1/models`` and ``GET /v1/models/{id}``: the models that a key may use, adapters among them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from deepseek.serving.gateway import Gateway
from deepseek.serving.generation.batching import GenerationBatcher
from deepseek.serving.models.loaded_model import LoadedModel
from deepseek.serving.openai.responses import Model, Models
from deepseek.serving.rest.http import Response, Scope, Transport, json_response


class ModelRoutes:
    """Handlers of ``/v1/models``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list(self, scope: Scope, transport: Transport) -> Response:
        """``GET /v1/models``."""
        with self._gateway.begin("openai", "models", scope.headers) as call:
            repository, principal = self._gateway.repository, call.principal
            names = [name for name in repository.names if principal is None or principal.allows(name)]
            return json_response(Models(data=[_model(repository.get(name)) for name in names]))

    def one(self, name: str) -> Callable[[Scope, Transport], Awaitable[Response]]:
        """``GET /v1/models/{id}``."""

        async def handle(scope: Scope, transport: Transport) -> Response:
            with self._gateway.begin("openai", "models", scope.headers) as call:
                return json_response(_model(call.model(name)))

        return handle


def _model(loaded: LoadedModel) -> Model:
    model = Model(id=loaded.name, created=loaded.loaded_at)
    if isinstance(loaded.batcher, GenerationBatcher) and loaded.batcher.generator.base:
        model.parent = loaded.batcher.generator.base
    return model
