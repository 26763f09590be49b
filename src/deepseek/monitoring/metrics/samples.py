"""What the parts of a server report: plain values under a metric's name and labels, which add up across processes.

A :class:`Snapshot` is JSON: a worker sends one, the process that is scraped merges them. Two rules keep merged counters
from going backwards, which Prometheus would read as a restart and count twice:

- a worker that ended leaves its counts behind (:meth:`Merged.retire`), its gauges go with it;
- a worker's newest snapshot replaces its last one (:meth:`Merged.update`); nothing is added twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

from deepseek.errors import DataError
from deepseek.monitoring.metrics.families import FAMILIES

FORMAT = "deepseek.metrics/1"
HistogramValue: TypeAlias = list[Any]
"""``[counts by bucket, sum]``: one list of integers and a float."""
Value: TypeAlias = float | HistogramValue
Snapshot: TypeAlias = dict[str, Any]
"""``{"format": ..., "samples": {metric name: [[label values, value], ...]}}``."""


class Sample(NamedTuple):
    """One value of one metric; label values are in the order of the family's label names."""

    name: str
    labels: tuple[str, ...]
    value: Value


class Source(Protocol):
    """A part of the server that has metrics."""

    def samples(self) -> Iterable[Sample]:
        """Its values now."""


def take(sources: Iterable[Source]) -> Snapshot:
    """Take a snapshot of all sources; call it where they are written, on the event loop."""
    found: dict[str, list[list[Any]]] = {}
    for source in sources:
        for name, labels, value in source.samples():
            found.setdefault(name, []).append([list(labels), value])
    return {"format": FORMAT, "samples": found}


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Combine processes' snapshots into one; raises :class:`DataError` for another format or another set of buckets."""
    total: dict[str, dict[tuple[str, ...], Value]] = {}
    for snapshot in snapshots:
        _check(snapshot)
        for name, values in snapshot["samples"].items():
            family = FAMILIES.get(name)
            if family is None:  # a newer worker's, during a rolling change
                continue
            into = total.setdefault(name, {})
            for labels, value in values:
                key = tuple(labels)
                known = into.get(key)
                if known is None:
                    into[key] = [list(value[0]), value[1]] if family.kind == "histogram" else value
                elif family.kind == "histogram":
                    into[key] = _added(name, known, value)
                elif family.kind == "counter" or family.combine == "sum":
                    into[key] = known + value
                else:
                    into[key] = max(known, value)
    return {
        "format": FORMAT,
        "samples": {name: [[list(k), v] for k, v in values.items()] for name, values in total.items()},
    }


class Merged:
    """The counts of several workers, some of which may have ended."""

    def __init__(self) -> None:
        self._gone: Snapshot = {"format": FORMAT, "samples": {}}
        self._workers: dict[str, Snapshot] = {}

    def update(self, worker: str, snapshot: Snapshot) -> None:
        """Replace what a worker reported before."""
        _check(snapshot)
        self._workers[worker] = snapshot

    def retire(self, worker: str) -> None:
        """Keep an ended worker's counters and histograms, and forget its gauges."""
        last = self._workers.pop(worker, None)
        if last is None:
            return
        counts = {n: v for n, v in last["samples"].items() if n in FAMILIES and FAMILIES[n].kind in _LASTING}
        self._gone = merge([self._gone, {"format": FORMAT, "samples": counts}])

    def snapshot(self) -> Snapshot:
        """All workers' counts, of those that ended too."""
        return merge([self._gone, *self._workers.values()])


_LASTING = ("counter", "histogram")


def total(snapshot: Snapshot, name: str, where: Mapping[str, str] | None = None) -> tuple[float, list[int] | None]:
    """Sum a metric's values over the labels that are not in ``where``: the sum, and a histogram's counts by bucket.

    A wanted label value that ends in ``*`` matches all that begin so. For a histogram the sum is of what was observed.
    ``(0.0, None)`` when there is nothing.
    """
    family = FAMILIES[name]
    wanted = [(family.labels.index(label), value) for label, value in (where or {}).items()]
    amount, counts = 0.0, None
    for labels, value in snapshot["samples"].get(name, ()):
        if not all(_matches(labels[at], pattern) for at, pattern in wanted):
            continue
        if family.kind == "histogram":
            counts = list(value[0]) if counts is None else [a + b for a, b in zip(counts, value[0], strict=True)]
            amount += value[1]
        else:
            amount += value
    return amount, counts


def _matches(label: str, pattern: str) -> bool:
    return label.startswith(pattern[:-1]) if pattern.endswith("*") else label == pattern


def _added(name: str, known: Value, value: Value) -> Value:
    assert isinstance(known, list)
    assert isinstance(value, list)
    if len(known[0]) != len(value[0]):
        raise DataError(
            f"{name}: expected {len(known[0])} buckets, received {len(value[0])}; the workers' versions differ"
        )
    return [[a + b for a, b in zip(known[0], value[0], strict=True)], known[1] + value[1]]


def _check(snapshot: Snapshot) -> None:
    if snapshot.get("format") != FORMAT:
        raise DataError(f"expected a snapshot of format {FORMAT}, received {snapshot.get('format')!r}")
