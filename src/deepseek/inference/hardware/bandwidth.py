"""Bytes a second through a device's memory: reading, copying and a triad, on arrays that no cache holds.

Method: J. D. McCalpin, "Memory Bandwidth and Machine Balance in Current High Performance Computers" (STREAM), 1995:
arrays of at least four times the last cache, and only the bytes that the operation names are counted. A processor that
reads a line before it writes it moves more, so that copying looks slower than reading on some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from deepseek.errors import ConfigError
from deepseek.inference.hardware.devices import clock_of
from deepseek.inference.hardware.hardware_peaks import Bandwidth
from deepseek.inference.hardware.repeats import best_seconds
from deepseek.memory import free_memory

if TYPE_CHECKING:
    import torch

Kind = Literal["read", "copy", "triad"]
KINDS: tuple[Kind, ...] = ("read", "copy", "triad")
CACHES = 4
"""Last-level caches that each array is as large as."""
LEAST_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30, "mps": 512 << 20}
"""Where the cache is small or not told. A GPU needs more, or the start of a call would count."""
MOST_BYTES = 4 << 30
"""A dot product counts its numbers in 32 bits."""
NEEDED_BYTES = 16 << 20


class Arrays:
    """Three arrays of float32 on a device, and the operations that go through them.

    Raises:
        ConfigError: there is too little memory for arrays that would say anything.
    """

    def __init__(self, device: torch.device, cache_bytes: int) -> None:
        import torch

        room = free_memory(str(device)) // 6  # three arrays in half of what is free
        self.bytes = min(max(CACHES * cache_bytes, LEAST_BYTES[device.type]), MOST_BYTES, room) // 4096 * 4096
        if self.bytes < NEEDED_BYTES:
            raise ConfigError(
                f"{device} has {room * 6 / 1e6:,.0f} MB of free memory, and measuring its bandwidth takes at least "
                f"{NEEDED_BYTES * 6 / 1e6:,.0f} MB; end other programs, or raise the container's limit"
            )
        self._clock = clock_of(device)
        # filled, because pages that were never written may all be one and the same page of zeros
        self._a, self._b, self._c = (
            torch.full((self.bytes // 4,), value, dtype=torch.float32, device=device) for value in (0.0, 1.0, 2.0)
        )

    def fastest(self, kind: Kind, seconds: float) -> Bandwidth:
        """The bandwidth of ``kind``, measured in about ``seconds``."""
        import torch

        ways = self._ways(kind)
        found = []
        with torch.inference_mode():
            for operation, arrays, work in ways:
                took = best_seconds(self._clock, work, seconds / len(ways))
                found.append((arrays * self.bytes / took / 1e9, operation))
        rate, operation = max(found)
        return Bandwidth(gb_per_second=rate, operation=operation, array_bytes=self.bytes)

    def _ways(self, kind: Kind) -> list[tuple[str, int, Callable[[], object]]]:
        """(name, arrays that it goes through, call)."""
        import torch

        a, b, c = self._a, self._b, self._c
        if kind == "copy":
            return [("a = b", 2, lambda: a.copy_(b))]
        if kind == "triad":
            return [("a = b + 3 c", 3, lambda: torch.add(b, c, alpha=3, out=a))]
        # which of the two reads faster depends on the library behind it
        return [("sum of b", 1, lambda: b.sum()), ("dot product of b and c", 2, lambda: torch.dot(b, c))]
