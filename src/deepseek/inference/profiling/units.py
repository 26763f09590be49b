"""Numbers with units, as a person reads them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in a readable unit."""
    if seconds >= 1:
        return f"{number(seconds)} s"
    return f"{number(seconds * 1e3)} ms" if seconds >= 1e-3 else f"{number(seconds * 1e6)} us"


def rate(flops: float) -> str:
    """Operations a second, in TFLOP/s or GFLOP/s."""
    return f"{number(flops / 1e12)} TFLOP/s" if flops >= 1e12 else f"{number(flops / 1e9)} GFLOP/s"


def speed(bytes_per_second: float) -> str:
    """Bytes a second, in GB/s."""
    return f"{number(bytes_per_second / 1e9)} GB/s"


def number(value: float) -> str:
    """Three digits, and all of a number that has more before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"
