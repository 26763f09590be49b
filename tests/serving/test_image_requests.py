"""Pictures over REST and gRPC: base64 in JSON, raw bytes in tensors, a bad one refused alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
import torch
import transformers
from PIL import Image
from serving_fakes import CONFIG

from deepseek.inference import Predictor
from deepseek.inference.torch_runtime import TorchModel
from deepseek.models import from_config
from deepseek.serving import Server
from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc
from deepseek.tasks.image_classification import ImageClassification


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    task = ImageClassification(labels=("blue", "red"))
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    model = from_config(config, head="image-classification", **task.model_options()).eval()
    processor = transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})
    return Predictor(name="colours", task=task, tokenizer=processor, model=TorchModel(model))


@pytest.fixture(scope="module")
def images_server(predictor: Predictor) -> Iterator[Server]:
    with Server(CONFIG, [predictor]) as running:
        yield running


@pytest.fixture(scope="module")
def expected(predictor: Predictor) -> Any:
    return [a["scores"] for a in predictor.predict([{"image": png("blue")}, {"image": png("red")}])]


def test_rest(images_server: Server, expected: Any) -> None:
    text = [base64.b64encode(png(c)).decode() for c in ("blue", "red")]
    with httpx.Client(base_url=images_server.http_url, timeout=60) as client:
        url = "/v2/models/colours/infer"
        assert client.get("/v2/models/colours").json()["inputs"][0]["datatype"] == "BYTES"
        tensor = {"name": "image", "shape": [2], "datatype": "BYTES", "data": text}
        for values in (tensor, {**tensor, "parameters": {"content_type": "base64"}}):
            outputs = client.post(url, json={"inputs": [values]}).json()["outputs"]
            assert outputs[2]["data"] == pytest.approx([x for row in expected for x in row], abs=1e-5)
        rows = [{"image": f"data:image/png;base64,{text[0]}"}]
        answer = client.post("/v1/tasks/image-classification", json={"model": "colours", "inputs": rows})
        assert answer.status_code == 200, answer.text
        refused = client.post(url, json={"inputs": [{**tensor, "data": [text[0], "/etc/hostname"]}]})
        assert refused.status_code == 400
        assert "row 1" in refused.json()["error"]


def test_grpc(images_server: Server, expected: Any) -> None:
    with grpc.insecure_channel(images_server.grpc_address) as channel:
        request = pb.ModelInferRequest(model_name="colours")
        tensor = request.inputs.add(name="image", datatype="BYTES", shape=[2])
        tensor.contents.bytes_contents.extend([png("blue"), png("red")])
        answer = pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)
        scores = list(answer.outputs[2].contents.fp32_contents)
        assert scores == pytest.approx([x for row in expected for x in row], abs=1e-5)
