"""What was answered to which request, for as long as true answers may still come in.

Kept for each row: the answer's label or number, its score and a time. No input, no request body, nothing of the caller.
The newest ``capacity`` answers are in memory. Older ones go to a SQLite file if there is one, else they are forgotten;
after ``keep_seconds`` they are forgotten everywhere. Of forgotten and of joined ones the hash of the key is remembered,
up to ``capacity`` of them, so that a label that comes too late is told from one whose request was never here.

:meth:`remember` is called on the event loop and never waits. Everything else may run in another thread at the same
time: each touches the ordered dictionary by single operations that the interpreter does not interrupt.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Literal

from deepseek.monitoring.quality.answers import Answer, Kept
from deepseek.monitoring.quality.spill import SpillFile

Fate = Literal["late", "unknown", "duplicate"]
_PENDING = 65_536


class PredictionStore:
    """Answers by request and row, bounded in number and age."""

    def __init__(self, *, capacity: int, keep_seconds: float, spill: SpillFile | None = None) -> None:
        self._capacity = capacity
        self._keep_seconds = keep_seconds
        self._spill = spill
        self._recent: OrderedDict[str, Kept] = OrderedDict()
        self._evicted: deque[tuple[str, Kept]] = deque(maxlen=_PENDING)
        self._past: OrderedDict[int, Fate] = OrderedDict()

    def __len__(self) -> int:
        return len(self._recent)

    def remember(self, key: str, answer: Kept) -> None:
        """Keep an answer; a key that was used before is replaced."""
        self._recent[key] = answer
        if len(self._recent) > self._capacity:
            self._evicted.append(self._recent.popitem(last=False))

    def join(self, key: str, now: float) -> Answer | Fate:
        """Take the answer to a request out of the store, or say why it is not there."""
        found = self._recent.pop(key, None)
        if found is None and self._spill is not None:
            self.tend(now)  # it may be on its way to the file
            found = self._spill.pop(key)
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
        batch = [self._evicted.popleft() for _ in range(len(self._evicted))]
        if self._spill is None:
            for key, _ in batch:
                self._note(key, "late")
        elif batch:
            self._spill.write(batch)

    def _note(self, key: str, fate: Fate) -> None:
        self._past[hash(key)] = fate
        while len(self._past) > self._capacity:
            self._past.popitem(last=False)

    def close(self) -> None:
        """Write everything to the file, if there is one, so that labels find it after a restart."""
        if self._spill is not None:
            self._evicted.extend(self._recent.items())
            self._recent.clear()
            self._write_evicted()
            self._spill.close()
