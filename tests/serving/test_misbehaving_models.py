"""Models that raise, hang, leak, or answer in a wrong shape: in the server's process and in worker processes, asked over
every protocol. The request concerned fails and says so; those beside it and after it are answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest
from fault_server import SETTINGS, Process, server_process
from faulty_models import GOOD, RIGHT, WRONG
from fuzzing import MIB

from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc

TASK = "/v1/tasks/faults"
INFER = "/v2/models/faulty/infer"
TIMEOUT = 1.5
WRONG_NUMBER = ("fewer", "more")


def settings(workers: int, **others: Any) -> dict[str, Any]:
    return {"workers": {**SETTINGS["workers"], "workers": workers, **others}}


@pytest.fixture(scope="module", params=[0, 1], ids=["thread", "worker"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def served(workers: int) -> Iterator[Process]:
    with server_process(batch_timeout_seconds=TIMEOUT, **settings(workers)) as process:
        yield process


@pytest.fixture
def http(served: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=60) as client:
        yield client
        assert served.alive
        assert by_task(client, "").json()["outputs"] == [GOOD]


def by_task(http: httpx.Client, *how: str) -> httpx.Response:
    return http.post(TASK, json={"inputs": list(how)})


def by_oip(http: httpx.Client, *how: str) -> httpx.Response:
    tensor = {"name": "how", "shape": [len(how)], "datatype": "BYTES", "data": list(how)}
    return http.post(INFER, json={"inputs": [tensor]})


def by_binary(http: httpx.Client, *how: str) -> httpx.Response:
    tensor = {"name": "how", "shape": [len(how)], "datatype": "BYTES", "data": list(how)}
    return http.post(INFER, json={"inputs": [tensor], "parameters": {"binary_data_output": True}})


def by_grpc(served: Process, *how: str, raw: bool = False) -> tuple[str, str]:
    """Status and message."""
    tensor: dict[str, Any] = {"name": "how", "datatype": "BYTES", "shape": [len(how)]}
    request = pb.ModelInferRequest(model_name="faulty", inputs=[tensor])
    if raw:
        request.raw_input_contents.append(b"".join(len(h).to_bytes(4, "little") + h.encode() for h in how))
    else:
        request.inputs[0].contents.bytes_contents.extend(h.encode() for h in how)
    with grpc.insecure_channel(served.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub: Any = pb_grpc.GRPCInferenceServiceStub(channel)
        try:
            stub.ModelInfer(request, timeout=60)
        except grpc.RpcError as error:
            return error.code().name, error.details()  # type: ignore[attr-defined]
    return "OK", ""


@pytest.mark.parametrize("how", ["raise", "exhaust", *WRONG, *WRONG_NUMBER])
def test_a_fault_of_the_model_is_one_on_every_protocol_and_tells_nothing(
    served: Process, http: httpx.Client, how: str
) -> None:
    for ask in (by_task, by_oip, by_binary):
        answer = ask(http, how)
        assert answer.status_code == 500, (ask.__name__, answer.text)
        assert "internal error" in answer.json()["error"]
        assert "secret" not in answer.text
    for raw in (False, True):
        code, message = by_grpc(served, how, raw=raw)
        assert (code, "internal error" in message) == ("INTERNAL", True)


def test_a_model_that_ends_its_thread_or_process_fails_its_request_only(http: httpx.Client, workers: int) -> None:
    answer = by_task(http, "interrupt")
    assert answer.status_code == 500
    assert ("died each time" if workers else "internal error") in answer.json()["error"]


def test_a_refusal_of_the_model_is_the_clients(served: Process, http: httpx.Client) -> None:
    for ask in (by_task, by_oip):
        assert ask(http, "refuse").status_code == 400
    assert by_grpc(served, "refuse")[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("how", list(RIGHT))
def test_right_answers_in_all_their_forms_are_taken(served: Process, http: httpx.Client, how: str) -> None:
    for ask in (by_task, by_oip, by_binary):
        assert ask(http, how).status_code == 200
    assert by_grpc(served, how)[0] == by_grpc(served, how, raw=True)[0] == "OK"


@pytest.mark.parametrize("how", ["raise", "long", "missing", "none", "vector"])
def test_the_requests_in_the_same_batch_are_answered(http: httpx.Client, how: str) -> None:
    with ThreadPoolExecutor(7) as pool:
        first = pool.submit(by_task, http, "sleep 0.2")  # what follows waits, and goes together
        time.sleep(0.1)
        asked = [pool.submit(by_task, http, how if number == 2 else "") for number in range(6)]
        codes = [each.result().status_code for each in asked]
        assert first.result().status_code == 200
    assert codes == [200, 200, 500, 200, 200, 200]


def test_a_model_that_hangs_is_given_up_and_comes_back(served: Process, http: httpx.Client, workers: int) -> None:
    answer = by_task(http, "sleep 4")
    assert answer.status_code == 504
    assert "took more than 1.5 seconds" in answer.json()["error"]
    if not workers:  # a thread cannot be ended, so the model is unready until it returns
        assert http.get("/v2/models/faulty/ready").status_code == 503
        refused = by_task(http, "")
        assert refused.status_code == 503
        assert "retry later" in refused.json()["error"]
        assert http.post("/v1/tasks/text-classification", json={"inputs": "a"}).status_code == 200
    assert http.get("/v2/health/live").status_code == 200
    end = time.monotonic() + 30
    while by_task(http, "").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert http.get("/v2/models/faulty/ready").status_code == 200


def test_a_leak_in_the_servers_process_is_seen_in_its_metrics() -> None:
    with server_process(**settings(0)) as process, httpx.Client(base_url=process.url, timeout=60) as http:
        before = resident(http)
        for _ in range(10):
            assert by_task(http, "leak 20").status_code == 200
        end = time.monotonic() + 30
        while resident(http) < before + 150 * MIB:
            assert time.monotonic() < end
            time.sleep(0.1)


def resident(http: httpx.Client) -> float:
    name = "process_resident_memory_bytes "
    return next(float(line[len(name) :]) for line in http.get("/metrics").text.splitlines() if line.startswith(name))


def test_a_leak_in_a_worker_ends_with_that_worker() -> None:
    limits = settings(2, max_worker_memory=600 * MIB)
    with server_process(**limits) as process, httpx.Client(base_url=process.url, timeout=60) as http:
        before = process.memory()
        for _ in range(100):
            assert by_task(http, "leak 20").status_code == 200
        assert process.memory() - before < 64 * MIB
        assert "deepseek_worker_restarts_total 0" in http.get("/metrics").text
