"""OIP v2 REST bodies (specification: open-inference-protocol, inference_rest.md).

``BYTES`` tensors are JSON strings. For ``bytes`` fields that are not UTF-8 the tensor parameter ``content_type`` set to
``base64`` says that the strings are base64, in both directions (MLServer's convention; the specification has none).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from deepseek.serving.errors import RequestError
from deepseek.serving.model import Outputs
from deepseek.serving.oip.codec import Codec, Inference
from deepseek.serving.oip.tensor_field import TensorField

BASE64 = {"content_type": "base64"}


class RequestInput(msgspec.Struct, gc=False):
    """``$request_input`` of the specification."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] | None = None


class RequestOutput(msgspec.Struct, gc=False):
    """``$request_output``; its parameters concern the binary extension only."""

    name: str
    parameters: dict[str, Any] | None = None


class InferenceRequest(msgspec.Struct, gc=False):
    """``$inference_request``."""

    inputs: list[RequestInput]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[RequestOutput] | None = None


class ResponseOutput(msgspec.Struct, gc=False, omit_defaults=True):
    """``$response_output``."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]
    parameters: dict[str, str] | None = None


class InferenceResponse(msgspec.Struct, gc=False, omit_defaults=True):
    """``$inference_response``."""

    model_name: str
    model_version: str
    outputs: list[ResponseOutput]
    id: str | None = None


_decoder = msgspec.json.Decoder(InferenceRequest)
_encoder = msgspec.json.Encoder()


def decode(codec: Codec, body: bytes) -> Inference:
    """Decode and check a request body; raises :class:`RequestError`."""
    try:
        request = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is not an OIP v2 inference request: {error}") from error
    columns: dict[str, list[Any]] = {}
    for tensor in request.inputs:
        field = codec.input(tensor.name)
        if tensor.name in columns:
            raise RequestError(f"input {tensor.name!r} is given twice")
        columns[tensor.name] = _column(field, tensor)
    return Inference(
        rows=codec.rows(columns),
        parameters=codec.check_parameters(request.parameters),
        outputs=codec.select(output.name for output in request.outputs or ()),
        id=request.id or "",
    )


def _column(field: TensorField, tensor: RequestInput) -> list[Any]:
    expected = field.count(tensor.datatype, tensor.shape)
    flat = field.flatten_json(tensor.data, tensor.shape)
    field.check_length(len(flat), expected, tensor.shape)
    values = field.parse_json(flat)
    if field.dtype == "bytes" and tensor.parameters and tensor.parameters.get("content_type") == "base64":
        try:
            values = [base64.b64decode(value, validate=True) for value in values]
        except binascii.Error as error:
            raise RequestError(f"{field.where}: content_type is base64, but a value is not: {error}") from error
    return field.column(values, tensor.shape)


def encode(name: str, version: str, inference: Inference, rows: Outputs) -> bytes:
    """Encode the requested outputs of a batch as a response body."""
    outputs = [_output(field, rows) for field in inference.outputs if not _absent(field, rows)]
    return _encoder.encode(InferenceResponse(name, version, outputs, inference.id or None))


def _absent(field: TensorField, rows: Outputs) -> bool:
    return field.field.optional and all(row.get(field.name) is None for row in rows)


def _output(field: TensorField, rows: Outputs) -> ResponseOutput:
    shape, flat = field.flatten_rows([row[field.name] for row in rows])
    parameters = None
    if field.dtype == "bytes":
        try:
            flat = [value.decode() for value in flat]
        except UnicodeDecodeError:
            flat, parameters = [base64.b64encode(value).decode() for value in flat], BASE64
    return ResponseOutput(field.name, field.datatype, shape, flat, parameters)
