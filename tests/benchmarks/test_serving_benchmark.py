"""The serving benchmark: what load generators print becomes figures, wrong answers never pass as speed, and a smoke run."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness import StepFailed
from benchmarks.serving_parts import (
    contest_requests,
    gateway,
    h2load,
    http2,
    metrics_cost,
    minilm,
    soak,
    stream_load,
    tabular,
    wrk,
)
from benchmarks.serving_parts.contestants import BOTH, GRPC_STREAM, GRPC_UNARY, REST_BINARY, REST_JSON
from benchmarks.serving_parts.first_answers import NotThere, grpc_answer, rest_answer, stream_answer
from benchmarks.serving_parts.load import Load, Row, together
from benchmarks.serving_parts.models import IDENTITY, TABULAR, model_called
from benchmarks.serving_parts.our_server import ArrayModel, everything_on
from benchmarks.serving_parts.server_process import Endpoint, ServerProcess, free_ports
from deepseek.serving import Server

ROOT = Path(__file__).parents[2]
LOADED = shutil.which("wrk") is not None and shutil.which("h2load") is not None


def _load(rate: float, *, p99: float = 2.0, errors: int = 0, seconds: float = 10.0) -> Load:
    return Load(requests=round(rate * seconds), errors=errors, seconds=seconds, p50_ms=1.0, p99_ms=p99, bytes_each=100)


def _row(*rates: float, p99: float = 2.0) -> Row:
    return Row(tuple(_load(rate, p99=p99) for rate in rates))


# --- what load generators print ---------------------------------------------------------------------------------------

H2LOAD = """\
finished in 5.00s, {rate} req/s, 2.10MB/s
requests: {done} total, {done} started, {done} done, {done} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: {done} 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 3.00MB (3145728) total, 100.00KB (102400) headers (space savings 90.00%), 1.00MB ({data}) data
"""


def test_h2loads_calls_count_when_their_messages_arrived() -> None:
    log = "".join(f"{at}\t200\t{1000 + at}\n" for at in range(101))
    found = h2load.parsed(H2LOAD.format(rate=2000, done=10_000, failed=0, data=10_000 * 105), log, answer_bytes=100)
    assert (found.requests, found.errors, found.seconds, found.rate) == (10_000, 0, 5.0, 2000.0)
    assert found.p50_ms == pytest.approx(1.05)
    assert found.p99_ms == pytest.approx(1.1, abs=0.002)


def test_calls_that_failed_with_status_200_are_errors() -> None:
    """A failed gRPC call is a 200 without a message: half of the bytes are half of the answers."""
    found = h2load.parsed(H2LOAD.format(rate=2000, done=10_000, failed=7, data=5_000 * 105), "", answer_bytes=100)
    assert (found.requests, found.errors) == (5_000, 5_007)
    with pytest.raises(StepFailed, match="5007 of 10007 requests failed"):
        found.require_sound("contest")


def test_another_output_of_h2load_is_not_read_as_a_rate() -> None:
    with pytest.raises(StepFailed, match="did not print what was expected"):
        h2load.parsed("h2load: something went wrong", "", 100)


def test_wrks_wrong_and_refused_answers_are_errors_once() -> None:
    values = {
        "requests": 1000,
        "microseconds": 2_000_000,
        "bytes": 379_000,
        "wrong": 30,
        "unanswered": 2,
        "refused": 20,
    }
    found = wrk.parsed(json.dumps(values | {"p50": 1500, "p99": 9000}))
    assert (found.requests, found.errors, found.rate) == (970, 32, 485.0)
    assert (found.p50_ms, found.p99_ms, found.bytes_each) == (1.5, 9.0, 379.0)


@pytest.mark.parametrize(("errors", "sound"), [(0, True), (1, True), (20, False)])
def test_a_rate_stands_only_with_few_errors(errors: int, sound: bool) -> None:
    load = _load(1000, errors=errors)
    if sound:
        load.require_sound("contest")
    else:
        with pytest.raises(StepFailed, match="failed"):
            load.require_sound("contest")


def test_loads_at_once_add_up_and_have_the_slower_ones_latency() -> None:
    found = together([_load(1000, p99=3), _load(500, p99=8, errors=2)])
    assert (found.rate, found.p99_ms, found.errors) == (1500, 8, 2)


# --- the streams' load ------------------------------------------------------------------------------------------------


@given(
    frames=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=300))
    ),
    cut=st.integers(1, 40),
)
def test_frames_are_the_same_however_they_arrive(frames: list[tuple[int, int, int, bytes]], cut: int) -> None:
    data = b"".join(http2.frame(*each) for each in frames)
    reader = http2.Frames()
    found = [each for at in range(0, len(data), cut) for each in reader.feed(data[at : at + cut])]
    assert found == frames


def test_long_header_values_have_their_length_in_several_bytes() -> None:
    opening = http2.opening("/s/m", "127.0.0.1:1", [("authorization", "k" * 1337)])
    # RFC 7541, C.1.2: 1337 in a prefix of five bits is 31, 154, 10; in seven bits it is 127, then 1337 - 127
    assert b"\x0dauthorization\x7f\xba\x09" + b"k" * 1337 in opening


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Ours with everything on, in this process."""
    http_port, grpc_port = free_ports(2)
    config, headers = everything_on(tmp_path_factory.mktemp("keys"), http_port=http_port, grpc_port=grpc_port)
    models = [ArrayModel(IDENTITY, model_called(IDENTITY))]
    with Server(config, models):
        yield Endpoint(http_port=http_port, grpc_port=grpc_port, headers=headers)


