"""gRPC under attack, on both transports: garbage on the wire, malformed messages, idle streams; it goes on answering."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import psutil
import pytest
from raw_grpc import PREFACE, Connection, call, frame
from serving_fakes import CONFIG, FakeClassifier
from test_grpc_routes import infer_request

from deepseek.serving import Server
from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@pytest.fixture(params=["native", "grpcio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(CONFIG.model_copy(update={"grpc_transport": request.param}), [FakeClassifier()]) as running:
        yield running


def answers(server: Server) -> bool:
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub: Any = pb_grpc.GRPCInferenceServiceStub(channel)
        return bool(stub.ModelInfer(infer_request(["hi"]), timeout=30).outputs[0].contents.bytes_contents[0] == b"HI")


def noise(random_: random.Random) -> bytes:
    """Bytes of any kind, or frames of HTTP/2 that make no sense together."""
    if random_.random() < 0.3:
        return random_.randbytes(random_.randint(1, 400))
    frames = [
        frame(
            random_.randint(0, 12),
            random_.randint(0, 255),
            random_.randint(0, 9),
            random_.randbytes(random_.randint(0, 60)),
        )
        for _ in range(random_.randint(1, 12))
    ]
    return PREFACE + frame(4, 0, 0, b"") + b"".join(frames)


def test_garbage_on_the_wire_harms_nobody_else(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    host, port = server.grpc_address.split(":")
    random_ = random.Random(20)
    for _ in range(400):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(noise(random_))
            if random_.random() < 0.2:
                connection.settimeout(0.05)
                connection.recv(1000)
    assert answers(server)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR and "deepseek" in record.name]


def test_malformed_messages_are_refused_one_by_one(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    random_ = random.Random(21)
    good = infer_request(["a", "b"]).SerializeToString()

    def damaged() -> bytes:
        data = bytearray(good)
        for _ in range(random_.randint(1, 6)):
            data[random_.randrange(len(data))] = random_.randrange(256)
        return bytes(data[: random_.randint(1, len(data))])

    refused = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.unary_unary(INFER)
        codes = set()
        for _ in range(24):
            pending = [call.future(damaged(), timeout=60) for _ in range(64)]
            codes |= {each.code() for each in pending}
    assert codes <= refused | {grpc.StatusCode.OK}
    assert refused & codes
    assert answers(server)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("path", ["/inference.\xff\xfe/ModelInfer", "\xff", "/\x00", "", "/a/b", INFER + "\x80"])
def test_a_path_that_is_none_ends_nothing(server: Server, path: str, caplog: pytest.LogCaptureFixture) -> None:
    host, port = server.grpc_address.split(":")
    with grpc.insecure_channel(server.grpc_address) as channel:
        unary = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        assert unary(infer_request(["before"]), timeout=30)
        for _ in range(3):
            stranger = Connection((host, int(port)), seconds=10)
            head, *rest = call(1, "/" * len(path), b"")
            stranger.send(head.replace(b"/" * len(path), path.encode("latin-1"), 1) if path else head)
            for piece in rest:
                stranger.send(piece)
            while not stranger.ended:
                stranger.read()
            stranger.close()
        assert unary(infer_request(["after"]), timeout=30), "on the same connection"
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b"", timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]
    assert answers(server)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_message_over_the_limit_is_refused_and_not_kept(server: Server) -> None:
    process = psutil.Process()
    huge = b"\x00" * (48 << 20)
    with grpc.insecure_channel(server.grpc_address, [("grpc.max_send_message_length", -1)]) as channel:
        before = process.memory_info().rss
        for _ in range(12):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(INFER)(huge, timeout=60)
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
        assert process.memory_info().rss - before < 6 * len(huge)
    assert answers(server)


def test_a_thousand_idle_streams_leave_room_for_others(server: Server) -> None:
    async def hold() -> bytes:
        async with grpc.aio.insecure_channel(server.grpc_address) as channel:
            kinds = {
                "request_serializer": pb.ModelInferRequest.SerializeToString,
                "response_deserializer": pb.ModelStreamInferResponse.FromString,
            }
            streams = [channel.stream_stream(STREAM, **kinds)() for _ in range(1000)]
            await asyncio.gather(*(stream.write(infer_request(["x"], id="1")) for stream in streams[::100]))
            first = [await stream.read() for stream in streams[::100]]
            assert all(each.infer_response.id == "1" for each in first)
            async with grpc.aio.insecure_channel(server.grpc_address) as second:
                other = pb_grpc.GRPCInferenceServiceStub(second)  # type: ignore[no-untyped-call]
                answer = await other.ModelInfer(infer_request(["hi"]), timeout=30)
            for stream in streams:
                stream.cancel()
            return bytes(answer.outputs[0].contents.bytes_contents[0])

    assert asyncio.run(hold()) == b"HI"
    assert answers(server)
