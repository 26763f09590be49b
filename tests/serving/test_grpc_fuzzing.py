"""gRPC that is nearly right, by the thousand: disturbed frames on the wire, and damaged messages in frames as they
should be; on both transports, in a server of its own."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from fault_server import Process, server_process
from fuzzing import log_has_no_fault, watched
from google.protobuf.message import Message
from raw_grpc import Disturbances, disturb
from test_grpc_routes import infer_request

from deepseek.serving.proto import open_inference_pb2 as pb

SERVICE = "/inference.GRPCInferenceService/"
RAW = [b"\1\0\0\0a\2\0\0\0bc"]
CALLS: list[tuple[str, Message]] = [
    ("ModelInfer", infer_request(["a", "b"], id="7", outputs=[{"name": "score"}])),
    (
        "ModelInfer",
        pb.ModelInferRequest(
            model_name="sentiment", inputs=[{"name": "text", "datatype": "BYTES", "shape": [2]}], raw_input_contents=RAW
        ),
    ),
    (
        "ModelInfer",
        pb.ModelInferRequest(
            model_name="arrays",
            inputs=[
                {"name": "x", "datatype": "FP32", "shape": [1, 1, 2], "contents": {"fp32_contents": [1, 2]}},
                {"name": "n", "datatype": "INT32", "shape": [1], "contents": {"int_contents": [-5]}},
            ],
            parameters={"priority": {"int64_param": 2}, "timeout": {"int64_param": 1_000_000}},
        ),
    ),
    ("ModelStreamInfer", infer_request(["a"], id="1")),
    ("ModelMetadata", pb.ModelMetadataRequest(name="sentiment", version="1")),
    ("ModelReady", pb.ModelReadyRequest(name="sentiment")),
    ("ModelStatistics", pb.ModelStatisticsRequest(name="arrays")),
    ("RepositoryIndex", pb.RepositoryIndexRequest(ready=True)),
    ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="sentiment")),
    ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="sentiment")),
]
EXPECTED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
"""A damaged request may ask for microseconds as its deadline, or be right after all."""
CALLS_A_CONNECTION = 20
AT_ONCE = 64
THREADS = 4


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture(params=["native", "grpcio"])
def served(request: pytest.FixtureRequest, log: Path) -> Iterator[Process]:
    with server_process(log, grpc_transport=request.param) as process:
        yield process


def test_fuzzed_calls(served: Process, log: Path) -> None:
    fuzz(served, 2000)
    log_has_no_fault(log)


@pytest.mark.slow
def test_a_hundred_thousand_fuzzed_calls(served: Process, log: Path) -> None:
    fuzz(served, 100_000)
    log_has_no_fault(log)


def fuzz(served: Process, count: int) -> None:
    """Half of the calls disturbed as frames, the other half as messages."""
    with grpc.insecure_channel(served.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        good = channel.unary_unary(SERVICE + "ModelInfer", _bytes, pb.ModelInferResponse.FromString)

        def ask() -> bool:
            answer = good(infer_request(["hi"]), timeout=30)
            return bool(answer.outputs[0].contents.bytes_contents[0] == b"HI")

        with watched(served, ask), ThreadPoolExecutor(2 * THREADS) as pool:
            frames = [pool.submit(disturbed_frames, served, seed, count // 2 // THREADS) for seed in range(THREADS)]
            messages = [pool.submit(damaged_messages, served, seed, count // 2 // THREADS) for seed in range(THREADS)]
            codes = sum((each.result() for each in messages), Counter[str]())
            ends = sum((each.result() for each in frames), Counter[bool]())
    print(
        dict(codes), {"connections answered or closed": ends[True], "that said nothing for half a second": ends[False]}
    )
    assert set(codes) <= EXPECTED, codes
    assert codes["OK"] > 0
    assert codes["INVALID_ARGUMENT"] > 0
    assert ends[True] > ends[False]


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()


def disturbed_frames(served: Process, seed: int, count: int) -> Counter[bool]:
    source = Disturbances(seed, [(SERVICE + name, message.SerializeToString()) for name, message in CALLS])
    pick = random.Random(seed)
    return Counter(
        disturb(served.grpc_address, source.next(CALLS_A_CONNECTION), shut=pick.random() < 0.5)
        for _ in range(count // CALLS_A_CONNECTION)
    )


def damaged_messages(served: Process, seed: int, count: int) -> Counter[str]:
    pick = random.Random(1000 + seed)
    originals = [(SERVICE + name, message.SerializeToString()) for name, message in CALLS]
    codes: Counter[str] = Counter()
    with grpc.insecure_channel(served.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        unary = {path: channel.unary_unary(path) for path, _ in originals}
        streams = channel.stream_stream(SERVICE + "ModelStreamInfer")
        for _ in range(0, count, AT_ONCE):
            pending = []
            for _ in range(AT_ONCE):
                path, message = pick.choice(originals)
                damaged = _damage(pick, message, originals)
                if path.endswith("ModelStreamInfer"):
                    stream = streams(iter([damaged, message]), timeout=60)
                    with contextlib.suppress(grpc.RpcError):
                        list(stream)
                    pending.append(stream)
                else:
                    pending.append(unary[path].future(damaged, timeout=60))
            codes.update(each.code().name for each in pending)
    return codes


def _damage(pick: random.Random, message: bytes, others: list[tuple[str, bytes]]) -> bytes:
    """Bytes changed, cut out, doubled, put in; or the end of another message."""
    data = bytearray(message)
    for _ in range(pick.randint(0, 4)):
        if not data:
            break
        at = pick.randrange(len(data))
        match pick.randrange(5):
            case 0:
                data[at] = pick.randrange(256)
            case 1:
                del data[at : at + pick.randint(1, 8)]
            case 2:
                data[at:at] = data[at : at + 20] * pick.randint(1, 20)
            case 3:
                data[at:at] = pick.choice(
                    [b"\xff" * 10, b"\0", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 200, b"\x22\x02"]
                )
            case _:
                other = pick.choice(others)[1]
                data[at:] = other[pick.randrange(len(other)) :]
    return bytes(data)
