"""Every metric that a server exposes: its name, type, labels, unit, buckets, and how several processes' values combine.

Names follow the Prometheus conventions (prometheus.io/docs/practices/naming): one prefix, base units (seconds, bytes,
ratios from 0 to 1), ``_total`` for counters, ``_info`` for labels with the constant value 1. They are an interface:
rules, dashboards and other people's alerts are written against them, so a test freezes this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "info"]
Combine = Literal["sum", "max"]

DURATION_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Seconds. Denser around the few milliseconds in which a small model answers than OpenTelemetry's defaults are."""
FIRST_TOKEN_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
"""Seconds; those of OpenTelemetry's ``gen_ai.server.time_to_first_token``."""
PER_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""Seconds; those of OpenTelemetry's ``gen_ai.server.time_per_output_token``, and three smaller ones."""
ROW_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
LAG_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Family:
    """One metric. ``name`` is without ``_total`` and ``_info``, which the exposition adds by kind."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()
    """Upper bounds, inclusive, without infinity."""
    combine: Combine = "sum"
    """What one value for several processes is. Counters and histograms always add up."""

    @property
    def exposed(self) -> str:
        """The name that a query uses (a histogram's without ``_bucket``, ``_sum`` and ``_count``)."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


_MODEL = ("model", "version")
_REQUEST = ("protocol", "operation", *_MODEL, "code")


def _counter(name: str, text: str, *labels: str, unit: str = "") -> Family:
    return Family(name, "counter", text, labels, unit)


def _gauge(name: str, text: str, *labels: str, unit: str = "", combine: Combine = "max") -> Family:
    return Family(name, "gauge", text, labels, unit, combine=combine)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str, unit: str = "seconds") -> Family:
    return Family(name, "histogram", text, labels, unit, buckets)


def _info(name: str, text: str, *labels: str) -> Family:
    return Family(name, "info", text, labels, combine="max")


