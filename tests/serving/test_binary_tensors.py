"""The binary tensor extension: raw elements after the JSON, in both directions, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_fakes import ARRAYS

from deepseek.serving.errors import RequestError
from deepseek.serving.oip import json_codec
from deepseek.serving.oip.codec import Codec

INFER = "/v2/models/arrays/infer"


def body_of(inputs: list[dict[str, Any]], parts: list[bytes], **fields: Any) -> tuple[bytes, dict[str, str]]:
    for tensor, part in zip(inputs, parts, strict=True):
        tensor["parameters"] = {"binary_data_size": len(part)}
    head = json.dumps({"inputs": inputs, **fields}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    return head + b"".join(parts), headers


def arrays(x: np.ndarray, n: list[int]) -> tuple[list[dict[str, Any]], list[bytes]]:
    tensors = [
        {"name": "x", "shape": list(x.shape), "datatype": "FP32"},
        {"name": "n", "shape": [len(n)], "datatype": "INT32"},
    ]
    return tensors, [x.astype("<f4").tobytes(), np.asarray(n, "<i4").tobytes()]


def test_binary_in_and_binary_out(http: httpx.Client) -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    tensors, parts = arrays(x, [1, -2])
    outputs = [{"name": "x", "parameters": {"binary_data": True}}, {"name": "n"}]
    content, headers = body_of(tensors, parts, outputs=outputs)
    answer = http.post(INFER, content=content, headers=headers)
    assert answer.status_code == 200
    size = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    told = json.loads(answer.content[:size])
    assert told["outputs"][0] == {
        "name": "x",
        "datatype": "FP64",
        "shape": [2, 3, 2],
        "parameters": {"binary_data_size": 96},
    }
    assert np.frombuffer(answer.content[size:], "<f8").reshape(2, 3, 2).tolist() == x.tolist()
    assert told["outputs"][1]["data"] == [1, -2]


def test_all_outputs_are_binary_when_the_request_says_so_and_json_stays_json(http: httpx.Client) -> None:
    tensors, parts = arrays(np.ones((1, 1, 2), np.float32), [5])
    content, headers = body_of(tensors, parts, parameters={"binary_data_output": True})
    answer = http.post(INFER, content=content, headers=headers)
    told = json.loads(answer.content[: int(answer.headers["inference-header-content-length"])])
    assert all(set(output["parameters"]) == {"binary_data_size"} for output in told["outputs"])
    content, headers = body_of(*arrays(np.ones((1, 1, 2), np.float32), [5]))
    answer = http.post(INFER, content=content, headers=headers)
    assert "inference-header-content-length" not in answer.headers
    assert answer.json()["outputs"][0]["data"] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("length", "size", "cut", "message"),
    [
        ("x", 8, 0, "to be a number of bytes, received 'x'"),
        ("99999", 8, 0, "expected 99999 bytes of JSON"),
        (None, 9, 0, "binary_data_size is 9, but 8 bytes are left"),
        (None, -1, 0, "expected binary_data_size in bytes, received -1"),
        (None, 4, 0, "expected 2 elements"),
        (None, 8, -4, "4 bytes are left"),
        (None, 7, 1, "expected a multiple of 4 raw bytes"),
    ],
)
def test_lengths_that_do_not_add_up_are_refused(
    http: httpx.Client, length: str | None, size: int, cut: int, message: str
) -> None:
    x = {"name": "x", "shape": [1, 1, 2], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    n = {"name": "n", "shape": [1], "datatype": "INT32", "data": [1]}
    head = json.dumps({"inputs": [n, x]}).encode()
    body = head + b"\0" * (8 - cut)
    answer = http.post(INFER, content=body, headers={"inference-header-content-length": length or str(len(head))})
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_binary_tensors_without_elements_need_no_length_of_the_json(http: httpx.Client) -> None:
    x = {"name": "x", "shape": [1, 0, 2], "datatype": "FP32", "parameters": {"binary_data_size": 0}}
    n = {"name": "n", "shape": [1], "datatype": "INT32", "data": [1]}
    answer = http.post(INFER, json={"inputs": [n, x]})
    assert answer.json()["outputs"][0] == {"name": "x", "datatype": "FP64", "shape": [1, 0, 2], "data": []}
    x["parameters"] = {"binary_data_size": 8}
    answer = http.post(INFER, json={"inputs": [n, x]})
    assert answer.status_code == 400
    assert "the header inference-header-content-length is missing" in answer.json()["error"]


def test_data_and_binary_data_together_are_refused() -> None:
    tensor = {"name": "n", "shape": [1], "datatype": "INT32", "data": [1], "parameters": {"binary_data_size": 4}}
    head = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(RequestError, match="expected data or binary_data_size, received both"):
        json_codec.decode(Codec(ARRAYS), head + b"\0\0\0\0", len(head))


@given(
    tags=st.lists(st.lists(st.text(max_size=6), min_size=2, max_size=2), min_size=1, max_size=4),
    blob=st.binary(max_size=12),
)
def test_text_and_bytes_survive_the_round_trip(tags: list[list[str]], blob: bytes) -> None:
    codec = Codec(ARRAYS)
    rows = len(tags)
    inputs, parts = arrays(np.zeros((rows, 1, 2), np.float32), [0] * rows)
    flat = [tag.encode() for row in tags for tag in row]
    inputs += [
        {"name": "tags", "shape": [rows, 2], "datatype": "BYTES"},
        {"name": "blob", "shape": [rows], "datatype": "BYTES"},
    ]
    parts += [b"".join(len(t).to_bytes(4, "little") + t for t in each) for each in (flat, [blob] * rows)]
    content, headers = body_of(inputs, parts, outputs=[{"name": "tags", "parameters": {"binary_data": True}}])
    decoded = json_codec.decode(codec, content, int(headers["inference-header-content-length"]))
    assert [row["tags"] for row in decoded.rows] == tags
    assert [row["blob"] for row in decoded.rows] == [blob] * rows
    body, length = json_codec.encode("arrays", "1", decoded, [{"tags": row} for row in tags])
    assert body[length:] == parts[2]


@given(st.binary(max_size=200), st.integers(0, 220))
def test_any_bytes_are_decoded_or_refused(body: bytes, length: int) -> None:
    with pytest.raises(RequestError):
        json_codec.decode(Codec(ARRAYS), body, length)
