"""Keeps glibc's heap small while tables are written.

glibc serves large buffers from its heap once it has seen some freed, up to 32 MB each; the buffers of a writer, freed
by many threads in another order than they came, then leave holes: writing 760 MB of small rows kept up to 600 MB.
Served by ``mmap`` instead, each goes back to the system at once, and the same write keeps 40 MB. That costs page
faults, which training and serving should not pay; so it holds only while something is written, and the usual upper
limits of glibc's own adjustment are set afterwards. Scans, which may run beside training, give holes back from time to
time instead. Other allocators and systems are left alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from deepseek.resources import glibc

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's parameters
_SMALL = 256 << 10
_USUAL_MMAP, _USUAL_TRIM = 32 << 20, 64 << 20
_lock = threading.Lock()
_writers = 0


@contextmanager
def small_heap() -> Iterator[None]:
    """Large buffers go back to the system at once, until the last writer of this process has left."""
    global _writers
    with _lock:
        _writers += 1
        if _writers == 1:
            _set(_SMALL, _SMALL)
    try:
        yield
    finally:
        with _lock:
            _writers -= 1
            if _writers == 0:
                _set(_USUAL_MMAP, _USUAL_TRIM)


def _set(mmap_threshold: int, trim_threshold: int) -> None:
    if (libc := glibc()) is not None:
        libc.mallopt(_MMAP_THRESHOLD, mmap_threshold)
        libc.mallopt(_TRIM_THRESHOLD, trim_threshold)
