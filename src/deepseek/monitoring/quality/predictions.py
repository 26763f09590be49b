"""What was answered to which request, for as long as true answers may still come in.

Kept for each row: the answer's label or number, its score and a time. No input, no request body, nothing of the caller.
The newest ``capacity`` answers are in memory. Older ones go to a SQLite file if there is one, else they are forgotten;
after ``keep_seconds`` they are forgotten everywhere. Of forgotten and of joined ones the hash of the key is remembered,
up to ``capacity`` of them, so that a label that comes too late is told from one whose request was never here.

What the file does not take (a full disk) waits in memory until it does, up to :data:`MOST_WAITING` answers; of more
than that, and of what still waits at the end, the oldest are lost, which is logged and counted.

:meth:`remember` is called on the event loop and never waits. Everything else may run in another thread at the same
time: each touches the ordered dictionary by single operations that the interpreter does not interrupt.
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from typing import Literal

from deepseek.monitoring.quality.answers import Answer, Kept
from deepseek.monitoring.quality.spill import SpillFile

logger = logging.getLogger("deepseek.monitoring")

Fate = Literal["late", "unknown", "duplicate"]
MOST_WAITING = 65_536


class PredictionStore:
    """Answers by request and row, bounded in number and age."""

    def __init__(self, *, capacity: int, keep_seconds: float, spill: SpillFile | None = None) -> None:
        self._capacity = capacity
        self._keep_seconds = keep_seconds
        self._spill = spill
        self._recent: OrderedDict[str, Kept] = OrderedDict()
        self._evicted: OrderedDict[str, Kept] = OrderedDict()
        """On their way to the file, or into oblivion, oldest first."""
        self._past: OrderedDict[int, Fate] = OrderedDict()
        self.lost = 0
        """Answers that neither memory nor the file had room for."""
        self._told = 0

    def __len__(self) -> int:
        return len(self._recent)

    def remember(self, key: str, answer: Kept) -> None:
        """Keep an answer; a key that was used before is replaced."""
        self._recent[key] = answer
        if len(self._recent) > self._capacity:
            oldest, evicted = self._recent.popitem(last=False)
            self._evicted[oldest] = evicted
            if len(self._evicted) > MOST_WAITING:
                self._lose_oldest()

    def join(self, key: str, now: float) -> Answer | Fate:
        """Take the answer to a request out of the store, or say why it is not there."""
        found = self._recent.pop(key, None)
        if found is None and self._spill is not None:
            self.tend(now)
            found = self._evicted.pop(key, None) or self._spill.pop(key)  # it may still be on its way to the file
        if found is None:
            return self._past.get(hash(key), "unknown")
        answer = Answer(*found)
        late = answer.at < now - self._keep_seconds
        self._note(key, "late" if late else "duplicate")
        return "late" if late else answer

    def tend(self, now: float) -> None:
        """Forget what is too old, and write to the file what memory had no room for."""
        oldest = now - self._keep_seconds
        while self._recent:
            try:
                key, answer = self._recent.popitem(last=False)
            except KeyError:  # joined meanwhile
                break
            if answer[2] >= oldest:
                self._recent[key] = answer
                self._recent.move_to_end(key, last=False)
                break
            self._note(key, "late")
        self._write_evicted()
        if self._spill is not None:
            self._spill.forget_before(oldest)

    def _write_evicted(self) -> None:
        batch = self._take_evicted()
        if self._spill is None:
            for key, _ in batch:
                self._note(key, "late")
        elif batch and not self._spill.write(batch):
            self._put_back(batch)
        if self.lost > self._told:
            logger.error("%d answers that labels may still come for are lost: their file takes no more", self.lost)
            self._told = self.lost

    def _take_evicted(self) -> list[tuple[str, Kept]]:
        batch: list[tuple[str, Kept]] = []
        with contextlib.suppress(KeyError):  # the event loop may take the last ones
            for _ in range(len(self._evicted)):
                batch.append(self._evicted.popitem(last=False))  # noqa: PERF401  what was taken before must not go
        return batch

    def _put_back(self, batch: list[tuple[str, Kept]]) -> None:
        for key, answer in reversed(batch):
            if key not in self._evicted:  # a key that was used again has a newer answer
                self._evicted[key] = answer
                self._evicted.move_to_end(key, last=False)
        for _ in range(len(self._evicted) - MOST_WAITING):
            self._lose_oldest()

    def _lose_oldest(self) -> None:
        with contextlib.suppress(KeyError):  # the other thread has just taken all of them
            key, _ = self._evicted.popitem(last=False)
            self._note(key, "late")
            self.lost += self._spill is not None

    def _note(self, key: str, fate: Fate) -> None:
        self._past[hash(key)] = fate
        while len(self._past) > self._capacity:
            self._past.popitem(last=False)

    def close(self) -> None:
        """Write everything to the file, if there is one, so that labels find it after a restart."""
        if self._spill is not None:
            waiting = [*self._take_evicted(), *self._recent.items()]
            self._recent.clear()
            if waiting and not self._spill.write(waiting):
                self.lost += len(waiting)
            self._write_evicted()  # nothing is left; it tells what was lost
            self._spill.close()
