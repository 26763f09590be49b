"""Messages of two gigabytes over gRPC: said to come, and really streamed; refused, and the server stays small."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import grpc
import pytest
from fault_server import Process, server_process
from fuzzing import MIB
from locked_server import eventually
from raw_grpc import END_HEADERS, HEADERS, Connection, frame, head
from serving_fakes import CONFIG
from test_grpc_routes import infer_request

from deepseek.serving.proto import open_inference_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
HEALTH = "/grpc.health.v1.Health/Check"
TWO_GIB = 2**31


@pytest.fixture(scope="module", params=["native", "grpcio"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def served(transport: str) -> Iterator[Process]:
    with server_process(grpc_transport=transport) as process:
        yield process


@pytest.fixture(autouse=True)
def _it_still_serves(served: Process) -> Iterator[None]:
    yield
    assert served.alive
    with grpc.insecure_channel(served.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        assert call(infer_request(["hi"]), timeout=30).outputs[0].contents.bytes_contents[0] == b"HI"


def begun(served: Process, path: str) -> Connection:
    connection = Connection(served.grpc_address)
    connection.send(frame(HEADERS, END_HEADERS, 1, head(path)))
    return connection


def prefix(size: int) -> bytes:
    return b"\0" + struct.pack(">I", size)


@pytest.mark.parametrize("path", [INFER, STREAM, HEALTH])
def test_a_size_that_is_only_said_takes_no_memory(served: Process, path: str) -> None:
    served.peak(reset=True)
    before = served.memory()
    connections = [begun(served, path) for _ in range(20)]
    for connection in connections:
        connection.stream_data(1, 4096, prefix(TWO_GIB - 1))
    time.sleep(0.5)
    assert served.peak() - before < 32 * MIB
    for connection in connections:
        connection.close()


def stream(served: Process, path: str, size: int) -> tuple[int, int]:
    """Send a message as far as the server wants it: how many bytes it took, and by how many its memory grew."""
    served.peak(reset=True)
    before = served.memory()
    connection = begun(served, path)
    taken = connection.stream_data(1, len(prefix(size)) + size, prefix(size))
    if taken < len(prefix(size)) + size:
        assert connection.ended
    else:
        connection.finish(1)
    connection.close()
    return taken, served.peak() - before


@pytest.mark.parametrize("path", [STREAM, HEALTH])
def test_two_gigabytes_are_refused_without_being_read(served: Process, path: str) -> None:
    taken, growth = stream(served, path, TWO_GIB - 1)
    print(f"{path}: {taken} bytes were taken, memory grew by {growth / MIB:.0f} MiB")
    assert taken < 64 * MIB, "the server reads on and on"
    assert growth < CONFIG.max_body_bytes + 32 * MIB


def test_a_huge_message_for_a_model_is_refused(served: Process, transport: str) -> None:
    huge_for_a_model(served, transport, 2**28)


@pytest.mark.slow
def test_two_gigabytes_for_a_model_are_refused(served: Process, transport: str) -> None:
    huge_for_a_model(served, transport, TWO_GIB - 1)


def huge_for_a_model(served: Process, transport: str, size: int) -> None:
    """The native front has no limit that could be set: it holds such a message, and Python's copy, and frees both."""
    before = served.memory()
    taken, growth = stream(served, INFER, size)
    print(f"{INFER}: {taken} bytes were taken, memory grew by {growth / MIB:.0f} MiB")
    if transport == "native":
        assert growth < 2 * size + 32 * MIB
    else:
        assert taken < 64 * MIB, "the server reads on and on"
        assert growth < CONFIG.max_body_bytes + 32 * MIB
    eventually(lambda: served.memory() - before < 32 * MIB)
