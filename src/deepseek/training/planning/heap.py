"""What the C library's heap holds on to: a model of glibc's allocator.

A CPU process is killed for its resident memory, not for the bytes of its tensors. glibc serves a tensor from the best
fitting free piece of its heap, from the heap's end, or, from a threshold on, from a mapping of its own that goes back
to the system when the tensor dies. The threshold starts at 128 KiB and rises to the size of every mapping that is
freed, up to 32 MiB; from then on all smaller tensors share the heap, which only shrinks at its end. Free pieces
between live ones stay resident: with batches of many shapes that is a third of the tensors' peak, and it is the reason
why a sum of live tensors does not predict the memory of a CPU process.

Covered: ``_int_malloc``'s best fit with splitting and coalescing, ``sysmalloc``'s mapping, the dynamic threshold
(``M_MMAP_THRESHOLD``), trimming (``M_TRIM_THRESHOLD``). Left out: bins for small pieces (everything that is not a
tensor counts with the process), arenas of other threads (a CPU's forward and backward pass run in one thread).

Source: malloc/malloc.c of glibc 2.36 (``_int_memalign``, ``_int_malloc``, ``sysmalloc``, ``_int_free``).
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort

PAGE = 4096
THRESHOLD = 128 * 1024
THRESHOLD_LIMIT = 32 * 1024 * 1024
PINNED = 0.125
_HEADER = 16
_SLIVER = 64
_SLACK = _SLIVER + 32  # what an aligned request asks for beyond its size: alignment and a smallest piece


class Heap:
    """Resident bytes of a sequence of allocations; use an instance as ``LiveMemory``'s ``listen``.

    Attributes:
        resident: bytes that the system counts as this process's now.
        peak: its largest value so far.
    """

    def __init__(self, *, pinned: float = PINNED) -> None:
        self.threshold = self.trim = THRESHOLD
        self.pinned = pinned
        self._random = random.Random(0)
        self.resident = 0
        self.peak = 0
        self._mapped: dict[int, int] = {}
        self._used: dict[int, tuple[int, int]] = {}
        self._end = 0  # of what is in use: above it lies the top piece
        self._touched = 0  # the heap's resident extent
        self._by_size: list[tuple[int, int]] = []
        self._by_start: dict[int, int] = {}
        self._by_stop: dict[int, int] = {}

    def __call__(self, key: int, size: int) -> None:
        if size:
            self.allocate(key, size)
        else:
            self.free(key)

    def allocate(self, key: int, size: int) -> None:
        """A tensor of ``size`` bytes appears under ``key``."""
        mapped = (size + _HEADER + PAGE - 1) // PAGE * PAGE
        size = (size + 15) // 16 * 16 + _HEADER + _SLACK
        kept = size - (_SLIVER if self._random.random() < self.pinned else 0)
        place = bisect_left(self._by_size, (size, 0))
        if place < len(self._by_size):
            length, start = self._by_size[place]
            self._forget(start, length)
            if length > size:
                self._remember(start + size, length - size)
            self._used[key] = start + size - kept, kept
        elif size >= self.threshold and self._end + size > self._touched:
            self._mapped[key] = mapped
            self.resident += mapped
        else:
            self._used[key] = self._end + size - kept, kept
            self._end += size
            if self._end > self._touched:
                self.resident += self._end - self._touched
                self._touched = self._end
        self.peak = max(self.peak, self.resident)

    def free(self, key: int) -> None:
        """The tensor under ``key`` dies."""
        mapped = self._mapped.pop(key, None)
        if mapped is not None:
            self.resident -= mapped
            if self.threshold < mapped <= THRESHOLD_LIMIT:
                self.threshold = mapped
                self.trim = 2 * mapped
            return
        if key not in self._used:
            return
        start, length = self._used.pop(key)
        before = self._by_stop.get(start)
        if before is not None:
            self._forget(before, start - before)
            start, length = before, length + start - before
        after = self._by_start.get(start + length)
        if after is not None:
            self._forget(start + length, after)
            length += after
        if start + length < self._end:
            self._remember(start, length)
            return
        self._end = start
        if self._touched - self._end >= self.trim:
            self.resident -= self._touched - self._end
            self._touched = self._end

    def _remember(self, start: int, length: int) -> None:
        insort(self._by_size, (length, start))
        self._by_start[start] = length
        self._by_stop[start + length] = start

    def _forget(self, start: int, length: int) -> None:
        del self._by_size[bisect_left(self._by_size, (length, start))]
        del self._by_start[start]
        del self._by_stop[start + length]
