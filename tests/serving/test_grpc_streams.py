"""Triton's streaming call, cancellation and deadlines, on both transports; and how a transport is picked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from serving_fakes import CONFIG, FakeClassifier
from test_grpc_routes import infer_request

from deepseek.errors import ConfigError
from deepseek.serving import Server
from deepseek.serving.grpc import front
from deepseek.serving.grpc.aio_front import AioFront
from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc


def test_a_stream_answers_every_request_and_goes_on_after_a_failure(stub: Any) -> None:
    texts = [f"text {i}" for i in range(300)]
    texts[7] = "bad one"
    requests = (infer_request([text], id=str(i)) for i, text in enumerate(texts))
    answers = {answer.infer_response.id: answer for answer in stub.ModelStreamInfer(requests)}
    assert set(answers) == {str(i) for i in range(300)}
    assert "expected a good text" in answers["7"].error_message
    labels = {i: a.infer_response.outputs[0].contents.bytes_contents[0] for i, a in answers.items() if i != "7"}
    assert labels == {str(i): text.upper().encode() for i, text in enumerate(texts) if i != 7}
    assert not any(answer.error_message for i, answer in answers.items() if i != "7")


def test_a_stream_is_answered_before_it_ends(stub: Any) -> None:
    go_on = threading.Event()

    def requests() -> Iterator[pb.ModelInferRequest]:
        yield infer_request(["first"], id="1")
        assert go_on.wait(30)
        yield infer_request(["second"], id="2")

    answers = stub.ModelStreamInfer(requests())
    assert next(answers).infer_response.id == "1"
    go_on.set()
    assert next(answers).infer_response.id == "2"
    assert list(answers) == []


@pytest.fixture(params=["native", "grpcio"])
def waiting(request: pytest.FixtureRequest) -> Iterator[tuple[Any, FakeClassifier]]:
    """A stub, and a model that answers only once its gate opens."""
    model = FakeClassifier()
    config = CONFIG.model_copy(update={"grpc_transport": request.param, "max_batch_size": 1})
    with Server(config, [model]) as server, grpc.insecure_channel(server.grpc_address) as channel:
        model.gate = threading.Event()
        yield pb_grpc.GRPCInferenceServiceStub(channel), model
        model.gate.set()


def until(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("leaving", ["cancel", "deadline"])
def test_rows_of_a_client_that_left_are_not_run(waiting: tuple[Any, FakeClassifier], leaving: str) -> None:
    stub, model = waiting
    before = len(model.batches)
    first = stub.ModelInfer.future(infer_request(["held"]))
    until(lambda: len(model.batches) == before + 1)
    left = stub.ModelInfer.future(infer_request(["left"]), timeout=0.3 if leaving == "deadline" else None)
    if leaving == "cancel":
        time.sleep(0.1)
        left.cancel()
    until(left.done)
    expected = grpc.StatusCode.CANCELLED if leaving == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED
    assert left.code() == expected
    last = stub.ModelInfer.future(infer_request(["last"]))
    time.sleep(0.2)
    assert model.gate is not None
    model.gate.set()
    assert first.result().outputs[0].contents.bytes_contents[0] == b"HELD"
    assert last.result().outputs[0].contents.bytes_contents[0] == b"LAST"
    assert len(model.batches) == before + 2


def test_a_message_that_is_not_protobuf_is_refused(channel: grpc.Channel) -> None:
    raw = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        raw(b"\xff\xff\xff")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert "inference.ModelInferRequest" in caught.value.details()  # type: ignore[attr-defined]
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([b"\xff\xff\xff"])))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/inference.GRPCInferenceService/Nope")(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_how_a_transport_is_picked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIG.model_copy(update={"grpc_transport": "native"})
    credentials = grpc.ssl_server_credentials([(b"", b"")])
    with pytest.raises(ConfigError, match="has no TLS"):
        front.open_front([], config, "127.0.0.1", credentials)
    monkeypatch.setattr(front, "_LIBRARY", "no_such_library")
    with pytest.raises(ConfigError, match="pip install pygrpc-native"):
        front.open_front([], config, "127.0.0.1")

    async def picked() -> object:
        return front.open_front([], CONFIG, "127.0.0.1")

    assert isinstance(asyncio.run(picked()), AioFront)
