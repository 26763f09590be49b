"""Wall time and peak memory of a step of work, as the reports show them, and memory that can be given back."""

from __future__ import annotations

import ctypes
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
TRIM_BYTES = 64 << 20


@dataclass
class Step:
    """One measured step: seconds of wall time, peak resident memory in bytes while it ran, and a note."""

    name: str
    seconds: float = 0.0
    peak_bytes: int = 0
    note: str = ""


@dataclass
class Steps:
    """The steps of a run, in order."""

    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Measure the block as the step ``name``."""
        step = Step(name)
        self.steps.append(step)
        reset_peak_memory()
        started = time.monotonic()
        try:
            yield step
        finally:
            step.seconds = time.monotonic() - started
            step.peak_bytes = peak_memory()

    @property
    def seconds(self) -> float:
        """Wall time of all steps together."""
        return sum(s.seconds for s in self.steps)


def reset_peak_memory() -> None:
    """Start a new peak (Linux only; elsewhere the peak is that of the whole process so far)."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return  # a container may forbid it, and other systems lack it; the peak is then an upper bound


def peak_memory() -> int:
    """Peak resident memory in bytes since :func:`reset_peak_memory`."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def trim_heap() -> None:
    """Give free pieces of the C library's heap back to the system (glibc; other systems are left alone)."""
    if (libc := glibc()) is not None:
        libc.malloc_trim(0)


class Holes:
    """Gives the heap's holes back to the system after every ``TRIM_BYTES`` that went through."""

    def __init__(self) -> None:
        self._passed = 0

    def passed(self, size: int) -> None:
        """Count bytes that were read or computed and handed on."""
        self._passed += size
        if self._passed >= TRIM_BYTES:
            self._passed = 0
            trim_heap()


@cache
def glibc() -> Any:
    """The C library, if it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