def _stream(endpoint: Endpoint, expected: bytes, **given: Any) -> dict[str, Any]:
    message = contest_requests.framed(contest_requests.oip_grpc(IDENTITY).body)
    return {
        "port": endpoint.grpc_port, "path": contest_requests.STREAM, "message": message.hex(), "connections": 3,
        "expected": contest_requests.framed(expected).hex(), "seconds": 0.3, "warm_up": 0.1,
        "headers": {**h2load.GRPC_HEADERS, **endpoint.headers}, **given,
    }  # fmt: skip


def test_streams_are_answered_and_every_answer_is_compared(endpoint: Endpoint) -> None:
    right = stream_answer(endpoint, contest_requests.oip_grpc(IDENTITY), "ours")
    found = asyncio.run(stream_load.run(_stream(endpoint, right)))
    assert found["requests"] > 3
    assert found["errors"] == 0
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    found = asyncio.run(stream_load.run(_stream(endpoint, right[:-1] + b"\x00")))
    assert found["requests"] == 0
    assert found["errors"] > 3


def test_streams_that_the_server_ends_are_errors(endpoint: Endpoint) -> None:
    found = asyncio.run(stream_load.run(_stream(endpoint, b"", path="/inference.GRPCInferenceService/NoSuchCall")))
    assert found["requests"] == 0
    assert found["errors"] == 3


# --- the first answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [contest_requests.oip_json, contest_requests.oip_binary])
def test_a_server_with_another_answer_takes_no_part(endpoint: Endpoint, make: Any, monkeypatch: Any) -> None:
    request = make(IDENTITY)
    assert rest_answer(endpoint, request, "ours")
    monkeypatch.setattr(contest_requests, "expected", lambda model: [0.5] * 16)
    with pytest.raises(StepFailed, match="ours answers /v2/models/identity/infer with"):
        rest_answer(endpoint, request, "ours")


def test_no_server_and_no_model_are_not_there_yet(endpoint: Endpoint) -> None:
    (port,) = free_ports(1)
    with pytest.raises(NotThere, match="does not answer"):
        rest_answer(Endpoint(http_port=port, grpc_port=port), contest_requests.oip_json(IDENTITY), "ours")
    with pytest.raises(NotThere, match="404"):
        rest_answer(endpoint, contest_requests.oip_json("tabular"), "ours")


def test_a_call_that_fails_is_not_there_yet_and_an_error_in_a_stream_is_a_wrong_answer(endpoint: Endpoint) -> None:
    with pytest.raises(NotThere, match="NOT_FOUND"):
        grpc_answer(endpoint, contest_requests.oip_grpc(TABULAR), "ours")
    with pytest.raises(StepFailed, match="unknown model 'tabular'"):
        stream_answer(endpoint, contest_requests.oip_grpc(TABULAR), "ours")


def test_everything_is_on(endpoint: Endpoint) -> None:
    request = contest_requests.oip_json(IDENTITY)
    bare = Endpoint(http_port=endpoint.http_port, grpc_port=endpoint.grpc_port)
    with pytest.raises(NotThere, match="401"):
        rest_answer(bare, request, "ours")
    with pytest.raises(NotThere, match="UNAUTHENTICATED"):
        grpc_answer(bare, contest_requests.oip_grpc(IDENTITY), "ours")
    rest_answer(endpoint, request, "ours")
    metrics = urllib.request.Request(f"{endpoint.http_url}/metrics", headers=endpoint.headers)
    with urllib.request.urlopen(metrics, timeout=10) as answer:
        assert 'model="identity"' in answer.read().decode()


def test_every_process_trains_the_same_trees() -> None:
    first, second = model_called(TABULAR), model_called(TABULAR)
    rows = [contest_requests.numbers()]
    import numpy as np

    given = np.array(rows, dtype=np.float32)
    assert (first(given) == second(given)).all()
    assert contest_requests.expected(TABULAR) == first(given)[0].tolist()


# --- server processes -------------------------------------------------------------------------------------------------


def _python(code: str, folder: Path) -> ServerProcess:
    return ServerProcess([sys.executable, "-c", code], env={}, folder=folder)


def test_a_server_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    def ask() -> None:
        raise ConnectionRefusedError

    server = _python("print('no such port'); raise SystemExit(3)", tmp_path)
    with server, pytest.raises(StepFailed, match="ended with 3: no such port"):
        server.wait_for(ask)


