"""What a person or a tool asks a server first: the index, the list of models, and the OpenAPI description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.serving.gateway import Gateway
from deepseek.serving.rest.http import Response, Scope, Transport, json_response
from deepseek.serving.rest.openapi import openapi_document
from deepseek.serving.version import server_version

if TYPE_CHECKING:
    from deepseek.serving.features.reads import FeatureReads

URLS = {
    "GET /": "this page",
    "GET /docs": "a page to look through the API and to try it",
    "GET /openapi.json": "OpenAPI 3.1 description",
    "GET /v1/models": "models and adapters (OpenAI API)",
    "GET /v1/models/{model}": "one of them (OpenAI API)",
    "POST /v1/chat/completions": "answer a chat (OpenAI API)",
    "POST /v1/completions": "continue prompts (OpenAI API)",
    "POST /v1/embeddings": "vectors of texts (OpenAI API)",
    "POST /v1/tasks/{task}": 'run a task in plain JSON: {"inputs": "text", "parameters": {...}}; or upload files',
    "GET /v2": "server metadata (Open Inference Protocol v2)",
    "GET /v2/health/live": "liveness probe",
    "GET /v2/health/ready": "readiness probe",
    "GET /v2/models/{model}[/versions/{version}]": "model metadata",
    "GET /v2/models/{model}[/versions/{version}]/ready": "model readiness",
    "POST /v2/models/{model}[/versions/{version}]/infer": "run a model on tensors",
    "POST /v2/models/{model}[/versions/{version}]/labels": "tell true answers, by request id, for live accuracy",
    "GET /v2/models[/{model}[/versions/{version}]]/stats": "what models have answered (Triton's statistics)",
    "POST /v2/repository/index": "models that are served or could be loaded",
    "POST /v2/repository/models/{model}/load": "load a model, or load it again",
    "POST /v2/repository/models/{model}/unload": "stop serving a model",
    "GET /metrics": "Prometheus metrics",
}
CONSOLE_URL = {"GET /console": "a page with live charts and a playground"}
FEATURE_URLS = {
    "GET /v1/features": "feature views",
    "GET /v1/features/{view}?entity={key}": "newest features of one or more keys; without a key, what the view has",
    "POST /v1/features[/{view}]": 'newest features of many keys: {"entities": [{"customer": 1}]}',
}


class Information:
    """Handlers of the routes that describe the server."""

    def __init__(self, gateway: Gateway, features: FeatureReads | None, console: bool) -> None:
        self._gateway = gateway
        self._console = console
        self._repository = gateway.repository
        self._features = features

    async def index(self, scope: Scope, transport: Transport) -> Response:
        """``GET /``."""
        self._gateway.identify(scope.headers)
        models = [
            {"name": loaded.name, "version": loaded.version, "task": loaded.task, "ready": loaded.ready}
            for loaded in self._repository
        ]
        urls = URLS | (CONSOLE_URL if self._console else {}) | ({} if self._features is None else FEATURE_URLS)
        return json_response({"name": "deepseek", "version": server_version(), "models": models, "urls": urls})

    async def openapi(self, scope: Scope, transport: Transport) -> Response:
        """``GET /openapi.json``."""
        self._gateway.identify(scope.headers)
        views = None if self._features is None else list((await self._features.catalogue()).values())
        keys = self._gateway.access is not None
        return json_response(openapi_document(self._repository, views=views, keys=keys, console=self._console))
