"""The measured side of a benchmark: a process of its own that runs named steps on request and times them.

Ours and every peer run in such a process, so that memory is measured apart, and a peer can live in an environment of
its own. Only the standard library is imported here, because peers' environments hold nothing of ours. The protocol is
one line of JSON a request on standard input and one a reply; whatever a library prints goes to the log instead.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


class Clock:
    """Times the part of a step that counts: ``with clock: ...``; several blocks add up."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> Clock:
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started


def serve(*steps: Callable[..., Any]) -> None:
    """Answer requests until standard input closes.

    A request is ``{"step": name, ...arguments}``. Each step takes a :class:`Clock` first and may return plain values.
    The reply holds ``seconds`` (by the clock), ``peak_mb`` (highest resident memory during the step) and ``value``.
    """
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    known = {step.__name__: step for step in steps}
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("step")
        clock = Clock()
        _forget_peak()
        try:
            value = known[name](clock, **request)
        except BaseException as error:  # noqa: BLE001  # a peer may fail in any way, and that is a result too
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        else:
            reply = {"seconds": clock.seconds, "value": value}
        reply["peak_mb"] = peak_mb()
        replies.write(json.dumps(reply) + "\n")


def peak_mb() -> float:
    """The highest resident memory since the step began, in MB (10^6 bytes)."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _forget_peak() -> None:
    """Give freed memory back and reset the high-water mark to what is resident now (Linux; elsewhere it stays)."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
