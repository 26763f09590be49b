"""What a load generator found, whichever it was, and how a contestant's rounds become one row."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness import StepFailed

TOLERANCE = 0.001
"""Share of failed requests above which there is no rate to speak of."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """One run of a load: answered and failed requests, and the latency that clients saw.

    Attributes:
        bytes_each: bytes of an answer, as this generator counts them; the same in every run with the same request.
        cpu_us: processor time that the server used for a request, in microseconds; the machine's other work hardly
            moves it.
    """

    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    bytes_each: float = 0.0
    cpu_us: float = 0.0

    @property
    def rate(self) -> float:
        """Answered requests a second."""
        return self.requests / self.seconds

    def require_sound(self, what: str) -> None:
        """Raise :class:`StepFailed` when nothing, or too little, was answered."""
        if self.requests == 0 or self.errors > TOLERANCE * (self.requests + self.errors):
            raise StepFailed(f"{what}: {self.errors} of {self.requests + self.errors} requests failed")


def together(loads: Sequence[Load]) -> Load:
    """Loads that ran at the same time as one: rates add up, the latencies are those of the slowest."""
    seconds = max(load.seconds for load in loads)
    return Load(
        requests=round(sum(load.rate for load in loads) * seconds),
        errors=sum(load.errors for load in loads),
        seconds=seconds,
        p50_ms=max(load.p50_ms for load in loads),
        p99_ms=max(load.p99_ms for load in loads),
    )


@dataclass(frozen=True)
class Row:
    """The rounds of one contestant under one load."""

    loads: tuple[Load, ...]

    @property
    def rate(self) -> float:
        """Median of the rounds, in requests a second."""
        return statistics.median(load.rate for load in self.loads)

    @property
    def p50_ms(self) -> float:
        """Median of the rounds' medians."""
        return statistics.median(load.p50_ms for load in self.loads)

    @property
    def p99_ms(self) -> float:
        """Median of the rounds' 99th percentiles."""
        return statistics.median(load.p99_ms for load in self.loads)

    @property
    def cpu_us(self) -> float:
        """Median of the rounds' processor time a request."""
        return statistics.median(load.cpu_us for load in self.loads)

    @property
    def errors(self) -> int:
        """Failed requests of all rounds."""
        return sum(load.errors for load in self.loads)

    def __str__(self) -> str:
        rates = [load.rate for load in self.loads]
        spread = f" ({min(rates):,.0f} to {max(rates):,.0f})" if len(rates) > 1 else ""
        failed = f", {self.errors} failed" if self.errors else ""
        latency = f"p50 {self.p50_ms:.2f} ms, p99 {self.p99_ms:.2f} ms"
        return f"{self.rate:,.0f}/s{spread}, {latency}, {self.cpu_us:.0f} us of the server's CPU each{failed}"