_STABILITY = (
    _info("deepseek_build", "Versions of the server.", "version", "python"),
    _counter("deepseek_requests", "Requests that ended, by the status that their client got.", *_REQUEST),
    _histogram("deepseek_request_duration_seconds", "From headers to answer.", DURATION_BUCKETS, *_REQUEST),
    _gauge("deepseek_requests_in_flight", "Requests that are being answered.", combine="sum"),
    _counter("deepseek_requests_refused", "Requests answered 429, by what was exhausted.", "protocol", "reason"),
    _counter("deepseek_worker_restarts", "Worker processes that died and were started again."),
    _gauge("deepseek_slo_objective_ratio", "Share of good events that was promised.", "slo", unit="ratio"),
    _counter("deepseek_slo_events", "Requests that a service level objective counts.", "slo"),
    _counter("deepseek_slo_bad_events", "Requests that broke a service level objective.", "slo"),
    _gauge("deepseek_slo_burn_rate", "Speed at which the error budget is used; 1 uses it up.", "slo", "window"),
    _counter("deepseek_log_records_suppressed", "Log records left out: repeated, or more than could be written."),
)
_MODELS = (
    _info("deepseek_model", "Models that are loaded.", *_MODEL, "task", "platform"),
    _gauge("deepseek_model_ready", "1 when the model takes requests.", *_MODEL),
    _gauge("deepseek_queue_rows", "Rows that wait for the model.", *_MODEL, combine="sum"),
    _gauge("deepseek_queue_limit_rows", "Most rows that may wait for the model.", *_MODEL, combine="sum"),
    _histogram("deepseek_queue_wait_seconds", "From arrival to the start of the batch.", DURATION_BUCKETS, *_MODEL),
    _histogram("deepseek_batch_rows", "Rows that the model saw at once.", ROW_BUCKETS, *_MODEL, unit=""),
    _histogram("deepseek_model_execution_seconds", "One batch in the model's thread.", DURATION_BUCKETS, *_MODEL),
    _counter("deepseek_rows", "Rows answered.", *_MODEL),
    _counter("deepseek_input_tokens", "Tokens read.", *_MODEL),
    _counter("deepseek_output_tokens", "Tokens generated.", *_MODEL),
    _histogram(
        "deepseek_time_to_first_token_seconds", "From headers to the first token.", FIRST_TOKEN_BUCKETS, *_MODEL
    ),
    _histogram("deepseek_time_per_output_token_seconds", "Between tokens after the first.", PER_TOKEN_BUCKETS, *_MODEL),
)
_RESOURCES = (
    _histogram("deepseek_event_loop_lag_seconds", "How late the event loop runs a timer.", LAG_BUCKETS),
    _gauge("deepseek_process_threads", "Threads of the process.", combine="sum"),
    _gauge("deepseek_process_cpu_ratio", "Processors that the process keeps busy.", unit="ratio", combine="sum"),
    _gauge("deepseek_host_cpu_ratio", "Share of all processors that is busy.", unit="ratio"),
    _gauge("deepseek_host_memory_used_bytes", "Memory in use, of the limit that applies here.", unit="bytes"),
    _gauge("deepseek_host_memory_limit_bytes", "Memory there is: the container's limit or all.", unit="bytes"),
    _gauge("deepseek_disk_used_bytes", "Bytes in use on the disk of the data folder.", unit="bytes"),
    _gauge("deepseek_disk_size_bytes", "Size of the disk of the data folder.", unit="bytes"),
    _info("deepseek_gpu", "GPUs that can be read.", "gpu", "vendor", "name"),
    _gauge("deepseek_gpu_utilization_ratio", "Share of the time in which a kernel ran.", "gpu", unit="ratio"),
    _gauge("deepseek_gpu_memory_used_bytes", "GPU memory in use, by any process.", "gpu", unit="bytes"),
    _gauge("deepseek_gpu_memory_size_bytes", "GPU memory there is.", "gpu", unit="bytes"),
    _gauge("deepseek_gpu_temperature_celsius", "GPU temperature.", "gpu", unit="celsius"),
    _gauge("deepseek_gpu_power_watts", "GPU power draw.", "gpu", unit="watts"),
)
_QUALITY = (
    _counter("deepseek_quality_rows", "Answered rows that were looked at for drift and confidence.", *_MODEL),
    _counter("deepseek_quality_failures", "Samples of rows that could not be compared with the reference.", *_MODEL),
    _gauge("deepseek_drift_state", "0 stable, 1 warning, 2 drift.", *_MODEL, "side", "column"),
    _gauge("deepseek_drift_effect", "Largest effect of a column's tests by its threshold.", *_MODEL, "side", "column"),
    _histogram("deepseek_prediction_confidence", "Score of the answer.", CONFIDENCE_BUCKETS, *_MODEL, unit=""),
    _counter("deepseek_labels", "True answers that were sent in later, by what became of them.", *_MODEL, "outcome"),
    _gauge("deepseek_live_labels", "Labelled answers in the window of the live scores.", *_MODEL),
    _gauge("deepseek_live_accuracy_ratio", "Share of right answers.", *_MODEL, "bound", unit="ratio"),
    _gauge("deepseek_live_auc_ratio", "Area under the ROC curve.", *_MODEL, "bound", unit="ratio"),
    _gauge("deepseek_live_overconfidence_ratio", "Mean score minus accuracy.", *_MODEL, "bound", unit="ratio"),
    _gauge("deepseek_live_absolute_error", "Mean absolute error of a regression.", *_MODEL, "bound"),
    _gauge("deepseek_reference_accuracy_ratio", "Accuracy that the bundle was written with.", *_MODEL, unit="ratio"),
)

FAMILIES: dict[str, Family] = {f.name: f for f in (*_STABILITY, *_MODELS, *_RESOURCES, *_QUALITY)}
"""All metrics by name, in the order of the exposition."""
