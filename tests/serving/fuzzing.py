"""What every fuzzer of the whole server watches: others are answered meanwhile, memory stays, nothing of ours fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fault_server import Process

MIB = 1024**2


def log_has_no_fault(log: Path) -> None:
    """Nothing of a server's own went wrong: no traceback, no incident, no panic of a library in Rust or C."""
    text = log.read_text(errors="replace")
    for sign in ("Traceback", "incident", "panicked", "Assertion", "Fatal"):
        assert sign not in text, text[max(text.find(sign) - 2000, 0) :][:4000]


class Watch:
    """A well-behaved client beside the fuzzer, and the server's memory over time."""

    def __init__(self, process: Process, ask: Callable[[], bool]) -> None:
        self._process, self._ask = process, ask
        self._ended = threading.Event()
        self.answered = self.failed = 0
        self.levels: list[int] = []

    def run(self) -> None:
        while not self._ended.is_set():
            if self._ask():
                self.answered += 1
            else:
                self.failed += 1
            self.levels.append(self._process.memory())
            self._ended.wait(0.02)

    def end(self) -> None:
        self._ended.set()

    @property
    def growth(self) -> int:
        """Bytes by which memory grew after the first quarter, when everything has been used once."""
        early = self.levels[: max(len(self.levels) // 4, 1)]
        return max(self.levels[-len(early) :]) - max(early)


@contextmanager
def watched(process: Process, ask: Callable[[], bool], *, most_growth: int = 32 * MIB) -> Iterator[Watch]:
    """Watch while the block runs; ``ask`` sends a good request and says whether its answer is right."""
    watch = Watch(process, ask)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(watch.run)
        try:
            yield watch
        finally:
            watch.end()
        running.result()
    assert process.alive
    assert watch.answered > 0
    assert watch.failed == 0
    assert watch.growth < most_growth, watch.levels
    print(  # with -s, for those who measure
        f"{time.monotonic() - began:.0f} s; others answered {watch.answered} times; memory "
        f"{watch.levels[0] / MIB:.0f} MiB at first, {watch.levels[-1] / MIB:.0f} at the end, "
        f"{max(watch.levels) / MIB:.0f} at most"
    )
