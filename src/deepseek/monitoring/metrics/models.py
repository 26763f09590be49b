"""Meters of models: what waits, what runs, how much at once, and how many rows and tokens went through.

A :class:`ModelMeter` belongs to one loaded model; its batcher and the routes that stream tell it what happens, on the
event loop. What can be read at any time (queue length, readiness) is asked for when somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from deepseek.monitoring.metrics.families import DURATION_BUCKETS, FIRST_TOKEN_BUCKETS, PER_TOKEN_BUCKETS, ROW_BUCKETS
from deepseek.monitoring.metrics.histogram import Histogram
from deepseek.monitoring.metrics.samples import Sample


class ModelState(NamedTuple):
    """What a loaded model says of itself when asked."""

    ready: bool
    queued_rows: int = 0
    queue_limit: int = 0
    """Most rows that may wait; 0 when there is no limit to tell."""


class ModelMeter:
    """Counts of one loaded model.

    ``waited`` and ``ran`` are bound to the histograms' own methods: a call less on the way of each request.
    """

    __slots__ = (
        "_batch_rows", "_execution", "_first_token", "_labels", "_per_token", "_queue_wait", "_state", "first_token",
        "input_tokens", "output_tokens", "per_output_token", "platform", "rows", "task", "waited",
    )  # fmt: skip

    def __init__(self, model: str, version: str, task: str, platform: str, state: Callable[[], ModelState]) -> None:
        self._labels = (model, version)
        self.task, self.platform = task, platform
        self._state = state
        self.rows = self.input_tokens = self.output_tokens = 0
        self._queue_wait = Histogram(DURATION_BUCKETS)
        self._batch_rows = Histogram(ROW_BUCKETS)
        self._execution = Histogram(DURATION_BUCKETS)
        self._first_token = Histogram(FIRST_TOKEN_BUCKETS)
        self._per_token = Histogram(PER_TOKEN_BUCKETS)
        self.waited: Callable[[float], None] = self._queue_wait.observe
        """Rows of one request waited this many seconds for their batch."""
        self.first_token: Callable[[float], None] = self._first_token.observe
        """Seconds from the request's headers to its first token."""
        self.per_output_token: Callable[[float], None] = self._per_token.observe
        """Mean seconds between a request's tokens after the first."""

    def ran(self, rows: int, seconds: float) -> None:
        """One batch of ``rows`` kept the model's thread busy for ``seconds``."""
        self._batch_rows.observe(rows)
        self._execution.observe(seconds)

    def used(self, rows: int, input_tokens: int = 0, output_tokens: int = 0) -> None:
        """One request was answered."""
        self.rows += rows
        if input_tokens or output_tokens:
            self.input_tokens += input_tokens
            self.output_tokens += output_tokens

    @property
    def state(self) -> ModelState:
        """Readiness and queue, now."""
        return self._state()

    def samples(self) -> Iterator[Sample]:
        """All metrics with the labels ``model`` and ``version``."""
        labels, state = self._labels, self._state()
        yield Sample("deepseek_model", (*labels, self.task, self.platform), 1)
        yield Sample("deepseek_model_ready", labels, int(state.ready))
        yield Sample("deepseek_queue_rows", labels, state.queued_rows)
        if state.queue_limit:
            yield Sample("deepseek_queue_limit_rows", labels, state.queue_limit)
        yield Sample("deepseek_rows", labels, self.rows)
        if self.input_tokens or self.output_tokens:
            yield Sample("deepseek_input_tokens", labels, self.input_tokens)
            yield Sample("deepseek_output_tokens", labels, self.output_tokens)
        for name, histogram in (
            ("deepseek_queue_wait_seconds", self._queue_wait),
            ("deepseek_batch_rows", self._batch_rows),
            ("deepseek_model_execution_seconds", self._execution),
            ("deepseek_time_to_first_token_seconds", self._first_token),
            ("deepseek_time_per_output_token_seconds", self._per_token),
        ):
            if any(histogram.counts):
                yield Sample(name, labels, [list(histogram.counts), histogram.sum])
