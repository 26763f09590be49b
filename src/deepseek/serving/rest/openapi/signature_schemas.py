"""JSON schemas (2020-12, as OpenAPI 3.1 uses it) and examples of a signature's fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deepseek.serving.oip.codec import Codec
from deepseek.serving.oip.tensor_field import KINDS, TensorField
from deepseek.serving.rest.openapi.operations import Schema, ref

_TYPES = {"string": "string", "bytes": "string", "bool": "boolean", "int32": "integer", "int64": "integer"}
_EXAMPLES: dict[str, Any] = {"string": "a moving and funny film", "bytes": {"base64": "iVBORw0KGgo="}, "bool": True}
BINARY: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}


def input_schema(field: TensorField) -> Schema:
    """One row's value of an input or a parameter."""
    if field.dtype == "bytes":
        text = {"type": "string", "description": "A data URL; or text, for its UTF-8 bytes."}
        element: Schema = {"anyOf": [ref("schemas", "Base64"), text]}
    else:
        element = _element(field)
    return _described(field, _nested(field, element))


def output_schema(field: TensorField) -> Schema:
    """One row's value of an output; not a number is null in JSON."""
    if field.dtype == "bytes":
        element: Schema = {"type": "string", "contentEncoding": "base64"}
    elif field.dtype in ("float32", "float64"):
        element = {"type": ["number", "null"]}
    else:
        element = _element(field)
    found = _described(field, _nested(field, element))
    return {"anyOf": [found, {"type": "null"}]} if field.field.optional else found


def object_schema(properties: dict[str, Schema], required: Iterable[str]) -> Schema:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
    }


def row_schema(codec: Codec) -> Schema:
    """One input of a task: an object, or the bare value of the only required input."""
    inputs = {name: input_schema(field) for name, field in codec.inputs.items()}
    item = object_schema(inputs, codec.required)
    return {"anyOf": [item, inputs[codec.required[0]]]} if len(codec.required) == 1 else item


def form_schema(codec: Codec) -> tuple[Schema, Schema]:
    """The multipart form of a task, and the ``encoding`` of its fields."""
    properties: dict[str, Schema] = {}
    encoding: Schema = {}
    for name, field in codec.inputs.items():
        scalar = not field.row_shape
        item = BINARY if field.dtype == "bytes" and scalar else input_schema(field)
        properties[name] = {"type": "array", "items": item, "minItems": 1} | _description(field)
        if field.dtype == "bytes" and scalar:
            encoding[name] = {"contentType": "application/octet-stream"}
        else:
            encoding[name] = {"contentType": "text/plain" if scalar else "application/json"}
    for name, field in codec.parameters.items():
        if name not in properties:
            properties[name] = input_schema(field)
            encoding[name] = {"contentType": "application/json" if field.row_shape else "text/plain"}
    properties.setdefault("model", {"type": "string", "description": "The model; by default the first of the task."})
    return object_schema(properties, codec.required), encoding


def example_row(codec: Codec) -> dict[str, Any]:
    """A smallest plausible row."""
    return {name: _example(codec.inputs[name]) for name in codec.required or codec.inputs}


def _element(field: TensorField) -> Schema:
    found: Schema = {"type": _TYPES.get(field.dtype, "number")}
    bounds = KINDS[field.dtype].bounds
    return found | ({"minimum": bounds[0], "maximum": bounds[1]} if bounds else {})


def _nested(field: TensorField, element: Schema) -> Schema:
    found = element
    for size in reversed(field.row_shape):
        found = {"type": "array", "items": found}
        if size >= 0:
            found |= {"minItems": size, "maxItems": size}
    return found


def _described(field: TensorField, schema: Schema) -> Schema:
    return schema | _description(field)


def _description(field: TensorField) -> Schema:
    return {"description": field.field.description} if field.field.description else {}


def _example(field: TensorField) -> Any:
    found = _EXAMPLES.get(field.dtype, 1 if field.dtype.startswith("int") else 0.5)
    for size in reversed(field.row_shape):
        found = [found] * (size if size >= 0 else 1)
    return found
