"""The requests of the contest: the same 16 numbers in every protocol, and how an answer to them is recognised.

The numbers are multiples of 1/64, so that JSON, float32 and back are exact and an answer can be compared with equality.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness import StepFailed
from benchmarks.serving_parts.models import FEATURES, model_called
from deepseek.serving.proto import open_inference_pb2 as pb

INPUT, OUTPUT = "x", "y"
ID = "bench"
"""Servers that make up an identifier take the one that is given, so that all their answers are alike."""
SERVICE = "/inference.GRPCInferenceService"
INFER, STREAM = f"{SERVICE}/ModelInfer", f"{SERVICE}/ModelStreamInfer"
CLOSE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request over HTTP: what is sent, and where the answer's numbers are."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    style: str
    """``"oip"``, ``"binary"``, ``"plain"`` or ``"grpc"``."""
    model: str


def numbers() -> list[float]:
    """The row that every request carries."""
    drawn = random.Random(0)  # noqa: S311  # a benchmark's draw
    return [drawn.randrange(-128, 128) / 64 for _ in range(FEATURES)]


def expected(model: str) -> list[float]:
    """What a model makes of the row."""
    answer: list[float] = model_called(model)(np.array([numbers()], dtype=np.float32))[0].tolist()
    return answer


def oip_json(model: str) -> Request:
    """Open Inference Protocol v2, all JSON."""
    tensor = {"name": INPUT, "shape": [1, FEATURES], "datatype": "FP32", "data": numbers()}
    return _rest(model, json.dumps({"id": ID, "inputs": [tensor]}).encode())


def oip_binary(model: str) -> Request:
    """The same with the binary tensor extension in both directions."""
    raw = np.array(numbers(), dtype="<f4").tobytes()
    parameters = {"binary_data_size": len(raw)}
    tensor = {"name": INPUT, "shape": [1, FEATURES], "datatype": "FP32", "parameters": parameters}
    text = json.dumps({"id": ID, "parameters": {"binary_data_output": True}, "inputs": [tensor]}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return Request(path=_path(model), body=text + raw, headers=headers, style="binary", model=model)


def oip_grpc(model: str) -> Request:
    """``ModelInfer`` with raw contents; the body is the message alone, without gRPC's prefix."""
    tensor = pb.ModelInferRequest.InferInputTensor(name=INPUT, datatype="FP32", shape=[1, FEATURES])
    message = pb.ModelInferRequest(model_name=model, id=ID, inputs=[tensor])
    message.raw_input_contents.append(np.array(numbers(), dtype="<f4").tobytes())
    return Request(path=INFER, body=message.SerializeToString(), headers={}, style="grpc", model=model)


def plain_json(model: str, path: str, *, rows: bool = False) -> Request:
    """What a peer without the protocol takes: ``{"x": [16 numbers]}``, or ``rows``: a list of one such list."""
    values: list[Any] = [numbers()] if rows else numbers()
    headers = {"Content-Type": "application/json"}
    return Request(path=path, body=json.dumps({INPUT: values}).encode(), headers=headers, style="plain", model=model)


def text_json(text: str) -> bytes:
    """The body for a model that takes one text."""
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
    return json.dumps({"inputs": [tensor]}).encode()


def framed(message: bytes) -> bytes:
    """A message with gRPC's prefix: not compressed, its length (gRPC over HTTP2, "Length-Prefixed-Message")."""
    return struct.pack(">BI", 0, len(message)) + message


def require_right(request: Request, answer: bytes, length: str | None, who: str) -> None:
    """Raise :class:`StepFailed` unless an answer holds what the model makes of the row.

    Args:
        length: how many bytes of a binary answer are JSON, as its header says.
    """
    if request.style == "grpc":
        response = pb.ModelInferResponse.FromString(answer)
        found = np.frombuffer(response.raw_output_contents[0], dtype="<f4").tolist()
    elif request.style == "binary":
        found = np.frombuffer(answer[int(length or 0) :], dtype="<f4").tolist()
    else:
        document = json.loads(answer)
        if request.style == "oip":
            found = document["outputs"][0]["data"]
        else:
            found = document[OUTPUT] if isinstance(document, dict) else document
    found = np.ravel(found).tolist()
    wanted = expected(request.model)
    if len(found) != len(wanted) or max(abs(a - b) for a, b in zip(found, wanted, strict=True)) > CLOSE:
        raise StepFailed(f"{who} answers {request.path} with {str(found)[:200]}, expected {wanted}")


def _rest(model: str, body: bytes) -> Request:
    headers = {"Content-Type": "application/json"}
    return Request(path=_path(model), body=body, headers=headers, style="oip", model=model)


def _path(model: str) -> str:
    return f"/v2/models/{model}/infer"
