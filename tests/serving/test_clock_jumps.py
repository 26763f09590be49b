"""The wall clock of a whole server is set hours forth and back while it serves: limits, quotas, expiry, deadlines,
windows and metrics neither hang nor go below zero, and nobody is refused for longer than it says."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fault_server import SETTINGS, Process, server_process
from locked_server import TASK, Client, Operator, access, eventually
from prometheus_client.parser import text_string_to_metric_families

HOUR = 3600.0
DAY = 24 * HOUR


def noon() -> float:
    """What has to be added to the real clock for it to be noon of the day after tomorrow, UTC."""
    now = time.time()
    return (now // DAY + 2.5) * DAY - now


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    plans = {"minute": {"requests_per_minute": 5}, "day": {"inferences_per_day": 10}}
    with server_process(access=access(tmp_path_factory.mktemp("keys"), **plans), rest={}) as process:
        yield process


@pytest.fixture
def operator(locked: Process) -> Iterator[Operator]:
    with Operator(locked) as operator:
        yield operator


def allowed(client: Client, times: int) -> int:
    """How many of some requests were answered; the others are refused, with a time that makes sense."""
    count = 0
    for _ in range(times):
        answer = client.rest()
        if answer.status_code == 200:
            count += 1
        else:
            assert answer.status_code == 429, answer.text
            assert 0 < int(answer.headers["retry-after"]) <= DAY
    return count


def test_the_minute_does_not_follow_the_wall_clock(locked: Process, operator: Operator) -> None:
    start = noon()
    locked.set_clock(start)
    with Client(locked, operator.key(plan="minute")) as client:
        assert allowed(client, 5) == 5
        for hours in (0, 5, -5, 30, -30, 0):
            locked.set_clock(start + hours * HOUR)
            refused = client.rest()
            assert refused.status_code == 429
            assert 0 < int(refused.headers["retry-after"]) <= 61


def test_a_day_is_given_once_however_often_the_clock_comes_to_it(locked: Process, operator: Operator) -> None:
    start = noon()
    locked.set_clock(start)
    with Client(locked, operator.key(plan="day")) as client:
        assert allowed(client, 12) == 10
        for hours, expected in ((13, 10), (0, 0), (13, 0), (-13, 10), (0, 0), (37, 10), (-13, 0), (13, 0), (37, 0)):
            locked.set_clock(start + hours * HOUR)
            assert allowed(client, 12) == expected, hours
        assert client.grpc() == "RESOURCE_EXHAUSTED"
        locked.set_clock(start + 61 * HOUR)
        assert client.grpc() == "OK", "nobody is refused for ever"
    locked.set_clock(start)


def test_usage_is_complete_whichever_days_it_was_on(locked: Process, operator: Operator) -> None:
    start = noon()
    locked.set_clock(start)
    first, last = (time.strftime("%Y-%m-%d", time.gmtime(time.time() + start + d * DAY)) for d in (-30, 30))
    key = operator.key()
    with Client(locked, key) as client:
        for hours in (0, 13, -13, 200, -200, 0, 13):
            locked.set_clock(start + hours * HOUR)
            for _ in range(5):
                assert client.rest().status_code == 200
                assert client.grpc() == "OK"
        locked.set_clock(start)
        eventually(lambda: operator.usage(key, first, last) == client.acknowledged)


def test_keys_expire_and_come_back_and_revoked_ones_do_not(locked: Process, operator: Operator) -> None:
    start = noon()
    locked.set_clock(start)
    key, revoked = operator.key(expires="1h"), operator.key()
    with Client(locked, key) as client, Client(locked, revoked) as other:
        assert client.rest().status_code == other.rest().status_code == 200
        assert operator.revoke(revoked).status_code == 200
        for hours, expected in ((2, 401), (0, 200), (50, 401), (-50, 200), (0, 200)):
            locked.set_clock(start + hours * HOUR)
            answer = client.rest()
            assert answer.status_code == expected
            assert expected == 200 or "expired" in answer.json()["error"]
            assert client.grpc() == ("OK" if expected == 200 else "UNAUTHENTICATED")
            assert other.rest().status_code == 401


@pytest.mark.parametrize("workers", [0, 1], ids=["thread", "worker"])
def test_deadlines_and_batches_go_by_another_clock(workers: int) -> None:
    settings = {"workers": {**SETTINGS["workers"], "workers": workers}, "batch_timeout_seconds": 2.0}
    ended = threading.Event()
    with server_process(**settings) as process:

        def jump() -> None:
            hours = 0
            while not ended.is_set():
                hours = -hours if hours > 0 else 5 - hours
                process.set_clock(hours * HOUR)
                time.sleep(0.02)

        def ask(http: httpx.Client, how: str, microseconds: int = 0) -> int:
            tensor = {"name": "how", "shape": [1], "datatype": "BYTES", "data": [how]}
            body: dict[str, Any] = {"inputs": [tensor], "parameters": {"timeout": microseconds}}
            return http.post("/v2/models/faulty/infer", json=body).status_code

        with (
            ThreadPoolExecutor(1) as pool,
            httpx.Client(base_url=process.url, timeout=60) as http,
        ):
            jumping = pool.submit(jump)
            try:
                for _ in range(20):
                    assert ask(http, "sleep 0.02") == 200
                    assert ask(http, "", 30_000_000) == 200
                assert ask(http, "sleep 0.5", 100_000) == 504
                assert ask(http, "sleep 3") == 504
                eventually(lambda: ask(http, "") == 200)
            finally:
                ended.set()
                jumping.result()
        assert process.end() == 0


def test_monitoring_stays_sound() -> None:
    quality = {"interval_seconds": 0.1, "keep_seconds": HOUR, "label_seconds": HOUR}
    monitoring = {"step_seconds": 0.1, "quality": quality}
    with server_process(monitoring=monitoring, rest={}) as process, Client(process, "no key is needed") as client:
        asked = []
        for hours in (0, 5, -5, 100, -100, 0):
            process.set_clock(hours * HOUR)
            for _ in range(5):
                asked.append(f"r{len(asked)}")
                assert client.rest(asked[-1]).status_code == 200
            assert client.http.post(TASK, json={"inputs": "crash"}).status_code == 500
            time.sleep(0.5)  # several steps
            check_metrics(client.http.get("/metrics").text)
        assert client.labels(asked)["joined"] == len(asked), "none of them has been forgotten by a jump"
        time.sleep(0.3)
        metrics = client.http.get("/metrics").text
        assert f'deepseek_live_labels{{model="sentiment",version="1"}} {len(asked)}.0' in metrics
        check_charts(client.http.get("/console/data").json()["monitor"])
        process.set_clock(0)


def check_metrics(text: str) -> None:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert math.isfinite(sample.value), sample
            assert sample.value >= 0, sample


def check_charts(monitor: dict[str, Any]) -> None:
    assert 0 <= monitor["now"] - monitor["started"] < 600
    times = monitor["history"]["times"]
    assert times == sorted(times)
    assert times[-1] - times[0] < 600
    for name, values in monitor["history"]["server"].items():
        assert all(value is None or (math.isfinite(value) and value >= 0) for value in values), name
