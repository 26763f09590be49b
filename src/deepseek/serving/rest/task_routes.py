"""``POST /v1/tasks/{task}``: a model's task for people and for clients without a tensor library.

In JSON::

    {"inputs": "text" | ["a", "b"] | {"text": "a"} | [{"text": "a"}, ...], "model": name, "parameters": {...}}

Bytes inputs (pictures, sound, volumes) are ``{"base64": "..."}`` or a data URL there; or they are uploaded as files of
a form (:mod:`deepseek.serving.rest.task_inputs`)::

    curl -F image=@cat.png -F image=@dog.png -F top_k=3 http://127.0.0.1:8000/v1/tasks/image-classification

``model`` may be left out: the first model of the server that does the task answers. Response::

    {"model": name, "outputs": [{...}, ...]}

``outputs`` is always a list with one object for each input, also when ``inputs`` was a single value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from deepseek.serving.errors import RequestError
from deepseek.serving.gateway import Call, Gateway
from deepseek.serving.models.loaded_model import LoadedModel
from deepseek.serving.rest.bodies import BodyReader, is_form
from deepseek.serving.rest.disconnect import result_or_disconnect
from deepseek.serving.rest.forms import read_form
from deepseek.serving.rest.http import Response, Scope, Transport, json_response
from deepseek.serving.rest.task_inputs import decode_json, form_rows, model_of, rows_of


class TaskRoutes:
    """Handlers of ``/v1/tasks``, made for a task's name."""

    def __init__(self, gateway: Gateway, bodies: BodyReader, max_form_parts: int) -> None:
        self._gateway = gateway
        self._bodies = bodies
        self._max_form_parts = max_form_parts

    def run(self, task: str) -> Callable[[Scope, Transport], Awaitable[Response]]:
        """``POST /v1/tasks/{task}``."""

        async def handle(scope: Scope, transport: Transport) -> Response:
            headers = scope.headers
            with self._gateway.begin("rest", "task", headers) as call:
                # First, whatever follows: a body left unread costs the client its connection.
                if is_form(headers.get("content-type")):
                    parts = await read_form(self._bodies, scope, transport, self._max_form_parts)
                    loaded = self._model(call, task, model_of(parts))
                    rows, parameters = form_rows(loaded.codec, parts)
                else:
                    body = await self._bodies.json(headers, transport)
                    call.size_bytes = len(body)
                    request = decode_json(body)
                    loaded = self._model(call, task, request.model)
                    rows = rows_of(loaded.codec, request)
                    parameters = loaded.codec.check_parameters(request.parameters)
                if (waiting := call.admit(len(rows))) is not None:
                    await waiting
                outputs = await result_or_disconnect(transport, call.submit(rows, parameters))
                call.answered(rows, outputs)
                return json_response({"model": loaded.name, "outputs": outputs})

        return handle

    def _model(self, call: Call, task: str, name: str | None) -> LoadedModel:
        default = self._gateway.repository.for_task(task)
        if name is None:
            return call.model(default.name, default.version)
        loaded = call.model(name)
        if loaded.task != task:
            raise RequestError(
                f"model {name!r} does {loaded.task!r}, not {task!r}; use /v1/tasks/{loaded.task} or another model"
            )
        return loaded
