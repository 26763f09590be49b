"""Which URL of OpenAI's API is answered by what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from deepseek.serving.gateway import Gateway
from deepseek.serving.openai.chat import ChatRoute
from deepseek.serving.openai.completions import CompletionRoute
from deepseek.serving.openai.embeddings import EmbeddingRoute
from deepseek.serving.openai.models import ModelRoutes
from deepseek.serving.rest.bodies import BodyReader
from deepseek.serving.rest.http import Response, Scope, Transport

Handler = Callable[[Scope, Transport], Awaitable[Response | None]]

MODELS = "/v1/models/"


class OpenAIRoutes:
    """Handlers by URL.

    Attributes:
        static: method and handler of each fixed URL.
        model: makes the handler of ``GET /v1/models/{id}``.
    """

    def __init__(self, gateway: Gateway, bodies: BodyReader) -> None:
        models = ModelRoutes(gateway)
        self.static: dict[str, tuple[str, Handler]] = {
            "/v1/models": ("GET", models.list),
            "/v1/chat/completions": ("POST", ChatRoute(gateway, bodies)),
            "/v1/completions": ("POST", CompletionRoute(gateway, bodies)),
            "/v1/embeddings": ("POST", EmbeddingRoute(gateway, bodies)),
        }
        self.model: Callable[[str], Handler] = models.one
