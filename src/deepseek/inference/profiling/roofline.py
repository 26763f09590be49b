"""Which limit of the hardware binds, and how near to it a pass came.

S. Williams, A. Waterman, D. Patterson, "Roofline: An Insightful Visual Performance Model for Multicore Architectures",
CACM 52(4), 2009: attainable FLOP/s = min(peak FLOP/s, FLOPs per byte x bytes/s). Peaks are measured on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from deepseek.inference.profiling.units import duration, number, rate, speed

if TYPE_CHECKING:
    from deepseek.inference.hardware import HardwarePeaks
    from deepseek.inference.profiling.work import Work

READ: Literal["read"] = "read"
"""The bandwidth that bounds a pass: nearly all that it moves are weights and cached states that it reads."""


@dataclass(frozen=True)
class Limit:
    """The roof above one pass.

    Attributes:
        kind: what binds: ``"compute"`` or ``"memory"``.
        precision: the precision whose fastest product is the roof.
        peak: operations a second of that product.
        bandwidth: bytes a second read from memory.
        seconds: the least that the pass can take.
        cache_bytes: of the last cache; what fits into it may come faster than memory delivers.
    """

    kind: Literal["compute", "memory"]
    precision: str
    peak: float
    bandwidth: float
    seconds: float
    cache_bytes: int

    @property
    def ridge(self) -> float:
        """FLOPs per byte from which on compute binds."""
        return self.peak / self.bandwidth


def limit_of(work: Work, peaks: HardwarePeaks, precision: str) -> Limit | None:
    """The limit that binds ``work``; ``None`` where the device has no measured product of that precision."""
    product = peaks.products.get(precision)
    if product is None:
        return None
    peak, bandwidth = product.tflops * 1e12, peaks.bandwidth[READ].gb_per_second * 1e9
    compute, memory = work.flops / peak, work.bytes / bandwidth
    return Limit(
        kind="compute" if compute >= memory else "memory",
        precision=precision,
        peak=peak,
        bandwidth=bandwidth,
        seconds=max(compute, memory),
        cache_bytes=peaks.cache_bytes,
    )


def reason(work: Work, limit: Limit, share: float, products: float | None) -> str:
    """Why that limit binds and what keeps the pass from it, in words.

    Args:
        share: of the limit that was achieved.
        products: share of the time that operators spent in matrix products, if that was measured.
    """
    side = "above" if limit.kind == "compute" else "below"
    said = f"{number(work.intensity)} FLOPs a byte, {side} the {number(limit.ridge)} from which on arithmetic binds"
    if limit.kind == "compute":
        said += f": {number(work.flops / 1e9)} GFLOP at {rate(limit.peak)} ({limit.precision})"
    else:
        said += f": {number(work.bytes / 1e6)} MB at {speed(limit.bandwidth)}"
    said += f", {duration(limit.seconds)} at least"
    if limit.kind == "memory":
        cache = work.cache_read_bytes + work.cache_written_bytes
        if cache:
            said += f" ({cache / work.bytes:.0%} of them key-value cache)"
        if work.bytes < limit.cache_bytes:
            said += f"; they fit the last cache ({number(limit.cache_bytes / 1e6)} MB), which may deliver them faster"
    if products is not None and share < 1:
        said += f"; {products:.0%} of the profiled time is in matrix products"
    return said
