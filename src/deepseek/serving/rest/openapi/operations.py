"""The parts that operations share: how failures look, who may ask, and how an operation is put together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

Schema = dict[str, Any]

TAGS = [
    {"name": "tasks", "description": "What a model is for, in plain JSON or as a form with files."},
    {"name": "features", "description": "The newest features of entities, out of the online feature store."},
    {"name": "models", "description": "Models on tensors: the Open Inference Protocol v2."},
    {"name": "openai", "description": "Text generation and embeddings, as OpenAI's clients ask for them."},
    {"name": "server", "description": "What the server has, and whether it is well."},
]
SECURITY: list[Schema] = [{"bearer": []}, {"apiKey": []}]

_OPEN_PATHS = frozenset({"/docs", "/console", "/v2/health/live", "/v2/health/ready"})
_FAILURES = {
    "400": ("BadRequest", "Malformed, or a wrong name, datatype, shape or value; the message says which."),
    "401": ("Unauthenticated", "No key, or one that is not known, was revoked or has expired."),
    "403": ("PermissionDenied", "The key does not cover this model or view."),
    "404": ("NotFound", "Unknown model, version, task or view; the message has the nearest names."),
    "408": ("BodyTimeout", "The body did not arrive in time; the connection is closed."),
    "413": ("BodyTooLarge", "The body has more bytes, or more parts, than the server takes."),
    "415": ("UnsupportedMedia", "A media type or an encoding that is not read here."),
    "429": ("TooMany", "Too much waits, or the key's quota is used up."),
    "500": ("ModelFailed", "The model failed; the server's log has the details under the incident of the message."),
    "503": ("NotReady", "Loading, shutting down, or without a store that is needed."),
    "504": ("TooLate", "The answer was not there within the time that the client or the server gave."),
}
BODY = ("400", "404", "408", "413", "415", "429", "500", "503", "504")
"""What a request with a body may be answered with, beside 200."""
_RETRY = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
}


def ref(kind: str, name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def json_content(schema: Schema, example: Any = None) -> Schema:
    """A JSON body."""
    return {"application/json": {"schema": schema} | ({} if example is None else {"example": example})}


def failures(statuses: Iterable[str]) -> Schema:
    """The failures of an operation, by status."""
    return {status: ref("responses", _FAILURES[status][0]) for status in statuses}


def operation(
    method: str,
    path: str,
    *,
    summary: str,
    tag: str,
    answer: Schema,
    description: str = "",
    body: Schema | None = None,
    parameters: list[Schema] | None = None,
    statuses: Iterable[str] = (),
    others: Schema | None = None,
) -> Schema:
    """One operation of a path, as ``{method: ...}``; ``answer`` and ``body`` are contents by media type."""
    found: Schema = {"operationId": _identifier(method, path), "summary": summary, "tags": [tag]}
    if description:
        found["description"] = description
    if parameters:
        found["parameters"] = parameters
    if body is not None:
        found["requestBody"] = {"required": True, "content": body}
    found["responses"] = {"200": {"description": "OK", "content": answer}} | failures(statuses) | (others or {})
    return {method: found}


def guard(document: Schema, security: list[Schema]) -> Schema:
    """Say that all but the probes and the descriptions need a key."""
    for path, item in document["paths"].items():
        for each in item.values():
            if path in _OPEN_PATHS:
                each["security"] = []
            else:
                each["responses"] = each["responses"] | failures(("401", "403"))
    return document | {"security": security}


def _identifier(method: str, path: str) -> str:
    # unique, because everything that is not alphanumeric keeps its code
    words = re.sub(r"[^a-zA-Z0-9/]", lambda match: f"_{ord(match[0]):x}_", path).strip("/").replace("/", "__")
    return f"{method}__{words}" if words else method


def _failure(status: str) -> Schema:
    content = json_content(ref("schemas", "Error"))
    found: Schema = {"description": _FAILURES[status][1], "content": content}
    return found | ({"headers": _RETRY} if status in ("429", "503") else {})


COMPONENTS: Schema = {
    "schemas": {
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string", "description": "What was expected, and what came."}},
        },
        "Base64": {
            "type": "object",
            "description": "Bytes in JSON.",
            "required": ["base64"],
            "properties": {"base64": {"type": "string", "contentEncoding": "base64"}},
            "additionalProperties": False,
        },
        "Tensor": {
            "type": "object",
            "required": ["name", "datatype", "shape", "data"],
            "properties": {
                "name": {"type": "string"},
                "datatype": {"type": "string"},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "data": {"type": "array", "description": "Row-major, flat."},
                "parameters": {"type": "object"},
            },
        },
        "Tensors": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": ref("schemas", "Tensor")},
            },
        },
        "ModelMetadata": {
            "type": "object",
            "required": ["name", "versions", "platform", "inputs", "outputs"],
            "properties": {
                "name": {"type": "string"},
                "versions": {"type": "array", "items": {"type": "string"}},
                "platform": {"type": "string"},
                "inputs": {"type": "array", "items": ref("schemas", "TensorMetadata")},
                "outputs": {"type": "array", "items": ref("schemas", "TensorMetadata")},
            },
        },
        "TensorMetadata": {
            "type": "object",
            "required": ["name", "datatype", "shape"],
            "properties": {
                "name": {"type": "string"},
                "datatype": {"type": "string"},
                "shape": {"type": "array", "items": {"type": "integer"}, "description": "-1: any size."},
            },
        },
    },
    "responses": {name: _failure(status) for status, (name, _) in _FAILURES.items()},
    "securitySchemes": {
        "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    },
}
