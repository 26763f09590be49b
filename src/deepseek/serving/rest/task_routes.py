"""``POST /v1/tasks/{task}``: a model's task in plain JSON, for people and for clients without a tensor library.

Request::

    {"inputs": "text" | ["a", "b"] | {"text": "a"} | [{"text": "a"}, ...], "model": name, "parameters": {...}}

``model`` may be left out: the first model of the server that does the task answers. Response::

    {"model": name, "outputs": [{...}, ...]}

``outputs`` is always a list with one object for each input, also when ``inputs`` was a single value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from deepseek.serving.errors import RequestError
from deepseek.serving.gateway import Gateway
from deepseek.serving.loaded_model import LoadedModel
from deepseek.serving.rest.disconnect import result_or_disconnect
from deepseek.serving.rest.http import Response, Scope, Transport, json_response, read_json_body


class TaskRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The request's body."""

    inputs: Any
    model: str | None = None
    parameters: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(TaskRequest)


class TaskRoutes:
    """Handlers of ``/v1/tasks``, made for a task's name."""

    def __init__(self, gateway: Gateway, body_limit: int) -> None:
        self._gateway = gateway
        self._repository = gateway.repository
        self._limit = body_limit

    def run(self, task: str) -> Callable[[Scope, Transport], Awaitable[Response]]:
        """``POST /v1/tasks/{task}``."""

        async def handle(scope: Scope, transport: Transport) -> Response:
            with self._gateway.begin("rest", "task", scope.headers) as call:
                body = await read_json_body(scope, transport, self._limit)
                default = self._repository.for_task(task)
                try:
                    request = _decoder.decode(body)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    raise RequestError(f"the body is not a task request: {error}") from error
                chosen = default if request.model is None else self._named(request.model, task)
                loaded = call.model(chosen.name, chosen.version)
                items = request.inputs if isinstance(request.inputs, list) else [request.inputs]
                rows = [loaded.codec.row(item) for item in items]
                parameters = loaded.codec.check_parameters(request.parameters)
                await call.admit(len(rows))
                outputs = await result_or_disconnect(transport, call.submit(rows, parameters))
                call.answered(rows, outputs)
                return json_response({"model": loaded.name, "outputs": outputs})

        return handle

    def _named(self, name: str, task: str) -> LoadedModel:
        loaded = self._repository.get(name)
        if loaded.task != task:
            raise RequestError(
                f"model {name!r} does {loaded.task!r}, not {task!r}; use /v1/tasks/{loaded.task} or another model"
            )
        return loaded
