"""OIP v2 REST bodies (specification: open-inference-protocol, inference_rest.md), with the binary tensor extension
(open-inference-protocol, extension_binary_data.md): after the JSON, whose length a header tells, come the raw elements
of those tensors that say ``binary_data_size``.

``BYTES`` tensors in JSON are strings. For ``bytes`` fields that are not UTF-8 the tensor parameter ``content_type`` set
to ``base64`` says that the strings are base64, in both directions (MLServer's convention; the specification has none).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from deepseek.serving.errors import RequestError
from deepseek.serving.models.served_model import Outputs
from deepseek.serving.oip import raw
from deepseek.serving.oip.codec import Codec, Inference, urgency
from deepseek.serving.oip.tensor_field import TensorField

JSON_LENGTH = "inference-header-content-length"
"""The binary tensor extension's header: how many bytes of the body are JSON."""
BASE64 = {"content_type": "base64"}


class RequestInput(msgspec.Struct, gc=False):
    """``$request_input`` of the specification."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class RequestOutput(msgspec.Struct, gc=False):
    """``$request_output``; of its parameters ``binary_data`` is read."""

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
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class InferenceResponse(msgspec.Struct, gc=False, omit_defaults=True):
    """``$inference_response``."""

    model_name: str
    model_version: str
    outputs: list[ResponseOutput]
    id: str | None = None


_decoder = msgspec.json.Decoder(InferenceRequest)
_encoder = msgspec.json.Encoder()


def decode(codec: Codec, body: bytes, json_length: int | None = None) -> Inference:
    """Decode and check a request body; raises :class:`RequestError`.

    ``json_length``: how many bytes of it are JSON (``Inference-Header-Content-Length``); ``None``: all.
    """
    if json_length is not None and json_length > len(body):
        raise RequestError(f"expected {json_length} bytes of JSON, as the header says, received a body of {len(body)}")
    try:
        request = _decoder.decode(body if json_length is None else memoryview(body)[:json_length])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is not an OIP v2 inference request: {error}") from error
    binary = None if json_length is None else _Binary(body, json_length)
    columns: dict[str, list[Any]] = {}
    for tensor in request.inputs:
        field = codec.input(tensor.name)
        if tensor.name in columns:
            raise RequestError(f"input {tensor.name!r} is given twice")
        columns[tensor.name] = _column(field, tensor, binary)
    if binary is not None:
        binary.check_end()
    priority, timeout = urgency(request.parameters)
    outputs = codec.select(request.outputs or ())
    return Inference(
        rows=codec.rows(columns),
        parameters=codec.check_parameters(request.parameters),
        outputs=outputs,
        id=request.id or "",
        binary=frozenset() if request.outputs is None is request.parameters else _binary_outputs(request, outputs),
        priority=priority,
        timeout=timeout,
    )


def json_length(headers: Any) -> int | None:
    """How many bytes of a body are JSON, in the binary tensor extension; ``None``: all. Raises ``RequestError``."""
    text = headers.get(JSON_LENGTH)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 12:
        raise RequestError(f"expected {JSON_LENGTH} to be a number of bytes, received {text!r:.60}")
    return int(text)


class _Binary:
    """The part of a body after its JSON, given out tensor by tensor."""

    __slots__ = ("_at", "_body")

    def __init__(self, body: bytes, at: int) -> None:
        self._body, self._at = body, at

    def take(self, field: TensorField, size: Any) -> bytes:
        left = len(self._body) - self._at
        if type(size) is not int or size < 0:
            raise RequestError(f"{field.where}: expected binary_data_size in bytes, received {size!r:.60}")
        if size > left:
            raise RequestError(f"{field.where}: binary_data_size is {size}, but {left} bytes are left in the body")
        start, self._at = self._at, self._at + size
        return self._body[start : self._at]

    def check_end(self) -> None:
        if self._at != len(self._body):
            raise RequestError(
                f"expected the body to end with the last binary tensor, {len(self._body) - self._at} bytes are left; "
                "check Inference-Header-Content-Length and every binary_data_size"
            )


_NO_BINARY = _Binary(b"", 0)
"""After a body that is all JSON: tensors without elements may still say so, as KServe's client does."""


def _binary_outputs(request: InferenceRequest, outputs: list[TensorField]) -> frozenset[str]:
    usual = request.parameters is not None and request.parameters.get("binary_data_output") is True
    if not request.outputs:
        return frozenset(field.name for field in outputs) if usual else frozenset()
    return frozenset(o.name for o in request.outputs if (o.parameters or {}).get("binary_data", usual) is True)


def _column(field: TensorField, tensor: RequestInput, binary: _Binary | None) -> list[Any]:
    expected = field.count(tensor.datatype, tensor.shape)
    if tensor.parameters is not None and "binary_data_size" in tensor.parameters:
        size = tensor.parameters["binary_data_size"]
        if binary is None and size:
            raise RequestError(f"{field.where}: has binary_data_size, but the header {JSON_LENGTH} is missing")
        if tensor.data is not None:
            raise RequestError(f"{field.where}: expected data or binary_data_size, received both")
        elements = raw.unpack(field, (binary or _NO_BINARY).take(field, size))
        field.check_length(len(elements), expected, tensor.shape)
        return field.column(raw.text(field, elements) if isinstance(elements, list) else elements, tensor.shape)
    if tensor.data is None:
        raise RequestError(f"{field.where}: expected data, received none")
    flat = field.flatten_json(tensor.data, tensor.shape)
    field.check_length(len(flat), expected, tensor.shape)
    values = field.parse_json(flat)
    if field.dtype == "bytes" and tensor.parameters and tensor.parameters.get("content_type") == "base64":
        try:
            values = [base64.b64decode(value, validate=True) for value in values]
        except binascii.Error as error:
            raise RequestError(f"{field.where}: content_type is base64, but a value is not: {error}") from error
    return field.column(values, tensor.shape)


def encode(name: str, version: str, inference: Inference, rows: Outputs) -> tuple[bytes, int | None]:
    """Encode the requested outputs of a batch as ``(body, length of its JSON)``; ``None``: it is all JSON."""
    outputs: list[ResponseOutput] = []
    parts: list[bytes] = []
    for field in inference.outputs:
        if field.field.optional and all(row.get(field.name) is None for row in rows):
            continue
        values = [row[field.name] for row in rows]
        if field.name in inference.binary:
            shape, part = raw.pack_rows(field, values)
            parts.append(part)
            output = ResponseOutput(field.name, field.datatype, shape, None, {"binary_data_size": len(part)})
        else:
            output = _json_output(field, *field.flatten_rows(values))
        outputs.append(output)
    body = _encoder.encode(InferenceResponse(name, version, outputs, inference.id or None))
    return (b"".join([body, *parts]), len(body)) if inference.binary else (body, None)


def _json_output(field: TensorField, shape: list[int], flat: list[Any]) -> ResponseOutput:
    parameters = None
    if field.dtype == "bytes":
        try:
            flat = [value.decode() for value in flat]
        except UnicodeDecodeError:
            flat, parameters = [base64.b64encode(value).decode() for value in flat], BASE64
    return ResponseOutput(field.name, field.datatype, shape, flat, parameters)
