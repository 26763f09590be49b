"""OIP v2 gRPC messages (specification: open-inference-protocol, inference_grpc.md).

Outputs go back in the form in which the inputs came: typed ``contents``, or ``raw_output_contents``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepseek.serving.errors import RequestError
from deepseek.serving.models.served_model import Outputs
from deepseek.serving.oip import raw
from deepseek.serving.oip.codec import Codec, Inference, urgency
from deepseek.serving.proto import open_inference_pb2 as pb


def decode(codec: Codec, request: pb.ModelInferRequest) -> Inference:
    """Decode and check a request; raises :class:`RequestError`."""
    raw_contents, inputs = list(request.raw_input_contents), list(request.inputs)
    if raw_contents and len(raw_contents) != len(inputs):
        raise RequestError(
            f"expected one raw_input_contents for each of {len(inputs)} inputs, received {len(raw_contents)}"
        )
    columns: dict[str, list[Any]] = {}
    for at, tensor in enumerate(inputs):
        name, shape = tensor.name, list(tensor.shape)
        field = codec.input(name)
        if name in columns:
            raise RequestError(f"input {name!r} is given twice")
        expected = field.count(tensor.datatype, shape)
        hint = ""
        flat: Any
        if raw_contents:
            if tensor.HasField("contents"):
                raise RequestError(f"{field.where}: expected contents or raw_input_contents, received both")
            flat = raw.unpack(field, raw_contents[at])
        else:
            flat = list(getattr(tensor.contents, field.kind.contents))
            if not flat:
                hint = f" in contents.{field.kind.contents}"
        field.check_length(len(flat), expected, shape, hint)
        columns[name] = field.column(raw.text(field, flat) if field.dtype == "string" else flat, shape)
    parameters = _parameters(request.parameters) if request.parameters else None
    priority, timeout = urgency(parameters)
    return Inference(
        rows=codec.rows(columns),
        parameters=codec.check_parameters(parameters),
        outputs=codec.select(request.outputs),
        id=request.id,
        raw=bool(raw_contents),
        priority=priority,
        timeout=timeout,
    )


def _parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is None:
            raise RequestError(f"parameter {name!r} has no value")
        plain[name] = getattr(value, choice)
    return plain


def encode(name: str, version: str, inference: Inference, rows: Outputs) -> pb.ModelInferResponse:
    """Encode the requested outputs of a batch."""
    response = pb.ModelInferResponse(model_name=name, model_version=version, id=inference.id)
    for field in inference.outputs:
        if field.field.optional and all(row.get(field.name) is None for row in rows):
            continue
        values = [row[field.name] for row in rows]
        if inference.raw:
            shape, part = raw.pack_rows(field, values)
            response.outputs.add(name=field.name, datatype=field.datatype, shape=shape)
            response.raw_output_contents.append(part)
            continue
        shape, flat = field.flatten_rows(values)
        if field.dtype == "string":
            flat = [element.encode() for element in flat]
        tensor = response.outputs.add(name=field.name, datatype=field.datatype, shape=shape)
        getattr(tensor.contents, field.kind.contents).extend(flat)
    return response