def test_what_a_server_has_started_ends_with_it(tmp_path: Path) -> None:
    child = "import os, time; os.setsid(); open('child', 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    with _python(code, tmp_path) as server:
        number = int(server.wait_for(lambda: (tmp_path / "child").read_text() or _nothing_yet()))
        assert server.resident_mb() > 10
        assert server.cpu_seconds() > 0
    for _ in range(100):
        state = Path(f"/proc/{number}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    os.kill(number, 9)
    pytest.fail("the child is alive")


def _nothing_yet() -> str:
    raise FileNotFoundError


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figures_of_the_gateway_compare_the_same_kind_of_load() -> None:
    mine = {
        REST_JSON: _row(15_000, 18_000, 16_000), REST_BINARY: _row(20_000), GRPC_UNARY: _row(24_000, p99=9.0),
        GRPC_STREAM: _row(8_000, p99=30.0), BOTH: _row(17_000),
    }  # fmt: skip
    rows = {
        gateway.OURS: mine,
        gateway.GRPCIO: {GRPC_UNARY: _row(4_000), GRPC_STREAM: _row(6_000)},
        gateway.TLS: {REST_JSON: _row(12_000), GRPC_UNARY: _row(3_000)},
        "FastAPI": {REST_JSON: _row(3_200)},
        "MLServer": {REST_JSON: _row(1_600), GRPC_UNARY: _row(1_200)},
        "grpc.aio": {GRPC_UNARY: _row(4_000), GRPC_STREAM: _row(8_000)},
    }
    figures = gateway.figures(rows, "as they come")
    assert figures["rest_json_rps"].value == 16_000
    assert figures["rest_json_rps"].baseline == 15_000
    assert figures["p99_ms"].value == 30.0
    assert "gRPC stream" in figures["p99_ms"].note
    assert figures["vs_fastapi"].value == 5.0
    assert figures["vs_mlserver"].as_dict()["ratio"] == 1.0  # ten times, as promised
    assert figures["vs_mlserver_grpc"].value == 20.0
    assert figures["vs_grpc_aio"].value == 6.0
    assert figures["vs_grpc_aio_stream"].value == 1.0
    assert figures["tls_rest_json_rps"].as_dict()["ratio"] == 0.75
    assert "vs_bentoml" not in figures  # it took no part


def test_the_tabular_model_is_compared_with_the_fastest_peer_of_each_protocol() -> None:
    rows = {
        gateway.OURS: {REST_JSON: _row(6_000), GRPC_UNARY: _row(8_000)},
        "FastAPI": {REST_JSON: _row(1_500)},
        "MLServer": {REST_JSON: _row(1_000), GRPC_UNARY: _row(2_000)},
    }
    figures = tabular.figures(rows, "as they come")
    assert figures["tabular_rest_json_rps"].baseline_name.startswith("FastAPI")
    assert figures["tabular_grpc_unary_rps"].as_dict()["ratio"] == 4.0


def test_a_share_is_taken_round_by_round() -> None:
    figures = minilm.figures(_row(90, 45, 190), [100.0, 50.0, 200.0], [31.0, 32.0, 30.0], "native")
    assert figures["model_share"].value == pytest.approx(0.9)
    assert figures["minilm_rps"].baseline == 100.0


def test_what_metrics_cost_is_the_worse_of_both_protocols_round_by_round() -> None:
    rows = {
        metrics_cost.ON: {REST_JSON: _row(98, 49, 196), GRPC_UNARY: _row(95, 47.5, 190)},
        metrics_cost.NO_METRICS: {REST_JSON: _row(100, 50, 200), GRPC_UNARY: _row(100, 50, 200)},
        metrics_cost.BARE: {REST_JSON: _row(100, 50, 200), GRPC_UNARY: _row(190, 95, 380)},
    }
    figures = metrics_cost.figures(rows)
    assert figures["metrics_cost"].value == pytest.approx(0.05)
    assert figures["keys_and_metrics_cost"].value == pytest.approx(0.5)


def test_growth_of_a_soak_is_counted_from_its_first_slice() -> None:
    figures = soak.figures([_load(100, errors=1), _load(100), _load(100, errors=2)], [90.0, 91.0, 90.5])
    assert figures["soak_errors"].value == 3
    assert figures["soak_memory_growth_mb"].value == pytest.approx(0.5)
    assert figures["soak_memory_growth_mb"].baseline == 90.0


@pytest.mark.slow
@pytest.mark.skipif(not LOADED, reason="the benchmark needs wrk and h2load on the path")
def test_a_smoke_run_leaves_its_figures(tmp_path: Path) -> None:
    target = tmp_path / "serving.json"
    command = [sys.executable, "benchmarks/serving.py", "--quick"]
    command += ["--workspace", str(tmp_path / "kept"), "--output", str(target)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    document = json.loads(target.read_text(encoding="utf-8"))
    assert {
        *gateway.KEYS.values(), "p99_ms", "grpcio_unary_rps", "tls_rest_json_rps", "vs_fastapi", *tabular.KEYS.values(),
        "model_share", "minilm_rps", "metrics_cost", "soak_errors", "soak_memory_growth_mb",
    } <= set(document["figures"])  # fmt: skip
    assert all(math.isfinite(figure["value"]) for figure in document["figures"].values())
    assert "fastapi (peer)" in document["versions"]
