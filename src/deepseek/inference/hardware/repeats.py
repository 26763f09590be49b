"""How long one call takes at best: warmed up, repeated, the best of medians."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable

from deepseek.inference.hardware.devices import Clock

GROUPS = 3
SAMPLES = 3
"""Samples of a group, at the least."""
SAMPLE_SECONDS = 0.005
"""Calls that take less are timed several at once, so that neither the clock's step nor a launch counts."""
LEAST_CALLS = 2 + SAMPLES
"""Calls that :func:`best_seconds` makes however slow they are."""


def best_seconds(clock: Clock, work: Callable[[], object], seconds: float) -> float:
    """Seconds of one call of ``work``, in about ``seconds``.

    The calls before the first sample warm up caches, allocators and clocks. The samples are cut into up to
    :data:`GROUPS` groups in the order in which they were taken, and the least of the groups' medians is returned: a
    median, because a single sample may be a slip of the clock, and the least, because another program that disturbs a
    part of the measurement must not lower what the device can do.
    """
    ends = time.monotonic() + seconds
    clock(work, 1)
    # a clock that cannot tell two moments apart returns 0
    times = math.ceil(SAMPLE_SECONDS / max(clock(work, 1), 1e-7))
    samples: list[float] = []
    while len(samples) < SAMPLES or time.monotonic() < ends:
        samples.append(clock(work, times) / times)
    groups = min(GROUPS, len(samples) // SAMPLES)
    cuts = [len(samples) * number // groups for number in range(groups + 1)]
    best = min(statistics.median(samples[begin:end]) for begin, end in itertools.pairwise(cuts))
    return max(best, 1e-9)
