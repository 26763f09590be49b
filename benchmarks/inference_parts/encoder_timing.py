"""What ours and the peers share: reading a cell's batches, and timing passes over them.

Imported in the peers' environment too, so it needs NumPy alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

THREADS = 2
NAMES = ("input_ids", "attention_mask", "token_type_ids")


def batches_of(file: str) -> list[dict[str, Any]]:
    """The batches of a cell's file as arrays of int64, (rows, tokens) each."""
    import numpy as np

    with np.load(file) as arrays:
        count = len(arrays.files) // len(NAMES)
        return [{name: arrays[f"{number}.{name}"] for name in NAMES} for number in range(count)]


def timed(work: Callable[[], Any], times: int) -> list[float]:
    """Seconds of each of several calls."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds
