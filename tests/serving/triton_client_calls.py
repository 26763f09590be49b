"""Run by Triton's client in its environment: calls a server over every form that it speaks, and prints what came."""

from __future__ import annotations

import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as tgrpc
import tritonclient.http as thttp
from tritonclient.utils import InferenceServerException

X = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
N = np.array([1, -2], dtype=np.int32)
TAGS = np.array([["a", "文"], ["", "d"]], dtype=np.object_)
BLOB = np.array([b"\x00\xff", b""], dtype=np.object_)


def inputs(kind: Any, **options: Any) -> list[Any]:
    found = []
    for name, array, datatype in (
        ("x", X, "FP32"),
        ("n", N, "INT32"),
        ("tags", TAGS, "BYTES"),
        ("blob", BLOB, "BYTES"),
    ):
        each = kind(name, list(array.shape), datatype)
        if options.get("binary_data") is False and name == "blob":
            continue  # these bytes are no text, and JSON has nothing else
        each.set_data_from_numpy(array, **options)
        found.append(each)
    return found


def told(result: Any, *names: str) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for name in names:
        array = result.as_numpy(name)
        texts = array.dtype == np.object_
        answer[name] = [v.hex() if isinstance(v, bytes) else v for v in array.ravel()] if texts else array.tolist()
    return answer


def http(address: str) -> dict[str, Any]:
    client = thttp.InferenceServerClient(address, concurrency=4)
    many = [client.async_infer("arrays", inputs(thttp.InferInput), request_id=str(i)) for i in range(8)]
    asked = [thttp.InferRequestedOutput(name, binary_data=False) for name in ("x", "n")]
    found: dict[str, Any] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("arrays"),
        "metadata": client.get_model_metadata("sentiment")["versions"],
        "extensions": client.get_server_metadata()["extensions"],
        "binary": told(client.infer("arrays", inputs(thttp.InferInput)), "x", "n", "tags", "blob"),
        "json": told(client.infer("arrays", inputs(thttp.InferInput, binary_data=False), outputs=asked), "x", "n"),
        "ids": [each.get_result().get_response()["id"] for each in many],
        "index": [entry["name"] for entry in client.get_model_repository_index()],
        "statistics": client.get_inference_statistics("arrays")["model_stats"][0]["inference_count"],
        "timed": told(client.infer("arrays", inputs(thttp.InferInput), timeout=20_000_000, priority=1), "n"),
    }
    try:
        client.infer("arays", inputs(thttp.InferInput))
    except InferenceServerException as error:
        found["unknown"] = [error.status(), error.message()]
    client.close()
    return found


def grpc(address: str) -> dict[str, Any]:
    client = tgrpc.InferenceServerClient(address)
    found: dict[str, Any] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("arrays"),
        "metadata": list(client.get_model_metadata("sentiment").versions),
        "raw": told(client.infer("arrays", inputs(tgrpc.InferInput)), "x", "n", "tags", "blob"),
        "index": [model.name for model in client.get_model_repository_index().models],
        "statistics": client.get_inference_statistics("arrays").model_stats[0].inference_count,
    }
    try:
        client.infer("arays", inputs(tgrpc.InferInput))
    except InferenceServerException as error:
        found["unknown"] = [error.status(), error.message()]
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for i in range(20):
        client.async_stream_infer("arrays", inputs(tgrpc.InferInput), request_id=str(i))
    client.async_stream_infer("arays", inputs(tgrpc.InferInput), request_id="wrong")
    streamed = [answers.get(timeout=30) for _ in range(21)]
    client.stop_stream()
    found["streamed"] = sorted(int(result.get_response().id) for result, error in streamed if error is None)
    found["stream_errors"] = [error.message() for _, error in streamed if error is not None]
    return found


print(json.dumps({"http": http(sys.argv[1]), "grpc": grpc(sys.argv[2])}))
