"""The embedded engine: a pool of threads in this process.

Threads, not processes: the pieces spend their time in Arrow, Lance, DuckDB and NumPy, which release the interpreter's
lock, and nothing has to be copied between processes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from deepseek.data.engines.engine import Engine, Item, Result, call
from deepseek.errors import ConfigError


class LocalEngine(Engine):
    """Threads of this process; as many as the process may use cores unless ``workers`` says otherwise."""

    name = "local"

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise ConfigError(f"workers: expected at least 1, received {workers}")
        self._workers = workers or _cores()

    @property
    def workers(self) -> int:
        """How many threads there are."""
        return self._workers

    def _run(self, function: Callable[..., Result], items: Iterable[Item], handle: Any) -> Iterator[Result]:
        if self.workers == 1:
            for item in items:
                yield call(function, item, handle)
            return
        pending: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="deepseek-data") as pool:
            try:
                for item in items:
                    pending.append(pool.submit(call, function, item, handle))
                    if len(pending) >= 2 * self.workers:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()  # a piece that runs already is waited for: a thread cannot be stopped


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
