"""Unix time that passes evenly: the wall clock as it was when the process began, and the monotonic clock since.

Ages and windows are measured with it, so that a wall clock that is set forth does not end them, and one that is set
back does not make them last for hours. A wall clock that was wrong at the start is followed after a restart only.
"""

from __future__ import annotations

import time

_BEGAN = time.time() - time.monotonic()


def now() -> float:
    """Seconds since 1970, never backwards."""
    return _BEGAN + time.monotonic()
