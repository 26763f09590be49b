"""Charts without a database: the last minutes of a server at a fixed step, from differences of metric snapshots.

Ring buffers of plain numbers: 15 minutes at 5 seconds are 180 points a series. A point without an observation is
``None`` (no request has no latency), a rate is 0. Snapshots may be one process's or several workers' merged ones; where
a counter went back, because a worker was replaced, the point counts nothing rather than something negative.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from deepseek.monitoring.metrics.families import FAMILIES
from deepseek.monitoring.metrics.histogram import quantile
from deepseek.monitoring.metrics.samples import Snapshot

Number: TypeAlias = float | None
Model: TypeAlias = tuple[str, str]

MOST_MODELS = 32
SERVER_SERIES = (
    "request_rate", "error_rate", "refusal_rate", "client_error_rate", "p50", "p95", "p99", "in_flight", "queue_rows",
    "batch_rows", "busy", "row_rate", "output_token_rate", "process_cpu", "host_cpu", "memory_used", "resident",
    "gpu_utilization", "gpu_memory_used", "loop_lag", "drift", "confidence",
)  # fmt: skip
"""Rates are per second, latencies and lag in seconds, memory in bytes. ``error_rate`` is of 5xx, ``refusal_rate`` of
429, ``client_error_rate`` of all other 4xx; ``busy`` is the number of model threads at work; CPUs and GPUs are shares,
``process_cpu`` in processors; ``drift`` is the worst effect by its threshold; ``confidence`` the mean score."""
MODEL_SERIES = (
    "request_rate", "error_rate", "p50", "p95", "p99", "queue_rows", "batch_rows", "busy", "row_rate",
    "output_token_rate", "drift", "confidence",
)  # fmt: skip


class History:
    """The last points of a server and of each of its models."""

    def __init__(self, step_seconds: float, minutes: float) -> None:
        self._points = max(2, round(minutes * 60 / step_seconds))
        self._last: tuple[float, _Look] | None = None
        self.times: deque[float] = deque(maxlen=self._points)
        """Unix times of the points."""
        self._server = self._ring(SERVER_SERIES)
        self._models: dict[Model, dict[str, deque[Number]]] = {}

    def _ring(self, names: Sequence[str]) -> dict[str, deque[Number]]:
        return {name: deque(maxlen=self._points) for name in names}

    def add(self, at: float, snapshot: Snapshot, *, now: float, extra: Mapping[str, Number]) -> None:
        """Add a point: ``at`` on a clock that never goes back, ``now`` in Unix time, ``extra`` from no metric."""
        look = _Look(snapshot)
        if self._last is not None and at > self._last[0]:
            before, seconds = self._last[1], at - self._last[0]
            server = {**_server(before, look, seconds), **extra}
            models = {model: _activity(before, look, seconds, model) for model in look.models[:MOST_MODELS]}
            self._append(now, server, models)
        self._last = (at, look)

    def _append(self, now: float, server: Mapping[str, Number], models: Mapping[Model, Mapping[str, Number]]) -> None:
        for gone in self._models.keys() - models.keys():
            del self._models[gone]
        for model in models.keys() - self._models.keys():
            rings = self._models[model] = self._ring(MODEL_SERIES)
            for ring in rings.values():  # as long as the others, so that all share their times
                ring.extend([None] * len(self.times))
        self.times.append(now)
        for name, ring in self._server.items():
            ring.append(server.get(name))
        for model, point in models.items():
            for name, ring in self._models[model].items():
                ring.append(point.get(name))

    def to_dict(self, points: int | None = None) -> dict[str, Any]:
        """Plain JSON: ``times``, ``server`` and ``models`` (``name/version``), a list for each series; the newest."""
        skip = max(len(self.times) - points, 0) if points is not None else 0
        return {
            "times": list(islice(self.times, skip, None)),
            "server": {name: list(islice(ring, skip, None)) for name, ring in self._server.items()},
            "models": {
                f"{model}/{version}": {name: list(islice(ring, skip, None)) for name, ring in rings.items()}
                for (model, version), rings in self._models.items()
            },
        }


class _Look:
    """A snapshot's sums, of each model and of all (``None``), in one pass: it is taken on the event loop."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.models: list[Model] = [
            (labels[0], labels[1]) for labels, _ in snapshot["samples"].get("deepseek_model", ())
        ]
        self._sums: dict[tuple[str, Model | None], float] = {}
        self._counts: dict[tuple[str, Model | None], list[int]] = {}
        for name in _SUMMED:
            family = FAMILIES[name]
            at = family.labels.index("model") if "model" in family.labels else None
            code = family.labels.index("code") if name == "deepseek_requests" else None
            for labels, value in snapshot["samples"].get(name, ()):
                model = (labels[at], labels[at + 1]) if at is not None else None
                self._add(name, model, value)
                if code is not None and labels[code] == "429":
                    self._add(_REFUSED, model, value)
                elif code is not None and labels[code].startswith("5"):
                    self._add(_FAILED, model, value)
                elif code is not None and labels[code].startswith("4"):
                    self._add(_MISTAKEN, model, value)

    def _add(self, name: str, model: Model | None, value: Any) -> None:
        for key in ((name, None), (name, model)) if model is not None else ((name, None),):
            if isinstance(value, list):
                known = self._counts.get(key)
                self._counts[key] = value[0] if known is None else [a + b for a, b in zip(known, value[0], strict=True)]
                self._sums[key] = self._sums.get(key, 0.0) + value[1]
            elif name == "deepseek_drift_effect":
                self._sums[key] = max(self._sums.get(key, 0.0), value)
            else:
                self._sums[key] = self._sums.get(key, 0.0) + value

    def now(self, name: str, model: Model | None = None) -> Number:
        """A value; ``None`` when it was not reported."""
        return self._sums.get((name, model))

    def grown(self, before: _Look, name: str, model: Model | None = None) -> float:
        """How much a counter, or a histogram's sum, grew."""
        return max((self.now(name, model) or 0.0) - (before.now(name, model) or 0.0), 0.0)

    def buckets(self, before: _Look, name: str, model: Model | None) -> list[int]:
        """How much each bucket of a histogram grew; empty when there is none."""
        new, old = self._counts.get((name, model), []), before._counts.get((name, model))
        return [max(b - a, 0) for a, b in zip(old, new, strict=True)] if old else new


