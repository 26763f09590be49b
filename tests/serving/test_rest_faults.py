"""What HTTP clients do wrong, by mistake or on purpose: the server answers, lets go of them, and serves the others."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fault_server import Process, server_process
from raw_http import TASK, Address, exchange, post, sized, status
from serving_fakes import CONFIG, FakeClassifier, classify

from deepseek.serving import Server
from deepseek.serving.rest.limits import RestLimits

JSON = b'{"inputs": "a"}'
FORM = b"multipart/form-data; boundary=b"
UPLOAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc\r\n--b--\r\n'
INFER = b"/v2/models/sentiment/infer"
IMAGE = b"/v1/tasks/image-classification"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
LIMIT = CONFIG.max_body_bytes


@pytest.fixture(scope="module")
def served() -> Iterator[Process]:
    with server_process() as process:
        yield process


@pytest.fixture(autouse=True)
def _it_still_serves(served: Process) -> Iterator[None]:
    yield
    assert served.alive
    answer = httpx.post(served.url + TASK.decode(), json={"inputs": "a"}, timeout=30)
    assert answer.json()["outputs"] == [classify("a")]


def drip(*pieces: bytes, pause: float = 0.05, most: int = 2000) -> Iterator[bytes]:
    """The pieces, then single bytes for as long as the other side takes them."""
    yield from pieces
    for _ in range(most):
        time.sleep(pause)
        yield b"a"


# --- slow clients -----------------------------------------------------------------------------------------------------


def at_once(address: Address, requests: list[bytes]) -> list[bytes]:
    """The answers to beginnings of requests: each once with nothing after it, and once with bytes that never end."""
    slow = [*requests, *(drip(request) for request in requests)]
    with ThreadPoolExecutor(len(slow)) as pool:
        answers = list(pool.map(lambda data: exchange(address, data), slow))
    assert all(next(each, None) is not None for each in slow if not isinstance(each, bytes)), "all of it was taken"
    return answers


def test_connections_that_do_not_finish_their_headers_are_closed(served: Process) -> None:
    heads = [
        b"",
        b"G",
        b"POST /v1/tasks/x HTTP/1.1\r\nHost: te",
        b"GET /v2 HTTP/1.1\r\nHost: test\r\n",
        b"PRI * HTTP/2.0\r\n",
    ]
    for answer in at_once(served.address, heads):
        assert status(answer) in (0, 400, 408)


def test_bodies_that_do_not_arrive_are_answered_and_their_connections_closed(served: Process) -> None:
    beginnings = [
        post(TASK, b"Content-Length: 1000", body=b'{"inputs": "'),
        post(TASK, b"Transfer-Encoding: chunked", body=b'1000\r\n{"inputs": "'),
        post(INFER, b"Content-Length: 1000"),
        post(IMAGE, b"Content-Length: 1000", body=UPLOAD[:70], kind=FORM),
        post(IMAGE, b"Transfer-Encoding: chunked", body=b"1000\r\n" + UPLOAD[:70], kind=FORM),
    ]
    for answer in at_once(served.address, beginnings):
        assert status(answer) == 408
        assert b"connection: close" in answer.lower()
        assert b"expected the whole body within 1 s" in answer


def test_slow_clients_do_not_keep_others_waiting_and_all_get_their_answer(served: Process) -> None:
    slow = post(TASK, b"Content-Length: 1000", body=b'{"inputs": "')
    with ThreadPoolExecutor(100) as pool:
        answers = [pool.submit(exchange, served.address, slow) for _ in range(100)]
        with httpx.Client(base_url=served.url, timeout=30) as client:
            for _ in range(50):
                assert client.post(TASK.decode(), json={"inputs": "a"}).status_code == 200
        assert {status(answer.result()) for answer in answers} == {408}


def test_a_client_that_leaves_in_its_body_is_no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    with Server(CONFIG, [FakeClassifier()]) as server:
        host, port = server.http_url.removeprefix("http://").split(":")
        for request_ in (
            post(TASK, b"Content-Length: 1000", body=JSON),
            post(TASK, b"Transfer-Encoding: chunked", body=b"1000\r\n" + JSON),
            post(TASK, b"Transfer-Encoding: chunked", body=b"f\r\n" + JSON),
            post(TASK, b"Content-Length: 1000", body=UPLOAD, kind=FORM),
            post(TASK, b"Transfer-Encoding: chunked", body=b"1000\r\n" + UPLOAD, kind=FORM),
        ):
            with socket.create_connection((host, int(port)), timeout=30) as connection:
                connection.sendall(request_)
        assert httpx.post(server.http_url + TASK.decode(), json={"inputs": "a"}).status_code == 200
    assert [record.getMessage() for record in caplog.records if "incident" in record.getMessage()] == []


def test_answers_that_arrive_in_time_are_not_disturbed_by_the_deadlines() -> None:
    config = CONFIG.model_copy(update={"rest": RestLimits(body_timeout_seconds=0.3)})
    with Server(config, [FakeClassifier(seconds=0.8)]) as server:  # slower than a body may be
        host, port = server.http_url.removeprefix("http://").split(":")
        halves = [post(TASK, b"Content-Length: %d" % len(JSON), b"Connection: close"), JSON[:5], JSON[5:]]
        assert status(exchange((host, int(port)), halves)) == 200


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_bodies_that_arrive_at_the_same_time_are_bounded_together(framing: str) -> None:
    limit = 1024 * 1024
    text = b'{"inputs": "%s"}' % (b"a" * 700_000)
    head, body = post(TASK, b"Content-Length: %d" % len(text), b"Connection: close"), text
    if framing == "chunks":
        head = post(TASK, b"Transfer-Encoding: chunked", b"Connection: close")
        body = b"%x\r\n" % len(text) + text + b"\r\n0\r\n\r\n"
    config = CONFIG.model_copy(update={"max_body_bytes": limit, "rest": RestLimits(max_arriving_bytes=limit)})
    with Server(config, [FakeClassifier()]) as server:
        host, port = server.http_url.removeprefix("http://").split(":")
        address = host, int(port)
        with socket.create_connection(address, timeout=30) as first:
            first.sendall(head + body[:600_000])
            time.sleep(0.3)  # until it is being read
            refused = exchange(address, head + body)
            assert status(refused) == 429
            assert b"retry-after: 1" in refused.lower()
            assert b"of at most 1048576 may" in refused
            assert httpx.post(server.http_url + TASK.decode(), json={"inputs": "a"}).status_code == 200, (
                "small ones are"
            )
            first.sendall(body[600_000:])
            assert status(first.recv(65536)) == 200
        assert status(exchange(address, head + body)) == 200
        with socket.create_connection(address, timeout=30) as leaving:
            leaving.sendall(head + body[:600_000])
            time.sleep(0.3)
        deadline = time.monotonic() + 20
        while status(exchange(address, head + body)) != 200:
            assert time.monotonic() < deadline


def test_idle_connections_do_not_hurt(served: Process) -> None:
    many_idle_connections(served, 300)


@pytest.mark.slow
def test_a_thousand_idle_connections_do_not_hurt(served: Process) -> None:
    many_idle_connections(served, 1000)


def many_idle_connections(served: Process, count: int) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    before = served.memory()
    with contextlib.ExitStack() as idle:
        for at in range(count):
            connection = idle.enter_context(socket.create_connection(served.address, timeout=30))
            if at % 2:
                connection.sendall(LIVE.replace(b"Connection: close\r\n", b""))
        with httpx.Client(base_url=served.url, timeout=30) as client:
            for _ in range(100):
                assert client.post(TASK.decode(), json={"inputs": "a"}).status_code == 200
        assert served.memory() - before < count * 100_000


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_two_gigabytes_are_refused_without_being_read(served: Process) -> None:
    before = served.memory()
    taken = 0

    def endless(head: bytes, piece: bytes) -> Iterator[bytes]:
        nonlocal taken
        yield head
        for _ in range(2 * 1024**3 // len(piece)):
            taken += len(piece)
            yield piece

    block = b"a" * 65536
    for head, piece in (
        (post(TASK, b"Content-Length: 2147483648"), block),
        (post(TASK, b"Transfer-Encoding: chunked"), b"10000\r\n" + block + b"\r\n"),
        (post(IMAGE, b"Content-Length: 2147483648", kind=FORM), block),
        (post(IMAGE, b"Transfer-Encoding: chunked", kind=FORM), b"10000\r\n" + block + b"\r\n"),
    ):
        taken = 0
        answer = exchange(served.address, endless(head, piece))
        assert taken < 64 * 1024**2, "the server reads on and on"
        assert status(answer) == 413
        assert b"at most %d bytes" % LIMIT in answer
    assert served.memory() - before < 32 * 1024**2


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: test\r\n\r\n", {414, 431}),
        (b"GET /v2 HTTP/1.1\r\nHost: test\r\nX-Long: " + b"a" * 300_000 + b"\r\n\r\n", {431}),
        (b"GET /v2 HTTP/1.1\r\nHost: test\r\n" + b"".join(b"X-%d: a\r\n" % at for at in range(1000)) + b"\r\n", {431}),
        (b"GET /v2 HTTP/1.1\r\nHost: test\r\nX-No-End: " + b"a" * 1_000_000, {431}),
    ],
    ids=["address", "header", "headers", "endless"],
)
def test_heads_that_are_too_large_are_refused(served: Process, request_: bytes, expected: set[int]) -> None:
    assert status(exchange(served.address, request_)) in expected


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ([b"Content-Length: 5"], JSON, 400),  # cut off
        ([b"Content-Length: -1"], JSON, 400),
        ([b"Content-Length: 0x0f"], JSON, 400),
        ([b"Content-Length: 1e1"], JSON, 400),
        ([b"Content-Length: 99999999999999999999999"], JSON, 400),
        ([b"Content-Length: 15", b"Content-Length: 16"], JSON, 400),
        ([b"Content-Length: 0"], b"", 400),
        ([], b"", 400),
        ([b"Transfer-Encoding: chunked"], b"zz\r\n" + JSON, 400),
        ([b"Transfer-Encoding: chunked"], b"f;" + b"a" * 100_000 + b"\r\n" + JSON + b"\r\n0\r\n\r\n", 400),
        ([b"Transfer-Encoding: chunked"], b"ffffffffffffffffff\r\n" + JSON, 400),
        ([b"Transfer-Encoding: chunked"], b"0\r\n\r\n", 400),
        ([b"Transfer-Encoding: gzip"], JSON, 400),
    ],
)
def test_wrong_lengths_are_refused(served: Process, headers: list[bytes], body: bytes, expected: int) -> None:
    assert status(exchange(served.address, post(TASK, *headers, b"Connection: close", body=body))) == expected


def test_what_follows_a_body_that_is_too_long_is_not_taken_for_a_part_of_it(served: Process) -> None:
    answer = exchange(served.address, sized(TASK, JSON) + b"rubbish\r\n\r\n")
    assert status(answer) == 200
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 400" in answer
    pipelined = exchange(served.address, sized(TASK, JSON) * 3 + LIVE)
    assert pipelined.count(b"HTTP/1.1 200") == 4


def test_length_and_chunks_together_cannot_smuggle_a_request(served: Process) -> None:
    smuggled = b"0\r\n\r\nGET /v2 HTTP/1.1\r\nHost: test\r\n\r\n"
    answer = exchange(served.address, post(TASK, b"Content-Length: 4", b"Transfer-Encoding: chunked", body=smuggled))
    assert answer.count(b"HTTP/1.1 ") == 1  # the connection is closed after it (RFC 9112, 6.1)
    assert status(answer) == 400


# --- garbage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n\r\n\r\n\r\n\r\nrubbish\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"x" * 160,
        b"GET\r\n\r\n",
        b"GET /v2\r\n\r\n",
        b"GET /v2 HTTP/9.9\r\nHost: test\r\n\r\n",
        b"G\xffT /v2 HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: test\r\nno colon\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: test\r\nX\0: a\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: test\r\n X-Folded: a\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost : test\r\n\r\n",
        b"*" * 5000,
    ],
)
def test_garbage_is_refused(served: Process, garbage: bytes) -> None:
    assert status(exchange(served.address, garbage, shut=True)) in (0, 400)


def test_unusual_requests_are_answered(served: Process) -> None:
    for request_, expected in (
        (b"GET http://test/v2 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", 200),
        (b"GET /v2 HTTP/1.0\r\n\r\n", 200),
        (b"OPTIONS * HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", 404),
        (b"CONNECT test:1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", 404),
        (b"BREW /v2 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", 405),
        (b"GET /v2/models/%00%ff%2e%2e HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", 404),
        (post(TASK, b"Content-Length: 15", b"Connection: close", body=JSON, kind=b"\xff\xfe"), 200),
    ):
        assert status(exchange(served.address, request_, seconds=10)) == expected, request_
    continued = exchange(
        served.address, [post(TASK, b"Content-Length: 15", b"Expect: 100-continue", b"Connection: close"), JSON]
    )
    assert b"HTTP/1.1 100" in continued
    assert b"HTTP/1.1 200" in continued


@pytest.mark.parametrize("framing", [b"Content-Length: 2000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", [b"/v2", b"/v2/models/sentiment/ready", b"/metrics", b"/nope"])
def test_a_body_that_comes_after_its_answer_could_does_not_reset_the_connection(
    served: Process, path: bytes, framing: bytes
) -> None:
    """RFC 9110 gives the body of a GET no meaning; clients send one all the same, and often after the head."""
    head = b"GET " + path + b" HTTP/1.1\r\nHost: test\r\n" + framing + b"\r\n\r\n"
    body = b"a" * 2000 if b"Length" in framing else b"7d0\r\n" + b"a" * 2000 + b"\r\n0\r\n\r\n"

    def late() -> Iterator[bytes]:
        for piece in (head, body[:1000], body[1000:], LIVE):
            yield piece
            time.sleep(0.05)

    answer = exchange(served.address, late(), seconds=10)
    assert status(answer) == (404 if path == b"/nope" else 200)
    assert path == b"/nope" or answer.count(b"HTTP/1.1 200") == 2, "the connection was closed"


def test_a_keep_alive_connection_survives_refusals(served: Process) -> None:
    connection = http.client.HTTPConnection(*served.address, timeout=30)
    with contextlib.closing(connection):
        connection.connect()
        first = connection.sock
        for body, expected in ((b"{", 400), (JSON, 200), (b"[]", 400), (UPLOAD, 400), (JSON, 200)):
            kind = FORM.decode() if body is UPLOAD else "application/json"
            connection.request("POST", TASK.decode(), body, {"content-type": kind})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == expected
            assert connection.sock is first, "the connection was closed"
