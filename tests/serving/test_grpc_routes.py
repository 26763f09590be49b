"""Every gRPC method and status, health and reflection, and the same answers as REST and as the model itself."""

from __future__ import annotations

import ast
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from serving_fakes import CONFIG, FakeClassifier

import deepseek.serving.proto as proto_package
from deepseek.serving.grpc.oip_service import SERVICE
from deepseek.serving.proto import features_pb2
from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.serving.proto.generate import OUTPUTS, generate


def infer_request(texts: list[str], model: str = "sentiment", **fields: Any) -> pb.ModelInferRequest:
    contents = {"bytes_contents": [text.encode() for text in texts]}
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "contents": contents}
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], **fields)


def test_server_and_model_information(stub: Any) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == "deepseek"
    assert stub.ModelReady(pb.ModelReadyRequest(name="sentiment", version="1")).ready
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="sentiment"))
    assert list(metadata.versions) == ["1", "10"]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [
        ("label", "BYTES", [-1]),
        ("score", "FP32", [-1]),
        ("scores", "FP32", [-1, 2]),
    ]


def test_infer_echoes_the_id_selects_outputs_and_mirrors_raw(stub: Any) -> None:
    answer = stub.ModelInfer(infer_request(["a", "bc"], id="7", outputs=[{"name": "score"}, {"name": "label"}]))
    assert (answer.model_name, answer.model_version, answer.id) == ("sentiment", "10", "7")
    assert [output.name for output in answer.outputs] == ["score", "label"]
    assert list(answer.outputs[1].contents.bytes_contents) == [b"A", b"BC"]
    request = infer_request(["a"], model_version="1", raw_input_contents=[b"\2\0\0\0hi"])
    request.inputs[0].ClearField("contents")
    answer = stub.ModelInfer(request)
    assert answer.model_version == "1"
    assert answer.raw_output_contents[0] == b"\2\0\0\0HI"
    assert np.frombuffer(answer.raw_output_contents[1], "<f4").tolist() == pytest.approx([0.2])


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (infer_request(["a"], "sentimnt"), grpc.StatusCode.NOT_FOUND, "Did you mean 'sentiment'?"),
        (infer_request(["a"], model_version="3"), grpc.StatusCode.NOT_FOUND, "unknown version"),
        (infer_request(["bad"]), grpc.StatusCode.INVALID_ARGUMENT, "expected a good text"),
        (infer_request([]), grpc.StatusCode.INVALID_ARGUMENT, "at least one row"),
        (infer_request(["a"], parameters={"top_k": {"string_param": "x"}}), grpc.StatusCode.INVALID_ARGUMENT, "top_k"),
        (infer_request(["a"], parameters={"top_k": {}}), grpc.StatusCode.INVALID_ARGUMENT, "no value"),
        (infer_request(["crash"]), grpc.StatusCode.INTERNAL, "incident"),
        (infer_request(["a" * CONFIG.max_body_bytes]), grpc.StatusCode.RESOURCE_EXHAUSTED, str(CONFIG.max_body_bytes)),
    ],
)
def test_refusals(stub: Any, request_: pb.ModelInferRequest, code: grpc.StatusCode, message: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request_)
    assert caught.value.code() == code  # type: ignore[attr-defined]
    assert message in caught.value.details()  # type: ignore[attr-defined]
    assert "secret" not in caught.value.details()  # type: ignore[attr-defined]
    for method, request in (
        (stub.ModelReady, pb.ModelReadyRequest(name="nope")),
        (stub.ModelMetadata, pb.ModelMetadataRequest(name="nope")),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            method(request)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]


def test_health_and_reflection(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    listed = next(
        reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    ).list_services_response
    assert {SERVICE, "grpc.health.v1.Health"} <= {service.name for service in listed.service}
    described = next(
        reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)]))
    ).file_descriptor_response
    file = FileDescriptorProto.FromString(described.file_descriptor_proto[0])
    assert [method.name for method in file.service[0].method] == [
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelInfer",
        "ModelStreamInfer",
        "ModelStatistics",
        "RepositoryIndex",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
    ]


def test_a_client_without_our_code_calls_what_reflection_describes(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert SERVICE in database.get_services()
    method = DescriptorPool(database).FindServiceByName(SERVICE).FindMethodByName("ModelInfer")
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    call = channel.unary_unary(f"/{SERVICE}/ModelInfer", request.SerializeToString, response.FromString)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}
    answer = call(request(model_name="sentiment", inputs=[tensor]))
    assert list(answer.outputs[0].contents.bytes_contents) == [b"A"]


def test_clients_are_told_what_is_not_there(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nope"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
    # Clients ask for reflection v1 first, and go on with v1alpha when they are told so.
    newer = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as caught:
        next(newer(iter([b""])))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_health_is_watched(channel: grpc.Channel) -> None:
    watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
    watching.cancel()


def test_many_calls_at_once(stub: Any) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: stub.ModelInfer(infer_request([f"text {i}"])), range(200)))
    assert [a.outputs[0].contents.bytes_contents[0] for a in answers] == [f"TEXT {i}".encode() for i in range(200)]


@pytest.mark.parametrize("parameters", [{}, {"temperature": 0.3}])
def test_rest_grpc_and_the_model_itself_agree(stub: Any, http: httpx.Client, parameters: dict[str, float]) -> None:
    texts = ["", "a", "naïve 文本 🙂", "longer text " * 9]
    direct = FakeClassifier().predict([{"text": text} for text in texts], parameters)
    plain = http.post("/v1/tasks/text-classification", json={"inputs": texts, "parameters": parameters}).json()[
        "outputs"
    ]
    assert plain == direct
    tensor = {"name": "text", "shape": [4], "datatype": "BYTES", "data": texts}
    rest = http.post("/v2/models/sentiment/infer", json={"inputs": [tensor], "parameters": parameters}).json()[
        "outputs"
    ]
    proto_parameters = {name: {"double_param": value} for name, value in parameters.items()}
    grpc_outputs = stub.ModelInfer(infer_request(texts, parameters=proto_parameters)).outputs
    assert rest[0]["data"] == [b.decode() for b in grpc_outputs[0].contents.bytes_contents]
    assert rest[0]["data"] == [row["label"] for row in direct]
    for at, name in ((1, "score"), (2, "scores")):
        wanted = np.asarray([row[name] for row in direct], dtype=np.float32)
        assert rest[at]["shape"] == list(grpc_outputs[at].shape) == list(wanted.shape)
        assert np.asarray(rest[at]["data"], dtype=np.float32).tobytes() == wanted.tobytes()
        assert np.asarray(grpc_outputs[at].contents.fp32_contents, dtype=np.float32).tobytes() == wanted.tobytes()


def test_the_committed_code_is_what_the_proto_generates() -> None:
    # Stubs and descriptors are compared, not the code, which carries the compiler's version.
    folder = Path(str(proto_package.__file__)).parent
    fresh = generate()
    assert set(fresh) == set(OUTPUTS)
    stale = "the generated code is stale; run python -m deepseek.serving.proto.generate"
    for name, module in (("open_inference", pb), ("features", features_pb2)):
        assert (folder / f"{name}_pb2.pyi").read_text(encoding="utf-8") == fresh[f"{name}_pb2.pyi"], stale
        descriptor = re.search(r"AddSerializedFile\((b'.*')\)", fresh[f"{name}_pb2.py"])
        assert descriptor is not None
        assert ast.literal_eval(descriptor[1]) == module.DESCRIPTOR.serialized_pb, stale
