"""Meters of requests: a count and a histogram of durations for each (protocol, operation, model, version, code).

They fit :class:`deepseek.serving.gateway.Meters` by shape; nothing of serving is imported. Everything is written from
the event loop's thread alone, so there are no locks: recording an answered request is one bisection and two additions
(about 0.2 µs).

Cardinality is bounded twice. A model's name becomes a label only once :meth:`RequestMeters.add_model` was called for
it: what a client merely asks for is counted under ``other``. And there are at most ``max_series`` meters: then those of
models that are gone make room, and if there are none, new ones share ``other``. Status codes come from the server, at
most :data:`MOST_CODES` for each meter.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator

from deepseek.monitoring.metrics.families import DURATION_BUCKETS
from deepseek.monitoring.metrics.histogram import Histogram
from deepseek.monitoring.metrics.samples import Sample

OTHER = "other"
MOST_CODES = 24
MOST_REASONS = 16

Key = tuple[str, str, str, str]


class RequestMeter:
    """Counts the requests of one protocol, operation, model and version."""

    __slots__ = ("_counts", "_errors", "_owner", "_protocol", "_sum")

    def __init__(self, owner: RequestMeters, protocol: str) -> None:
        self._owner = owner
        self._protocol = protocol
        self._counts = [0] * (len(DURATION_BUCKETS) + 1)
        self._sum = 0.0
        self._errors: dict[str, Histogram] = {}

    def record(self, seconds: float, error: BaseException | None) -> None:
        """Count one request that took ``seconds``; without an error its code is 200."""
        if error is None:
            self._counts[bisect_left(DURATION_BUCKETS, seconds)] += 1
            self._sum += seconds
        else:
            self._failed(seconds, error)

    def _failed(self, seconds: float, error: BaseException) -> None:
        code = self._owner.code_of(error)
        histogram = self._errors.get(code)
        if histogram is None:
            code = code if len(self._errors) < MOST_CODES else OTHER
            histogram = self._errors.setdefault(code, Histogram(DURATION_BUCKETS))
        histogram.observe(seconds)
        if code == "429":
            self._owner.refused(self._protocol, error)

    def histograms(self) -> Iterator[tuple[str, list[int], float]]:
        """Code, counts by bucket and sum of durations, for each code that was seen."""
        if any(self._counts):
            yield "200", list(self._counts), self._sum
        for code, histogram in self._errors.items():
            yield code, list(histogram.counts), histogram.sum


class RequestMeters:
    """Makes meters and keeps them.

    Args:
        status_of: the HTTP status that a client is told for an exception; it must neither raise nor log.
        reason_of: what a request that got 429 had exhausted; by default the exception's name (``queue_full``).
        max_series: most meters at once.
    """

    def __init__(
        self,
        status_of: Callable[[BaseException], int],
        *,
        reason_of: Callable[[BaseException], str] | None = None,
        max_series: int = 1000,
    ) -> None:
        self._status_of = status_of
        self._reason_of = reason_of or exception_reason
        self._max_series = max_series
        self._meters: dict[Key, RequestMeter] = {}
        self._models: set[tuple[str, str]] = set()
        self._refused: dict[tuple[str, str], int] = {}

    def add_model(self, model: str, version: str) -> None:
        """Let a model's name and version be labels."""
        self._models.add((model, version))

    def remove_model(self, model: str, version: str) -> None:
        """A model is gone: its counts stay until their place is needed."""
        self._models.discard((model, version))

    def meter(self, protocol: str, operation: str, model: str, version: str) -> RequestMeter:
        """The meter for these labels; the same one each time."""
        found = self._meters.get((protocol, operation, model, version))
        return found if found is not None else self._new(protocol, operation, model, version)

    def _new(self, protocol: str, operation: str, model: str, version: str) -> RequestMeter:
        key = (protocol, operation, model, version)
        if (model, version) not in self._models:
            key = (protocol, operation, OTHER, OTHER)
        if key not in self._meters and len(self._meters) >= self._max_series and not self._make_room():
            key = (OTHER, OTHER, OTHER, OTHER)  # one meter beyond the limit, which catches everything else
        found = self._meters.get(key)
        if found is None:
            found = self._meters[key] = RequestMeter(self, key[0])
        return found

    def _make_room(self) -> bool:
        gone = [key for key in self._meters if key[2] != OTHER and key[2:] not in self._models]
        for key in gone:
            del self._meters[key]
        return bool(gone)

    def code_of(self, error: BaseException) -> str:
        """The ``code`` label of an exception."""
        return str(self._status_of(error))

    def refused(self, protocol: str, error: BaseException) -> None:
        """Count a refusal by its reason."""
        key = (protocol, self._reason_of(error))
        if key not in self._refused and len(self._refused) >= MOST_REASONS:
            key = (OTHER, OTHER)
        self._refused[key] = self._refused.get(key, 0) + 1

    def samples(self) -> Iterator[Sample]:
        """``deepseek_requests``, ``deepseek_request_duration_seconds`` and ``deepseek_requests_refused``."""
        for key, meter in self._meters.items():
            for code, counts, seconds in meter.histograms():
                labels = (*key, code)
                yield Sample("deepseek_requests", labels, sum(counts))
                yield Sample("deepseek_request_duration_seconds", labels, [counts, seconds])
        for refusal, count in self._refused.items():
            yield Sample("deepseek_requests_refused", refusal, count)


def exception_reason(error: BaseException) -> str:
    """An exception's name as a label: ``QueueFullError`` is ``queue_full``."""
    name = type(error).__name__.removesuffix("Error").removesuffix("Exception")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() or OTHER
