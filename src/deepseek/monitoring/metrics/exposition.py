"""Metrics as Prometheus and OpenMetrics read them.

A custom collector of ``prometheus_client`` turns a snapshot into metric families, and its encoders write them: what a
scraper accepts decides between the text format and OpenMetrics. The registry is our own, so that several servers in a
process, or an application's own metrics, do not meet. ``process_*`` comes from the client's collector (Linux only).

Rendering takes milliseconds of pure Python. A snapshot is plain data, so take it on the event loop and render it in a
thread: :meth:`deepseek.monitoring.ServerMonitor.scrape` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from deepseek.monitoring.metrics.families import FAMILIES, Family
from deepseek.monitoring.metrics.samples import Snapshot


class Exposition(NamedTuple):
    """A scrape's answer."""

    content_type: str
    body: bytes


class SnapshotCollector(Collector):
    """Gives one snapshot's values to ``prometheus_client``."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        """The names alone, which the registry checks for duplicates."""
        for family in FAMILIES.values():
            yield _empty(family)

    def collect(self) -> Iterator[Metric]:
        """All metrics that have values."""
        samples = self._snapshot["samples"]
        for name, family in FAMILIES.items():
            if values := samples.get(name):
                metric = _empty(family)
                for labels, value in values:
                    _add(metric, family, labels, value)
                yield metric


def render(snapshot: Snapshot, accept: str = "", *, process: bool = True) -> Exposition:
    """Write a snapshot in the format that the ``Accept`` header asks for; text when it asks for none that we have.

    ``process`` adds ``process_*`` of the process that renders.
    """
    registry = CollectorRegistry()
    if process:
        ProcessCollector(registry=registry)
    registry.register(SnapshotCollector(snapshot))
    encode, content_type = choose_encoder(accept)
    return Exposition(content_type, encode(registry))


def _empty(family: Family) -> Metric:
    if family.kind == "counter":
        return CounterMetricFamily(family.name, family.help, labels=family.labels, unit=family.unit)
    if family.kind == "histogram":
        return HistogramMetricFamily(family.name, family.help, labels=family.labels, unit=family.unit)
    if family.kind == "info":
        return InfoMetricFamily(family.name, family.help)
    return GaugeMetricFamily(family.name, family.help, labels=family.labels, unit=family.unit)


def _add(metric: Metric, family: Family, labels: list[str], value: object) -> None:
    if isinstance(metric, HistogramMetricFamily):
        assert isinstance(value, list)
        bounds = [*(str(bound) for bound in family.buckets), "+Inf"]
        metric.add_metric(labels, list(zip(bounds, accumulate(value[0]), strict=True)), value[1])
    elif isinstance(metric, InfoMetricFamily):
        metric.add_metric([], dict(zip(family.labels, labels, strict=True)))
    elif isinstance(metric, CounterMetricFamily | GaugeMetricFamily):
        assert isinstance(value, int | float)
        metric.add_metric(labels, value)


def names() -> Iterable[str]:
    """All names that a query may use, a histogram's parts and the process's too; rules and dashboards use no others."""
    for family in FAMILIES.values():
        yield family.exposed
        if family.kind == "histogram":
            yield from (f"{family.name}_{part}" for part in ("bucket", "sum", "count"))
    for name in ("cpu_seconds_total", "open_fds", "max_fds", "resident_memory_bytes", "virtual_memory_bytes"):
        yield f"process_{name}"
    yield "process_start_time_seconds"
