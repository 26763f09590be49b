"""The paths of models: tasks in JSON and forms, and the Open Inference Protocol."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from deepseek.serving.models.loaded_model import LoadedModel
from deepseek.serving.models.repository import ModelRepository
from deepseek.serving.oip.codec import Codec
from deepseek.serving.oip.tensor_field import TensorField
from deepseek.serving.rest.openapi.operations import BODY, Schema, json_content, operation, ref
from deepseek.serving.rest.openapi.signature_schemas import (
    example_row,
    form_schema,
    input_schema,
    object_schema,
    output_schema,
    row_schema,
)

_READY: Schema = {
    "type": "object",
    "required": ["name", "ready"],
    "properties": {"name": {"type": "string"}, "ready": {"type": "boolean"}},
}
_FORM = "multipart/form-data"


def task_paths(repository: ModelRepository) -> Schema:
    """One path a task; models of the same task are alternatives of its body."""
    tasks: dict[str, list[LoadedModel]] = {}
    for name in repository.names:
        loaded = repository.get(name)
        tasks.setdefault(loaded.task, []).append(loaded)
    paths: Schema = {}
    for task, models in tasks.items():
        path = f"/v1/tasks/{quote(task)}"
        names = ", ".join(loaded.name for loaded in models)
        paths[path] = operation(
            "post",
            path,
            summary=f"Run {task}",
            description=f"Models: {names}. Several inputs make a batch; there is one output for each, in their order.",
            tag="tasks",
            body=_task_bodies(models),
            answer=json_content(_any([_task_answer(loaded) for loaded in models])),
            statuses=BODY,
        )
    return paths


def model_paths(repository: ModelRepository) -> Schema:
    """Metadata, readiness and inference of every model, with and without its versions."""
    paths: Schema = {}
    for name in repository.names:
        versions = [f"/versions/{quote(version)}" for version in repository.versions(name)]
        for suffix, version in zip(["", *versions], ["", *repository.versions(name)], strict=True):
            paths |= _one_model(f"/v2/models/{quote(name)}{suffix}", repository.get(name, version))
    return paths


def _one_model(path: str, loaded: LoadedModel) -> Schema:
    label = f"{loaded.name} {loaded.version}" if "/versions/" in path else loaded.name
    unready = {"503": {"description": "Loading or shutting down", "content": json_content(_READY)}}
    return {
        path: operation(
            "get",
            path,
            summary=f"Metadata of {label}",
            tag="models",
            answer=json_content(ref("schemas", "ModelMetadata")),
            statuses=["404"],
        ),
        f"{path}/ready": operation(
            "get",
            f"{path}/ready",
            summary=f"Readiness of {label}",
            tag="models",
            answer=json_content(_READY),
            statuses=["404"],
            others=unready,
        ),
        f"{path}/infer": operation(
            "post",
            f"{path}/infer",
            summary=f"Run {label} on tensors",
            tag="models",
            body=json_content(_infer_body(loaded.codec), _infer_example(loaded.codec)),
            answer=json_content(ref("schemas", "Tensors")),
            statuses=BODY,
        ),
    }


def _task_bodies(models: list[LoadedModel]) -> Schema:
    example: dict[str, Any] = {"inputs": [example_row(models[0].codec)]}
    if len(models) > 1:
        example["model"] = models[0].name
    bodies = json_content(_any([_task_body(loaded) for loaded in models]), example)
    forms = [form_schema(loaded.codec) for loaded in models]
    encoding = {name: each for _, fields in forms for name, each in fields.items()}
    bodies[_FORM] = {"schema": _any([schema for schema, _ in forms]), "encoding": encoding}
    return bodies


def _task_body(loaded: LoadedModel) -> Schema:
    item = row_schema(loaded.codec)
    parameters = {name: input_schema(field) for name, field in loaded.codec.parameters.items()}
    return object_schema(
        {
            "inputs": {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]},
            "model": {"const": loaded.name},
            "parameters": object_schema(parameters, []),
        },
        ["inputs"],
    )


def _task_answer(loaded: LoadedModel) -> Schema:
    outputs = {name: output_schema(field) for name, field in loaded.codec.outputs.items()}
    required = [name for name, field in loaded.codec.outputs.items() if not field.field.optional]
    return {
        "type": "object",
        "required": ["model", "outputs"],
        "properties": {
            "model": {"const": loaded.name},
            "outputs": {
                "type": "array",
                "items": {"type": "object", "required": required, "properties": outputs},
            },
        },
    }


def _infer_body(codec: Codec) -> Schema:
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "description": "Comes back in the answer."},
            "parameters": {
                "type": "object",
                "properties": {name: input_schema(field) for name, field in codec.parameters.items()},
            },
            "inputs": {
                "type": "array",
                "items": _any([_tensor(field) for field in codec.inputs.values()]),
                "minItems": max(1, len(codec.required)),
            },
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"enum": list(codec.outputs)}, "parameters": {"type": "object"}},
                },
                "description": "Which outputs to return; all by default.",
            },
        },
    }


def _tensor(field: TensorField) -> Schema:
    return {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"const": field.name},
            "datatype": {"const": field.datatype},
            "shape": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0},
                "minItems": 1,
                "description": f"{field.batch_shape}; -1: any size. The first is the number of rows.",
            },
            "data": {"type": "array", "description": "Row-major, flat or nested like the shape."},
            "parameters": {"type": "object"},
        },
    }


def _infer_example(codec: Codec) -> dict[str, Any]:
    tensors = []
    for name, value in example_row(codec).items():
        field = codec.inputs[name]
        shape = [1, *(size if size >= 0 else 1 for size in field.row_shape)]
        data = ["iVBORw0KGgo="] if field.dtype == "bytes" else [value]
        tensors.append({"name": name, "datatype": field.datatype, "shape": shape, "data": data})
    return {"inputs": tensors}


def _any(schemas: list[Schema]) -> Schema:
    distinct = [each for at, each in enumerate(schemas) if each not in schemas[:at]]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
