"""Times of single passes: warmed up, repeated for some seconds, each one kept."""

from __future__ import annotations

import time
from collections.abc import Callable

from deepseek.inference.hardware.devices import Clock

WARM_UP = 2
"""Passes before the first sample: they fill caches and pick kernels."""
LEAST, MOST = 3, 40
SECONDS = 3.0
"""No further sample is begun after that, once there are :data:`LEAST`."""


def sampled(clock: Clock, run: Callable[[], object]) -> tuple[float, ...]:
    """Seconds of single calls of ``run``."""
    for _ in range(WARM_UP):
        clock(run, 1)
    ends = time.monotonic() + SECONDS
    found: list[float] = []
    while len(found) < LEAST or (len(found) < MOST and time.monotonic() < ends):
        found.append(max(clock(run, 1), 1e-9))  # a clock that cannot tell two moments apart returns 0
    return tuple(found)
