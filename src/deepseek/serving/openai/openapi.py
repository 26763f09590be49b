"""The OpenAPI description of these routes, made from the structs that requests are decoded into."""

from __future__ import annotations

from typing import Any

import msgspec

from deepseek.serving.openai import requests, responses
from deepseek.serving.openai.errors import ErrorBody

Schema = dict[str, Any]

_TYPES = (
    requests.ChatRequest, requests.CompletionRequest, requests.EmbeddingRequest, responses.ChatCompletion,
    responses.ChatChunk, responses.Completion, responses.Embeddings, responses.Model, responses.Models, ErrorBody,
)  # fmt: skip
_FAILURES = {
    "400": "Malformed JSON; a parameter that is not known, wrong or not supported; a prompt longer than the context",
    "404": "Unknown model",
    "408": "The body did not arrive in time",
    "413": "Body too large",
    "415": "Not JSON",
    "429": "Too many rows wait; Retry-After says how many seconds to wait",
    "500": "The model failed",
    "503": "Loading or shutting down",
    "504": "The answer was not there within the time that the client or the server gave",
}
_PREFIX = "OpenAI"
_STREAM = (
    "Streamed: server-sent events with an object each, at the end the data [DONE]; a failure after the first one is an "
    "event with an error object"
)


def paths() -> Schema:
    """The routes."""
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    unready = {"503": _FAILURES["503"]}
    described: Schema = {
        "/v1/models": {"get": _operation("List models and adapters", "Models", unready)},
        "/v1/models/{model}": {
            "get": {
                **_operation("Describe a model or an adapter", "Model", {"404": _FAILURES["404"], **unready}),
                "parameters": [name],
            }
        },
        "/v1/chat/completions": _post("Answer a chat", "ChatRequest", "ChatCompletion", "ChatChunk"),
        "/v1/completions": _post("Continue prompts", "CompletionRequest", "Completion", "Completion"),
        "/v1/embeddings": _post("Give texts' vectors; longer texts are cut", "EmbeddingRequest", "Embeddings"),
    }
    for path, item in described.items():
        for method, operation in item.items():
            operation["operationId"] = (
                f"openai_{method}{path.removeprefix('/v1').replace('/', '_').replace('{model}', 'one')}"
            )
    return described


def components() -> Schema:
    """The schemas that the routes refer to, by name."""
    _, found = msgspec.json.schema_components(_TYPES, ref_template=f"#/components/schemas/{_PREFIX}{{name}}")
    return {f"{_PREFIX}{name}": schema for name, schema in found.items()}


def _content(name: str, kind: str = "application/json") -> Schema:
    return {kind: {"schema": {"$ref": f"#/components/schemas/{_PREFIX}{name}"}}}


def _operation(summary: str, answer: str, failures: dict[str, str], chunk: str = "") -> Schema:
    answers: Schema = {"200": {"description": "OK", "content": _content(answer)}}
    if chunk:
        answers["200"] = {
            "description": f"OK. {_STREAM}",
            "content": {**_content(answer), **_content(chunk, "text/event-stream")},
        }
    for status, text in failures.items():
        answers[status] = {"description": text, "content": _content("ErrorBody")}
    return {"summary": summary, "tags": ["openai"], "responses": answers}


def _post(summary: str, body: str, answer: str, chunk: str = "") -> Schema:
    return {
        "post": {
            **_operation(summary, answer, _FAILURES, chunk),
            "requestBody": {"required": True, "content": _content(body)},
        }
    }
