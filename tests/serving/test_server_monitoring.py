"""What the running server tells of itself: metrics of both protocols, live accuracy from late labels, access lines."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving_fakes import CONFIG, FakeClassifier
from test_grpc_routes import infer_request

from deepseek.monitoring import MonitoringConfig
from deepseek.serving import Server
from deepseek.serving.errors import BodiesFullError, QueueFullError, QuotaExceededError, refusal
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc

TASK = "/v1/tasks/text-classification"
INFER = "/v2/models/sentiment/infer"
TEXT = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}


@pytest.fixture
def watched() -> Iterator[tuple[Server, httpx.Client]]:
    with Server(CONFIG, [FakeClassifier()]) as server, httpx.Client(base_url=server.http_url) as http:
        yield server, http


def samples(http: httpx.Client, name: str) -> dict[tuple[str, ...], float]:
    """Values of a metric by its labels' values, in the order of their names."""
    text = http.get("/metrics").text
    found = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
    return {tuple(value for _, value in sorted(s.labels.items())): s.value for s in found}


def test_requests_are_counted_by_protocol_model_and_status(watched: tuple[Server, httpx.Client]) -> None:
    server, http = watched
    assert http.post(INFER, json={"inputs": [TEXT]}).status_code == 200
    assert http.post(TASK, json={"inputs": "bad"}).status_code == 400
    assert http.post("/v2/models/nope/infer", json={"inputs": [TEXT]}).status_code == 404
    with grpc.insecure_channel(server.grpc_address) as channel:
        pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer_request(["c"]))  # type: ignore[no-untyped-call]
    # labels in alphabetical order: code, model, operation, protocol, version
    assert samples(http, "deepseek_requests_total") == {
        ("200", "sentiment", "infer", "rest", "1"): 1,
        ("400", "sentiment", "task", "rest", "1"): 1,
        ("404", "other", "infer", "rest", "other"): 1,
        ("200", "sentiment", "infer", "grpc", "1"): 1,
    }
    assert samples(http, "deepseek_rows_total") == {("sentiment", "1"): 3}
    assert samples(http, "deepseek_batch_rows_count") == {("sentiment", "1"): 4}  # the warm-up is one
    assert samples(http, "deepseek_requests_in_flight") == {(): 0}
    assert samples(http, "process_resident_memory_bytes")[()] > 1e6


def test_refusals_are_counted_by_the_reasons_that_the_alert_rules_know() -> None:
    with Server(CONFIG, [FakeClassifier()]) as server, httpx.Client(base_url=server.http_url) as http:
        batcher = server.repository.get("sentiment").batcher

        def full(*_: object, **__: object) -> None:
            raise QueueFullError("full", 1.0)

        batcher.submit = full  # type: ignore[method-assign, assignment]
        assert http.post(TASK, json={"inputs": "a"}).status_code == 429
        counted = samples(http, "deepseek_requests_refused_total")
    assert counted == {("rest", "queue_full"): 1}
    rules = (files("deepseek.monitoring.rules") / "deepseek.rules.yml").read_text("utf-8")
    known = set(re.findall(r'refused_total\{reason="(\w+)"', rules))
    told = {refusal(error) for error in (QueueFullError("", 1), BodiesFullError("", 1), QuotaExceededError("", 1))}
    assert told == {"queue_full", "bodies_full", "quota_exceeded"}
    assert known <= told


def test_openmetrics_is_spoken_to_those_who_ask(watched: tuple[Server, httpx.Client]) -> None:
    _, http = watched
    answer = http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_labels_are_joined_by_the_requests_ids(watched: tuple[Server, httpx.Client]) -> None:
    _, http = watched
    assert http.post(INFER, json={"inputs": [TEXT], "id": "one"}).status_code == 200
    assert http.post(TASK, json={"inputs": "c"}, headers={"x-request-id": "two"}).status_code == 200
    labels = [
        {"id": "one", "truth": "A"},
        {"id": "one", "row": 1, "truth": "wrong"},
        {"id": "two", "truth": "C"},
        {"id": "three", "truth": "C"},
    ]
    told = http.post("/v2/models/sentiment/labels", json={"labels": labels}).json()
    assert (told["joined"], told["unknown"]) == (3, 1)
    assert http.post("/v2/models/sentiment/labels", json={"labels": [{"id": "one"}]}).status_code == 400
    assert http.post("/v2/models/nope/labels", json={"labels": []}).status_code == 404


def test_without_monitoring_there_are_no_metrics() -> None:
    server = Server(CONFIG.model_copy(update={"monitoring": None}), [FakeClassifier()])
    with server, httpx.Client(base_url=server.http_url) as http:
        assert http.post(TASK, json={"inputs": "a"}).status_code == 200
        assert http.get("/metrics").status_code == 404
        refused = http.post("/v2/models/sentiment/labels", json={"labels": []})
        assert refused.status_code == 400
        assert "does not watch" in refused.json()["error"]


def test_an_access_line_tells_of_a_request_but_not_what_was_in_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "deepseek")
    config = CONFIG.model_copy(update={"monitoring": MonitoringConfig.model_validate({"logs": {"level": "info"}})})
    with Server(config, [FakeClassifier()]) as server:
        httpx.post(server.http_url + TASK, json={"inputs": "my secret"}, headers={"x-request-id": "r-1"})
    lines: list[Any] = [record for record in caplog.records if record.name == "deepseek.access"]
    assert [(line.request_id, line.model, line.code, line.rows) for line in lines] == [("r-1", "sentiment", 200, 1)]
    assert not any("my secret" in str(record.__dict__) for record in caplog.records)


def test_a_model_that_is_swapped_is_watched_anew_and_one_that_is_unloaded_no_more() -> None:
    class Source:
        name = "sentiment"
        loads = 0

        def load(self) -> FakeClassifier:
            self.loads += 1
            return FakeClassifier(self.name, "1")

    config = CONFIG.model_copy(update={"model_control": True})
    server = Server(config, sources=[Source()], load=["sentiment"])
    with server, httpx.Client(base_url=server.http_url) as http:
        assert http.post("/v2/repository/models/sentiment/load").status_code == 200
        assert http.post(TASK, json={"inputs": "a"}).status_code == 200
        assert samples(http, "deepseek_rows_total") == {("sentiment", "1"): 1}
        assert http.post("/v2/repository/models/sentiment/unload").status_code == 200
        assert samples(http, "deepseek_rows_total") == {}
