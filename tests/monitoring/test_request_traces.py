"""Spans as OpenTelemetry's own exporter sees them."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from deepseek.errors import MissingExtraError
from deepseek.monitoring import MonitoringConfig, ServerMonitor
from deepseek.monitoring.tracing import Tracer, TracingConfig

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def answered(tracer: Tracer, headers: dict[str, str]) -> Any:
    request = tracer.begin("rest", "chat_completions", headers)
    request.model("smollm", "2")
    now = time.monotonic()
    request.ran(now - 0.5, now - 0.3, now - 0.1, rows=8)
    request.used(1, 12, 80)
    request.end(200)
    return request


def test_no_span_ends_before_its_start_when_the_clock_is_set_back(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Tracer(TracingConfig(), exporter=exporter).begin("rest", "infer", {})
    real = time.time_ns
    monkeypatch.setattr("time.time_ns", lambda: real() - 5 * 3600 * 10**9)
    now = time.monotonic()
    request.ran(now, now, now, rows=1)
    request.end(200)
    for span in exporter.get_finished_spans():
        assert 0 <= span.end_time - span.start_time < 60 * 10**9


def test_a_request_is_a_server_span_with_queue_and_execution(exporter: InMemorySpanExporter) -> None:
    before = time.time_ns()
    answered(Tracer(TracingConfig(service_name="front"), version="1.2", exporter=exporter), {})
    queue, execute, server = exporter.get_finished_spans()
    assert server.name == "chat_completions smollm"
    assert server.kind is SpanKind.SERVER
    assert dict(server.attributes) == {
        "deepseek.protocol": "rest",
        "deepseek.operation": "chat_completions",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "smollm",
        "deepseek.model.version": "2",
        "deepseek.rows": 1,
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 80,
        "http.response.status_code": 200,
    }
    assert server.status.status_code is StatusCode.UNSET
    assert (server.resource.attributes["service.name"], server.resource.attributes["service.version"]) == (
        "front",
        "1.2",
    )
    assert [s.parent.span_id for s in (queue, execute)] == [server.context.span_id] * 2
    assert (queue.name, execute.name, dict(execute.attributes)) == ("queue", "execute", {"deepseek.batch.rows": 8})
    assert queue.end_time - queue.start_time == pytest.approx(0.2e9, abs=1e6)
    assert execute.end_time - execute.start_time == pytest.approx(0.2e9, abs=1e6)
    assert queue.end_time == pytest.approx(execute.start_time, abs=1e6)
    assert abs(execute.end_time - before) < 5e9


def test_the_callers_trace_goes_on(exporter: InMemorySpanExporter) -> None:
    tracer = Tracer(TracingConfig(ratio=0), exporter=exporter)
    request = answered(tracer, {"traceparent": PARENT, "tracestate": "vendor=1"})
    server = exporter.get_finished_spans()[-1]
    assert f"{server.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert request.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert request.headers["traceparent"] == f"00-{request.trace_id}-{server.context.span_id:016x}-01"
    assert request.headers["tracestate"] == "vendor=1"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "nonsense",
        PARENT[:-1],
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "ff" + PARENT[2:],
        PARENT * 100,
        "\x00\r\n",
    ],
)
def test_a_malformed_parent_is_no_parent(value: str, exporter: InMemorySpanExporter) -> None:
    answered(Tracer(TracingConfig(), exporter=exporter), {"traceparent": value})
    assert exporter.get_finished_spans()[-1].parent is None


def test_a_trace_that_nobody_takes_is_not_recorded_and_goes_on(exporter: InMemorySpanExporter) -> None:
    unsampled = PARENT[:-1] + "0"
    request = answered(Tracer(TracingConfig(), exporter=exporter), {"traceparent": unsampled})
    assert exporter.get_finished_spans() == ()
    assert request.headers["traceparent"].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert request.headers["traceparent"].endswith("-00")
    answered(Tracer(TracingConfig(ratio=0), exporter=exporter), {})
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(("code", "status"), [(429, StatusCode.UNSET), (500, StatusCode.ERROR)])
def test_failures_name_the_kind_and_keep_the_message(
    code: int, status: StatusCode, exporter: InMemorySpanExporter
) -> None:
    request = Tracer(TracingConfig(), exporter=exporter).begin("grpc", "infer", {})
    request.end(code, ValueError("received 'my diagnosis'"))
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is status
    assert span.attributes["error.type"] == "ValueError"
    assert "diagnosis" not in span.to_json()


def test_the_applications_provider_is_left_alone(exporter: InMemorySpanExporter) -> None:
    before = trace.get_tracer_provider()
    Tracer(TracingConfig(), exporter=exporter)
    assert trace.get_tracer_provider() is before


def test_off_is_none_and_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = ServerMonitor(status_of=lambda error: 500)
    assert monitor.tracer is None
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtraError, match=r"deepseek\[telemetry\]"):
        ServerMonitor(MonitoringConfig(tracing=TracingConfig()), status_of=lambda error: 500)


def test_spans_arrive_at_a_collector() -> None:
    """Over OTLP/HTTP, at a server that reads the official protobuf messages."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received: list[ExportTraceServiceRequest] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        tracer = Tracer(TracingConfig(endpoint=f"http://127.0.0.1:{server.server_port}/v1/traces"))
        answered(tracer, {})
        tracer.close()
        server.shutdown()
        thread.join()
    names = [s.name for r in received for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]
    assert sorted(names) == ["chat_completions smollm", "execute", "queue"]
