"""A runtime of which only its contract is known (a plugin's): times from outside, and nothing of work or limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from deepseek.inference.hardware.devices import Clock
from deepseek.inference.profiling.passes import (
    Pass,
    Run,
    Shapes,
    Subject,
    forward_passes,
    generation_passes,
    token_ids,
)
from deepseek.inference.recording import Batch
from deepseek.tasks.base import Executable, Task

NEW_TOKENS = 16
"""Tokens that are generated to time one: the time of more of them, less that of one, is the decode's."""


class OtherSubject(Subject):
    """An executable of any runtime; it returns when its outputs are on the CPU, so that a plain clock will do."""

    def __init__(self, loaded: Executable, task: Task, processor: Any, device: str, dtype: str) -> None:
        self._loaded, self._task, self._processor = loaded, task, processor
        self.device, self.dtype, self.sizes = device, dtype, None
        self.clock: Clock = _clock
        self.note = "the runtime does not say what it computes in or where its time goes, so there are times only"

    def passes(self, shapes: Shapes) -> list[Pass]:
        if self._task.head == "causal-lm":
            return generation_passes(shapes, self._prefill, self._decode)
        return forward_passes(self._task, self._processor, shapes, self._forward)

    def _forward(self, batch: Batch) -> Callable[[], Run]:
        return lambda: lambda: self._loaded.forward(batch)

    def _prefill(self, rows: int, tokens: int) -> Run:
        return lambda: self._generated(self._batch(rows, tokens), 1)

    def _decode(self, rows: int, context: int) -> Run:
        batch = self._batch(rows, context)
        return _Difference(
            lambda: self._generated(batch, 1), lambda: self._generated(batch, NEW_TOKENS + 1), NEW_TOKENS
        )

    def _batch(self, rows: int, tokens: int) -> Batch:
        ids = token_ids(self._processor, rows, tokens)
        return {"input_ids": ids, "attention_mask": ids.new_ones(ids.shape)}

    def _generated(self, batch: Batch, count: int) -> object:
        options = {"do_sample": False, "max_new_tokens": count, "min_new_tokens": count}
        return self._loaded.generate(batch, options)


class _Difference:
    """A run that is the difference of two, divided: :func:`_clock` knows it."""

    def __init__(self, short: Run, long: Run, times: int) -> None:
        self.short, self.long, self.times = short, long, times

    def __call__(self) -> object:
        return self.long()


def _clock(work: Run, times: int) -> float:
    if isinstance(work, _Difference):
        short, long = _clock(work.short, times), _clock(work.long, times)
        return max(long - short, 0.0) / work.times
    started = time.perf_counter()
    for _ in range(times):
        work()
    return time.perf_counter() - started
