"""A server whose models run in worker processes: killed under load, swapped, watched, and ended with the server."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from pool_serving import QUICK, alive
from serving_fakes import CONFIG
from worker_models import obedient

from deepseek.serving import Server
from deepseek.serving.workers import LoaderSpec, WorkersConfig

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets and signals")


class Source:
    """A model that worker processes load."""

    name = "obedient"

    def spec(self) -> LoaderSpec:
        return LoaderSpec(function="worker_models:obedient")

    def load(self) -> Any:
        raise AssertionError("it is loaded in worker processes")


def served(workers: int = 2) -> Server:
    config = CONFIG.model_copy(update={"workers": WorkersConfig(workers=workers, **QUICK), "model_control": True})
    return Server(config, sources=[Source()], load=["obedient"])


def ask(http: httpx.Client, do: str, value: int) -> httpx.Response:
    return http.post("/v1/tasks/test", json={"inputs": {"do": do, "v": value}}, timeout=60)


def pids(server: Server) -> set[int]:
    executor: Any = server.repository.get("obedient").executor
    return {status.pid for status in executor.statistics}


def test_kill_9_under_load_loses_no_request() -> None:
    with served() as server, ThreadPoolExecutor(8) as pool:
        assert os.getpid() not in pids(server)
        stop = threading.Event()

        def client(number: int) -> int:
            answered = 0
            with httpx.Client(base_url=server.http_url) as http:
                while not stop.is_set():
                    answer = ask(http, "", number * 10_000 + answered)
                    assert answer.status_code == 200, answer.text
                    assert answer.json()["outputs"][0]["v"] == number * 10_000 + answered
                    answered += 1
            return answered

        clients = [pool.submit(client, number) for number in range(8)]
        for _ in range(3):
            time.sleep(0.5)
            os.kill(random.choice(sorted(pids(server))), signal.SIGKILL)
        time.sleep(0.5)
        stop.set()
        assert sum(each.result() for each in clients) > 100
        with httpx.Client(base_url=server.http_url) as http:
            assert "deepseek_worker_restarts_total 3.0" in http.get("/metrics").text
        left = pids(server)
    assert not any(map(alive, left))


def test_a_row_that_kills_fails_alone_and_says_so() -> None:
    with served(1) as server, ThreadPoolExecutor(2) as pool, httpx.Client(base_url=server.http_url) as http:
        killing = pool.submit(ask, http, "die", 1)
        answers = [ask(http, "", value) for value in range(5)]
        assert [answer.json()["outputs"][0]["v"] for answer in answers] == list(range(5))
        answer = killing.result()
        assert answer.status_code == 500
        assert "incident" not in answer.json()["error"]  # it is told, because the row is to blame


def test_a_worker_that_is_gone_makes_the_server_unready_until_another_is_there() -> None:
    config = {**QUICK, "restart_delay_seconds": 1.0}
    workers = WorkersConfig(workers=1, **config)
    server = Server(CONFIG.model_copy(update={"workers": workers}), sources=[Source()], load=["obedient"])
    with server, httpx.Client(base_url=server.http_url) as http:
        assert http.get("/v2/health/ready").status_code == 200
        os.kill(pids(server).pop(), signal.SIGKILL)
        end = time.monotonic() + 20
        while http.get("/v2/health/ready").status_code != 503:
            assert time.monotonic() < end
        assert http.get("/v2/models/obedient/ready").status_code == 503
        assert http.get("/v2/health/live").status_code == 200
        assert ask(http, "", 7).json()["outputs"][0]["v"] == 7  # it waited for the next one
        assert http.get("/v2/health/ready").status_code == 200


def test_workers_are_swapped_with_their_model() -> None:
    with served() as server, httpx.Client(base_url=server.http_url, timeout=60) as http:
        before = pids(server)
        assert http.post("/v2/repository/models/obedient/load").status_code == 200
        assert not before & pids(server)
        assert not any(map(alive, before))
        assert ask(http, "", 3).status_code == 200


def test_what_a_model_knows_of_its_training_data_comes_out_of_its_process() -> None:
    class Referenced(Source):
        def spec(self) -> LoaderSpec:
            return LoaderSpec(function="worker_models:referenced")

    config = CONFIG.model_copy(update={"workers": WorkersConfig(workers=1, **QUICK)})
    with Server(config, sources=[Referenced()], load=["obedient"]) as server:
        body = {"inputs": [{"do": "", "v": value + 5000} for value in range(1000)]}
        assert httpx.post(f"{server.http_url}/v1/tasks/test", json=body, timeout=60).status_code == 200
        assert server.monitor is not None
        quality = server.monitor.quality("obedient")
        assert quality is not None
        quality.process()
        shown = quality.to_dict()
        assert shown["reference_accuracy"] == 0.94
        assert {column.name: (column.side, column.state) for column in quality.drift} == {"v": ("input", 2)}


def test_a_model_that_cannot_leave_the_servers_process_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    class AtHome(Source):
        def spec(self) -> LoaderSpec | None:  # type: ignore[override]
            return None

        def load(self) -> Any:
            return obedient()

    config = CONFIG.model_copy(update={"workers": WorkersConfig(workers=1, **QUICK)})
    caplog.set_level("WARNING", "deepseek.serving")
    with (
        Server(config, sources=[AtHome()], load=["obedient"]) as server,
        httpx.Client(base_url=server.http_url) as http,
    ):
        assert ask(http, "", 3).json()["outputs"][0]["pid"] == os.getpid()
    assert "model 'obedient' cannot run in worker processes" in caplog.text
