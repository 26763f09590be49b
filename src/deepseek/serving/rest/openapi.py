"""The OpenAPI 3.1 description, made from the signatures of the models that are served now."""

from __future__ import annotations

from typing import Any

from deepseek.serving.loaded_model import LoadedModel
from deepseek.serving.oip.codec import Codec
from deepseek.serving.oip.tensor_field import TensorField
from deepseek.serving.openai import openapi as openai
from deepseek.serving.repository import ModelRepository
from deepseek.serving.version import server_version

Schema = dict[str, Any]

_TYPES = {"string": "string", "bytes": "string", "bool": "boolean", "int32": "integer", "int64": "integer"}
_FAILURES = {
    "400": "Malformed JSON, or a wrong name, datatype, shape or value",
    "404": "Unknown model, version or task",
    "413": "Body too large",
    "415": "Not JSON",
    "429": "Too many rows wait; Retry-After says how many seconds to wait",
    "500": "The model failed",
    "503": "Loading or shutting down",
}


def openapi_document(repository: ModelRepository) -> Schema:
    """Describe every route; each task and each model has a path of its own, with its signature's schema."""
    paths: Schema = {
        "/": _get("Index of URLs and models"),
        **openai.paths(),
        "/v2": _get("Server metadata"),
        "/v2/health/live": _get("Liveness"),
        "/v2/health/ready": _get("Readiness", {"503": "Loading or shutting down"}),
    }
    tasks: dict[str, list[LoadedModel]] = {}
    for name in repository.names:
        loaded = repository.get(name)
        tasks.setdefault(loaded.task, []).append(loaded)
        for prefix in (f"/v2/models/{name}", *(f"/v2/models/{name}/versions/{v}" for v in repository.versions(name))):
            paths[prefix] = _get(f"Metadata of {name}")
            paths[f"{prefix}/ready"] = _get(f"Readiness of {name}", {"503": "Loading or shutting down"})
            paths[f"{prefix}/infer"] = _post(
                f"Run {name} on tensors", "oip", _infer_schema(loaded.codec), {"$ref": "#/components/schemas/Tensors"}
            )
    for task, models in tasks.items():
        paths[f"/v1/tasks/{task}"] = _post(
            f"Run {task}", "tasks", _task_schema(models), {"$ref": "#/components/schemas/TaskOutputs"}
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "deepseek", "version": server_version()},
        "paths": paths,
        "components": {"schemas": _COMPONENTS | openai.components()},
    }


_COMPONENTS: Schema = {
    "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    "Tensors": {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "datatype", "shape", "data"],
                    "properties": {
                        "name": {"type": "string"},
                        "datatype": {"type": "string"},
                        "shape": {"type": "array", "items": {"type": "integer"}},
                        "data": {"type": "array"},
                    },
                },
            },
        },
    },
    "TaskOutputs": {
        "type": "object",
        "required": ["model", "outputs"],
        "properties": {"model": {"type": "string"}, "outputs": {"type": "array", "items": {"type": "object"}}},
    },
}


def _content(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _responses(schema: Schema, failures: dict[str, str]) -> Schema:
    error = _content({"$ref": "#/components/schemas/Error"})
    answers: Schema = {"200": {"description": "OK", "content": _content(schema)}}
    return answers | {status: {"description": text, "content": error} for status, text in failures.items()}


def _get(summary: str, failures: dict[str, str] | None = None) -> Schema:
    # A probe that says "not ready" answers with its own object rather than an error.
    unready = {status: {"description": text} for status, text in (failures or {}).items()}
    return {"get": {"summary": summary, "responses": _responses({"type": "object"}, {}) | unready}}


def _post(summary: str, tag: str, body: Schema, answer: Schema) -> Schema:
    return {
        "post": {
            "summary": summary,
            "tags": [tag],
            "requestBody": {"required": True, "content": _content(body)},
            "responses": _responses(answer, _FAILURES),
        }
    }


def _value_schema(field: TensorField) -> Schema:
    schema: Schema = {"type": _TYPES.get(field.dtype, "number")}
    for size in reversed(field.row_shape):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
    return schema | ({"description": field.field.description} if field.field.description else {})


def _object_schema(fields: dict[str, TensorField], required: list[str]) -> Schema:
    return {
        "type": "object",
        "required": required,
        "properties": {name: _value_schema(field) for name, field in fields.items()},
        "additionalProperties": False,
    }


def _infer_schema(codec: Codec) -> Schema:
    tensors = [
        {
            "type": "object",
            "required": ["name", "datatype", "shape", "data"],
            "properties": {
                "name": {"const": field.name},
                "datatype": {"const": field.datatype},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "data": {"type": "array"},
            },
        }
        for field in codec.inputs.values()
    ]
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": _object_schema(codec.parameters, []),
            "inputs": {"type": "array", "items": {"anyOf": tensors}, "minItems": 1},
            "outputs": {
                "type": "array",
                "items": {"type": "object", "properties": {"name": {"enum": list(codec.outputs)}}},
            },
        },
    }


def _task_schema(models: list[LoadedModel]) -> Schema:
    variants: list[Schema] = []
    for loaded in models:
        codec = loaded.codec
        item = _object_schema(codec.inputs, codec.required)
        if len(codec.required) == 1:
            item = {"anyOf": [_value_schema(codec.inputs[codec.required[0]]), item]}
        variants.append(
            {
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "model": {"const": loaded.name},
                    "inputs": {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]},
                    "parameters": _object_schema(codec.parameters, []),
                },
                "additionalProperties": False,
            }
        )
    return variants[0] if len(variants) == 1 else {"anyOf": variants}
