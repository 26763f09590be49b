"""Starting, refusing to start half, draining on SIGTERM, stopping."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from pydantic import ValidationError
from serving_fakes import FakeClassifier, classify

from deepseek.errors import ConfigError, DeepSeekError, UnknownNameError
from deepseek.serving import ModelRepository, Server, ServingConfig
from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc

FREE = {"http_port": 0, "grpc_port": 0}
TASK = "/v1/tasks/text-classification"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, deepseek.serving as s; "
        "assert {'Server', 'ServingConfig', 'DeepSeekInference'} <= set(dir(s)); "
        "assert not {'grpc', 'granian', 'numpy', 'pydantic', 'msgspec', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_config_refuses_unknown_and_impossible_values() -> None:
    for wrong in ({"prot": 1}, {"http_port": 70_000}, {"max_batch_size": 0}, {"drain_seconds": -1}):
        with pytest.raises(ValidationError):
            ServingConfig(**wrong)


def test_a_server_needs_models_runs_once_and_tells_its_addresses_after_the_start() -> None:
    with pytest.raises(ConfigError, match="at least one model"):
        Server(ServingConfig(**FREE), [])
    with pytest.raises(ConfigError, match="served already"):
        Server(ServingConfig(**FREE), [FakeClassifier(), FakeClassifier()])
    server = Server(ServingConfig(**FREE), [FakeClassifier()])
    with pytest.raises(DeepSeekError, match="has not started"):
        _ = server.http_url
    server.stop()
    server.start()
    address = server.http_url
    assert httpx.get(address + "/v2/health/ready").status_code == 200
    server.stop()
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(address + "/v2/health/ready")
    with pytest.raises(ConfigError, match="run already"):
        server.start()


@pytest.mark.parametrize("setting", ["http_port", "grpc_port"])
def test_a_port_in_use_is_named_and_nothing_is_left_running(setting: str) -> None:
    before = set(threading.enumerate())  # a thread of an earlier test may end meanwhile
    with socket.socket() as taken, socket.socket() as other:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        other.bind(("127.0.0.1", 0))
        free = other.getsockname()[1]
        other.close()
        busy = taken.getsockname()[1]
        ports = {"http_port": free, "grpc_port": free} | {setting: busy}
        with pytest.raises(DeepSeekError, match=f"port {busy}: .* choose another one with {setting}"):
            Server(ServingConfig(**ports), [FakeClassifier()]).start()
        with socket.socket() as check:
            assert check.connect_ex(("127.0.0.1", free)) != 0
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if "_poll_wrapper" not in thread.name]  # gRPC's own, one for the process


def test_two_servers_cannot_share_a_port() -> None:
    with Server(ServingConfig(**FREE), [FakeClassifier()]) as first:
        http_port, grpc_port = (int(a.rsplit(":", 1)[1]) for a in (first.http_url, first.grpc_address))
        for ports in ({"http_port": http_port, "grpc_port": 0}, {"http_port": 0, "grpc_port": grpc_port}):
            with pytest.raises(DeepSeekError, match="cannot listen"):
                Server(ServingConfig(**ports), [FakeClassifier()]).start()
        assert httpx.get(first.http_url + "/v2/health/ready").status_code == 200


def test_a_model_that_fails_its_warm_up_stops_the_start_and_one_that_refuses_the_row_does_not() -> None:
    class Broken(FakeClassifier):
        def predict(self, rows: Any, parameters: Any = None) -> Any:
            raise RuntimeError("no weights")

    class Picky(FakeClassifier):
        def predict(self, rows: Any, parameters: Any = None) -> Any:
            raise ValueError("not this row")

    with pytest.raises(DeepSeekError, match="'sentiment' failed on its warm-up row with RuntimeError: no weights"):
        Server(ServingConfig(**FREE), [Broken()]).start()
    with Server(ServingConfig(**FREE), [Picky()]) as server:
        assert httpx.get(server.http_url + "/v2/models/sentiment/ready").status_code == 200


def test_while_models_warm_up_the_server_is_live_but_not_ready() -> None:
    model = FakeClassifier()
    model.gate = threading.Event()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(ServingConfig(http_port=port, grpc_port=0), [model])
    starting = threading.Thread(target=server.start)
    starting.start()
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=8)) as client:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/models/sentiment/ready").json() == {"name": "sentiment", "ready": False}
        early = client.post(TASK, json={"inputs": "a"})
        assert early.status_code == 503
        assert "warming up" in early.json()["error"]
        assert early.headers["retry-after"] == "1"
        model.gate.set()
        starting.join()
        assert client.get("/v2/health/ready").status_code == 200
    server.stop()


def test_repository_names_versions_and_removal() -> None:
    import asyncio

    async def run() -> None:
        repository = ModelRepository(ServingConfig())
        for version in ("9", "10", "beta"):
            repository.add(FakeClassifier(version=version))
        assert repository.get("sentiment").version == "10"
        assert repository.versions("sentiment") == ["beta", "9", "10"]
        assert not repository.ready
        await repository.remove("sentiment", "10")
        assert repository.get("sentiment").version == "9"
        assert repository.for_task("text-classification").version == "9"
        with pytest.raises(UnknownNameError, match="version"):
            repository.get("sentiment", "10")
        with pytest.raises(UnknownNameError, match="Did you mean 'sentiment'"):
            repository.get("sentimet")
        await repository.drain()

    asyncio.run(run())


# Says when the wanted number of requests is in flight; the model holds them until the drain has begun.
PROGRAM = """
import json, sys, threading, time
folder, drain, wanted, release = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "release"
sys.path.insert(0, folder)
from serving_fakes import FakeClassifier
from deepseek.serving import Server, ServingConfig

