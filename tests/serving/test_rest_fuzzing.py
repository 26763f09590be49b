"""Requests over HTTP that are nearly right, by the thousand: refused one by one, and nobody else notices."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fault_server import Process, server_process
from fuzzing import log_has_no_fault, watched
from raw_http import TASK, KeptConnection, Mutations, exchange, post, sized, status
from serving_fakes import classify

FORM = b"multipart/form-data; boundary=b"
UPLOAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc\r\n--b--\r\n'
TENSOR = b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}'
IMAGE = b"/v1/tasks/image-classification"
BODIES = [
    (TASK, b'{"inputs": ["a", "b"], "parameters": {"temperature": 2}, "model": "sentiment"}', b"application/json"),
    (TASK, b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nabc\r\n--b--\r\n', FORM),
    (b"/v2/models/sentiment/infer", TENSOR, b"application/json"),
    (
        b"/v1/tasks/echo",
        b'{"inputs": {"x": [[1, 2]], "n": 5, "tags": ["a", "b"], "blob": {"base64": "AQ=="}}}',
        b"application/json",
    ),
    (IMAGE, UPLOAD, FORM),
    (IMAGE, b'{"inputs": [{"image": "data:image/png;base64,AQID", "box": [1, 2, 3, 4]}]}', b"application/json"),
]
CORPUS = [
    *(sized(*each) for each in BODIES),
    post(TASK, b"Transfer-Encoding: chunked", body=b'f\r\n{"inputs": "a"}\r\n0\r\n\r\n'),
    b"GET /v2/models/sentiment/versions/1 HTTP/1.1\r\nHost: test\r\nAccept: */*\r\n\r\n",
    b"GET /openapi.json HTTP/1.1\r\nHost: test\r\n\r\n",
    b"GET /v2/health/live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
]
EXPECTED = {0, 100, 200, 400, 404, 405, 408, 413, 414, 415, 431, 503, 505}
"""0: the connection was closed without an answer, as for what is no HTTP."""
THREADS = 8


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def served(log: Path) -> Iterator[Process]:
    with server_process(log) as process:
        yield process


def test_fuzzed_requests(served: Process, log: Path) -> None:
    fuzz(served, 2000)
    log_has_no_fault(log)


@pytest.mark.slow
def test_a_hundred_thousand_fuzzed_requests(served: Process, log: Path) -> None:
    fuzz(served, 100_000)
    log_has_no_fault(log)


def fuzz(served: Process, count: int) -> None:
    seen: Counter[int] = Counter()
    lock = threading.Lock()

    def work(seed: int) -> int:
        source, kept = Mutations(seed, CORPUS, BODIES), KeptConnection(served.address)
        found: Counter[int] = Counter()
        for _ in range(count // THREADS):
            request, right = source.next()
            found[kept.ask(request) if right else status(exchange(served.address, request, shut=True, seconds=10))] += 1
        kept.close()
        with lock:
            seen.update(found)
        return kept.opened

    with httpx.Client(base_url=served.url, timeout=30) as client:

        def ask() -> bool:
            answer = client.post(TASK.decode(), json={"inputs": "a"})
            return answer.status_code == 200 and answer.json()["outputs"] == [classify("a")]

        with watched(served, ask), ThreadPoolExecutor(THREADS) as pool:
            connections = sum(pool.map(work, range(THREADS)))
    print(dict(seen), connections, "kept connections")
    assert sum(seen.values()) == count
    assert set(seen) <= EXPECTED, seen
    assert seen[200] > 0
    assert seen[400] > 0