_FAILED, _REFUSED = "deepseek_requests failed", "deepseek_requests refused"
_MISTAKEN = "deepseek_requests mistaken"
_SUMMED = (
    "deepseek_requests", "deepseek_request_duration_seconds", "deepseek_requests_in_flight", "deepseek_queue_rows",
    "deepseek_batch_rows", "deepseek_model_execution_seconds", "deepseek_rows", "deepseek_output_tokens",
    "deepseek_prediction_confidence", "deepseek_drift_effect", "deepseek_process_cpu_ratio",
    "deepseek_host_cpu_ratio", "deepseek_host_memory_used_bytes", "deepseek_gpu", "deepseek_gpu_utilization_ratio",
    "deepseek_gpu_memory_used_bytes",
)  # fmt: skip


def _server(before: _Look, after: _Look, seconds: float) -> dict[str, Number]:
    gpus, utilization = after.now("deepseek_gpu"), after.now("deepseek_gpu_utilization_ratio")
    return {
        **_activity(before, after, seconds, None),
        "refusal_rate": after.grown(before, _REFUSED) / seconds,
        "client_error_rate": after.grown(before, _MISTAKEN) / seconds,
        "in_flight": after.now("deepseek_requests_in_flight"),
        "process_cpu": after.now("deepseek_process_cpu_ratio"),
        "host_cpu": after.now("deepseek_host_cpu_ratio"),
        "memory_used": after.now("deepseek_host_memory_used_bytes"),
        "gpu_utilization": utilization / gpus if gpus and utilization is not None else None,
        "gpu_memory_used": after.now("deepseek_gpu_memory_used_bytes"),
    }


def _activity(before: _Look, after: _Look, seconds: float, model: Model | None) -> dict[str, Number]:
    """What a model, or all of them, did between two looks."""
    durations = after.buckets(before, "deepseek_request_duration_seconds", model)
    bounds = FAMILIES["deepseek_request_duration_seconds"].buckets
    batches = sum(after.buckets(before, "deepseek_batch_rows", model))
    scored = sum(after.buckets(before, "deepseek_prediction_confidence", model))
    return {
        "request_rate": sum(durations) / seconds,
        "error_rate": after.grown(before, _FAILED, model) / seconds,
        "p50": quantile(0.5, bounds, durations),
        "p95": quantile(0.95, bounds, durations),
        "p99": quantile(0.99, bounds, durations),
        "queue_rows": after.now("deepseek_queue_rows", model),
        "batch_rows": after.grown(before, "deepseek_batch_rows", model) / batches if batches else None,
        "busy": after.grown(before, "deepseek_model_execution_seconds", model) / seconds,
        "row_rate": after.grown(before, "deepseek_rows", model) / seconds,
        "output_token_rate": after.grown(before, "deepseek_output_tokens", model) / seconds,
        "drift": after.now("deepseek_drift_effect", model),
        "confidence": after.grown(before, "deepseek_prediction_confidence", model) / scored if scored else None,
    }
