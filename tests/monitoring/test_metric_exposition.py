"""What a scraper reads: names that do not change, both formats, standard conventions."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from deepseek.errors import DataError
from deepseek.monitoring import ServerMonitor
from deepseek.monitoring.metrics import FAMILIES, merge, render

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
NAMES = {
    "deepseek_batch_rows",
    "deepseek_build_info",
    "deepseek_disk_size_bytes",
    "deepseek_disk_used_bytes",
    "deepseek_drift_effect",
    "deepseek_drift_state",
    "deepseek_event_loop_lag_seconds",
    "deepseek_gpu_info",
    "deepseek_gpu_memory_size_bytes",
    "deepseek_gpu_memory_used_bytes",
    "deepseek_gpu_power_watts",
    "deepseek_gpu_temperature_celsius",
    "deepseek_gpu_utilization_ratio",
    "deepseek_host_cpu_ratio",
    "deepseek_host_memory_limit_bytes",
    "deepseek_host_memory_used_bytes",
    "deepseek_input_tokens_total",
    "deepseek_labels_total",
    "deepseek_live_absolute_error",
    "deepseek_live_accuracy_ratio",
    "deepseek_live_auc_ratio",
    "deepseek_live_labels",
    "deepseek_live_overconfidence_ratio",
    "deepseek_log_records_suppressed_total",
    "deepseek_model_execution_seconds",
    "deepseek_model_info",
    "deepseek_model_ready",
    "deepseek_output_tokens_total",
    "deepseek_prediction_confidence",
    "deepseek_process_cpu_ratio",
    "deepseek_process_threads",
    "deepseek_quality_failures_total",
    "deepseek_quality_rows_total",
    "deepseek_queue_limit_rows",
    "deepseek_queue_rows",
    "deepseek_queue_wait_seconds",
    "deepseek_reference_accuracy_ratio",
    "deepseek_request_duration_seconds",
    "deepseek_requests_in_flight",
    "deepseek_requests_refused_total",
    "deepseek_requests_total",
    "deepseek_rows_total",
    "deepseek_slo_bad_events_total",
    "deepseek_slo_burn_rate",
    "deepseek_slo_events_total",
    "deepseek_slo_objective_ratio",
    "deepseek_time_per_output_token_seconds",
    "deepseek_time_to_first_token_seconds",
    "deepseek_worker_restarts_total",
}
LABELS = {
    "deepseek_requests": ("protocol", "operation", "model", "version", "code"),
    "deepseek_request_duration_seconds": ("protocol", "operation", "model", "version", "code"),
    "deepseek_requests_refused": ("protocol", "reason"),
    "deepseek_model": ("model", "version", "task", "platform"),
    "deepseek_drift_state": ("model", "version", "side", "column"),
    "deepseek_live_accuracy_ratio": ("model", "version", "bound"),
}


@pytest.fixture
def busy(monitor: ServerMonitor, full: Exception) -> ServerMonitor:
    meter = monitor.meters.meter("rest", "infer", "sentiment", "1")
    for error in (None, None, full, RuntimeError("ours")):
        meter.record(0.004, error)
    model = monitor.model("sentiment", "1")
    model.waited(0.002)
    model.ran(4, 0.01)
    model.used(4, input_tokens=7, output_tokens=9)
    model.first_token(0.05)
    model.per_output_token(0.02)
    monitor.resources.read()
    return monitor


def test_names_and_labels_are_frozen() -> None:
    assert {family.exposed for family in FAMILIES.values()} == NAMES
    assert len(FAMILIES) == len(NAMES)
    assert {name: FAMILIES[name].labels for name in LABELS} == LABELS


def test_both_formats_say_the_same(busy: ServerMonitor) -> None:
    snapshot = busy.metrics()
    text, openmetrics = render(snapshot), render(snapshot, OPENMETRICS)
    assert text.content_type.startswith("text/plain")
    assert openmetrics.content_type.startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")
    first = {(s.name, *sorted(s.labels.items())): s.value for f in parse_text(text.body.decode()) for s in f.samples}
    other = {
        (s.name, *sorted(s.labels.items())): s.value
        for f in parse_openmetrics(openmetrics.body.decode())
        for s in f.samples
    }
    ours = {key: value for key, value in first.items() if key[0].startswith("deepseek_")}
    assert ours
    assert ours == {key: value for key, value in other.items() if key[0].startswith("deepseek_")}
    request = [("model", "sentiment"), ("operation", "infer"), ("protocol", "rest"), ("version", "1")]
    assert ours["deepseek_requests_total", ("code", "200"), *request] == 2
    assert ours["deepseek_requests_total", ("code", "500"), *request] == 1
    assert ours["deepseek_requests_refused_total", ("protocol", "rest"), ("reason", "queue_full")] == 1
    assert ours["deepseek_requests_in_flight",] == 2
    assert ours["deepseek_output_tokens_total", ("model", "sentiment"), ("version", "1")] == 9
    assert ours["deepseek_build_info", ("python", first_python(ours)), ("version", "1.2.3")] == 1


def first_python(samples: dict[tuple[object, ...], float]) -> str:
    return next(dict(key[1:])["python"] for key in samples if key[0] == "deepseek_build_info")  # type: ignore[arg-type]


def test_a_histogram_is_cumulative_and_inclusive(monitor: ServerMonitor) -> None:
    meter = monitor.meters.meter("rest", "infer", "sentiment", "1")
    for seconds in (0.001, 0.0011, 0.0025, 100.0):
        meter.record(seconds, None)
    family = next(
        f for f in parse_text(render(monitor.metrics()).body.decode()) if f.name == "deepseek_request_duration_seconds"
    )
    counts = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    assert (counts["0.0005"], counts["0.001"], counts["0.0025"], counts["60.0"], counts["+Inf"]) == (0, 1, 3, 3, 4)


def test_the_process_is_there_once(busy: ServerMonitor) -> None:
    body = render(busy.metrics()).body.decode()
    assert body.count("\nprocess_resident_memory_bytes ") == 1
    assert "\nprocess_" not in render(busy.metrics(), process=False).body.decode()


def test_prometheus_finds_nothing_to_criticise(
    busy: ServerMonitor, promtool: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = promtool("check", "metrics", stdin=render(busy.metrics()).body.decode())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_foreign_snapshot_is_refused() -> None:
    with pytest.raises(DataError, match=r"deepseek.metrics/1, received 'other'"):
        merge([{"format": "other", "samples": {}}])