model = FakeClassifier()

def watch(server):
    while server._lifecycle.in_flight < wanted:
        time.sleep(0.005)
    print("arrived", flush=True)
    while server._lifecycle.ready:
        time.sleep(0.005)
    if release:
        model.gate.set()

def on_ready(server):
    model.gate = threading.Event()
    threading.Thread(target=watch, args=[server], daemon=True).start()
    print(json.dumps([server.http_url, server.grpc_address]), flush=True)

Server(ServingConfig(http_port=0, grpc_port=0, max_batch_size=2, drain_seconds=drain), [model]).run(on_ready)
print("ended", flush=True)
"""


def _spawn(drain: float, wanted: int, then: str) -> tuple[subprocess.Popen[str], str, str]:
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(drain), str(wanted), then]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    url, address = json.loads(line)
    return process, url, address


def _wait_until_arrived(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "arrived\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_in_flight_finish_and_exits_with_zero(number: signal.Signals) -> None:
    process, url, address = _spawn(drain=30, wanted=8, then="release")
    with ThreadPoolExecutor(8) as pool, grpc.insecure_channel(address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"g"]}}
        request = pb.ModelInferRequest(model_name="sentiment", inputs=[tensor])
        rest = [pool.submit(httpx.post, url + TASK, json={"inputs": f"r{i}"}, timeout=60) for i in range(5)]
        rpcs = [stub.ModelInfer.future(request, timeout=60) for _ in range(3)]
        _wait_until_arrived(process)
        process.send_signal(number)
        assert [future.result().json()["outputs"] for future in rest] == [[classify(f"r{i}")] for i in range(5)]
        assert all(rpc.result().outputs[0].contents.bytes_contents == [b"G"] for rpc in rpcs)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.strip() == "ended"
    assert "Traceback" not in err


def test_while_draining_new_requests_are_refused_and_a_second_signal_ends_it() -> None:
    process, url, _ = _spawn(drain=60, wanted=1, then="hold")
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=url, timeout=60) as client:
        slow = pool.submit(httpx.post, url + TASK, json={"inputs": ["a"] * 20}, timeout=60)
        _wait_until_arrived(process)
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        while client.get("/v2/health/ready").status_code != 503:
            assert time.monotonic() < deadline
        assert client.get("/v2/health/live").status_code == 200
        refused = client.post(TASK, json={"inputs": "late"})
        assert refused.status_code == 503
        assert "shutting down" in refused.json()["error"]
        process.send_signal(signal.SIGTERM)
        assert slow.result().status_code == 503
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "1 requests were still in flight" in err
