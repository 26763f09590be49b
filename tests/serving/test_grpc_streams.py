"""Triton's streaming call, cancellation and deadlines, on both transports; and how a transport is picked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from serving_fakes import CONFIG, FakeClassifier
from test_grpc_routes import infer_request

from deepseek.errors import ConfigError
from deepseek.serving import Server
from deepseek.serving.errors import QuotaExceededError
from deepseek.serving.gateway import Gateway
from deepseek.serving.grpc import front
from deepseek.serving.grpc.aio_front import AioFront
from deepseek.serving.grpc.inference import STREAM_WINDOW, InferenceStream
from deepseek.serving.grpc.native_front import NativeFront
from deepseek.serving.grpc.rpc import Metadata
from deepseek.serving.lifecycle import Lifecycle, Phase
from deepseek.serving.models.repository import ModelRepository
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


def test_a_client_that_does_not_read_its_answers_is_not_read_either() -> None:
    """The answers of a stream that nobody reads are bounded, and all come once somebody does."""
    taken = 0

    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        nonlocal taken
        for taken in range(1, 501):
            yield infer_request([f"text {taken}"], id=str(taken))
            await asyncio.sleep(0)

    async def run() -> None:
        repository, lifecycle = ModelRepository(CONFIG), Lifecycle()
        repository.add(FakeClassifier())
        for loaded in repository:
            await loaded.warm_up()
        lifecycle.phase = Phase.SERVING
        answers = InferenceStream(Gateway(repository, lifecycle), Metadata(())).answers(requests())
        ids = [(await anext(answers)).infer_response.id]
        before = 0
        while taken > before or taken < STREAM_WINDOW:
            before = taken
            await asyncio.sleep(0.1)
        assert taken <= STREAM_WINDOW + 2
        ids += [answer.infer_response.id async for answer in answers]
        assert sorted(ids, key=int) == [str(i) for i in range(1, 501)]
        assert lifecycle.in_flight == 0
        repository.close()

    asyncio.run(run())


def test_limits_that_are_decided_elsewhere_hold_for_each_message_of_a_stream() -> None:
    """As with Redis, where admission is a round trip; the messages of a stream are admitted one by one."""

    class Elsewhere:
        left = 3

        def authenticate(self, headers: Any) -> Any:
            return type("Somebody", (), {"key_id": "k", "allows": lambda self, model: True})()

        async def _decide(self) -> None:
            await asyncio.sleep(0.01)
            self.left -= 1
            if self.left < 0:
                raise QuotaExceededError("no more today", retry_after=1.0)

        def admit(self, principal: Any, model: str, rows: int) -> Any:
            return self._decide()

        def charge(self, principal: Any, model: str, rows: int, input_tokens: int, output_tokens: int) -> None:
            charged.append(rows)

    charged: list[int] = []

    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        for i in range(5):
            yield infer_request(["text"], id=str(i))

    async def run() -> list[pb.ModelStreamInferResponse]:
        repository, lifecycle = ModelRepository(CONFIG), Lifecycle()
        repository.add(FakeClassifier())
        for loaded in repository:
            await loaded.warm_up()
        lifecycle.phase = Phase.SERVING
        gateway = Gateway(repository, lifecycle, access=Elsewhere())
        found = [each async for each in InferenceStream(gateway, Metadata(())).answers(requests())]
        repository.close()
        return found

    found = asyncio.run(run())
    assert len(found) == 5
    assert sum("no more today" in each.error_message for each in found) == 2
    assert charged == [1, 1, 1]


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


def test_how_a_transport_is_picked(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    config = CONFIG.model_copy(update={"grpc_transport": "native"})
    credentials = grpc.ssl_server_credentials([(b"", b"")])
    with pytest.raises(ConfigError, match="has no TLS"):
        front.open_front([], config, "127.0.0.1", credentials)
    monkeypatch.setattr(front, "_LIBRARY", "no_such_library")
    with pytest.raises(ConfigError, match="pip install pygrpc-native"):
        front.open_front([], config, "127.0.0.1")

    async def picked(address: str = "127.0.0.1", transport: str = "auto") -> object:
        return front.open_front([], CONFIG.model_copy(update={"grpc_transport": transport}), address)

    assert isinstance(asyncio.run(picked()), AioFront)
    monkeypatch.undo()
    assert isinstance(asyncio.run(picked()), NativeFront)
    assert isinstance(asyncio.run(picked("0.0.0.0", "native")), NativeFront)
    assert isinstance(asyncio.run(picked(transport="grpcio")), AioFront)
    with caplog.at_level("INFO", "deepseek.serving"):
        assert isinstance(asyncio.run(picked("0.0.0.0")), AioFront)
    assert "grpc_transport: native is several times as fast" in caplog.text
